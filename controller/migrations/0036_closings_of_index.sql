-- The closing records of an index are looked up for every volume that is free.

CREATE INDEX closings_index ON closings (index_id);
