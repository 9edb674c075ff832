-- What an attempt has on tape is asked for with every look at its job.
CREATE INDEX archives_attempt ON archives (attempt_id);
