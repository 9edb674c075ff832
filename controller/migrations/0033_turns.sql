-- Several drives for one restore. Volumes that a chosen file crosses make one turn, which one stream reads; a restore of before is one.

ALTER TABLE job_volumes ADD COLUMN turn integer NOT NULL DEFAULT 1;
-- The stream that has taken it. It is free again if that attempt was cancelled: then it could not go on.
ALTER TABLE job_volumes ADD COLUMN attempt_id bigint REFERENCES attempts (id);
