-- Whether a source agent can restore from a version that is not whole, by what its process said last; NULL if it never said anything.

ALTER TABLE agents ADD COLUMN reads_incomplete boolean;
