-- Dumps: restores whose bytes go through a controller to somebody who waits there.

-- What the bytes are: a tar archive or one file. Until when somebody is known to wait: a job that nobody waits for ends.
ALTER TABLE jobs ADD COLUMN dump_format varchar(8);
ALTER TABLE jobs ADD COLUMN awaited_until timestamptz;
ALTER TABLE jobs ADD CONSTRAINT jobs_dump_check CHECK ((dump_format IS NULL) = (awaited_until IS NULL)
    AND (dump_format IS NULL OR (dump_format IN ('tar', 'file') AND kind = 'restore')));
CREATE INDEX jobs_awaited ON jobs (awaited_until) WHERE ended_at IS NULL AND dump_format IS NOT NULL;
