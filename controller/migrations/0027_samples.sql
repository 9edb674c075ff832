-- Verifications of a sample: by what seed it was chosen, which share it is, and for how long it reads.

ALTER TABLE jobs ADD COLUMN sample_seed bigint;
ALTER TABLE jobs ADD COLUMN sample_percent integer;
ALTER TABLE jobs ADD COLUMN time_limit_seconds bigint;
ALTER TABLE jobs ADD CONSTRAINT jobs_sample_check CHECK (sample_seed IS NULL OR kind = 'verify');
ALTER TABLE jobs ADD CONSTRAINT jobs_sample_how_check CHECK ((sample_percent IS NULL OR sample_percent BETWEEN 1 AND 100)
    AND (time_limit_seconds IS NULL OR time_limit_seconds > 0)
    AND (sample_seed IS NULL) = (sample_percent IS NULL AND time_limit_seconds IS NULL));
