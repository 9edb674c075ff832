-- Streams: one version over several drives. A backup's job may have several attempts at a time, each with a drive, volumes and an
-- archive of its own; stream 0 is the first one, and the only one of all other jobs.
ALTER TABLE plans ADD COLUMN streams integer NOT NULL DEFAULT 1;
ALTER TABLE plans ADD CONSTRAINT plans_streams_check CHECK (streams BETWEEN 1 AND 8);

ALTER TABLE attempts ADD COLUMN stream integer NOT NULL DEFAULT 0;
DROP INDEX attempts_job;
CREATE UNIQUE INDEX attempts_job ON attempts (job_id, stream) WHERE ended_at IS NULL;
CREATE INDEX attempts_streams ON attempts (job_id, stream);

-- What a running attempt waits for; what a queued job waits for stays with the job.
ALTER TABLE attempts ADD COLUMN waiting_for varchar(400);
UPDATE attempts SET waiting_for = (SELECT j.waiting_for FROM jobs j WHERE j.id = attempts.job_id) WHERE ended_at IS NULL;
UPDATE jobs SET waiting_for = NULL WHERE state = 'running' AND waiting_for IS NOT NULL;
