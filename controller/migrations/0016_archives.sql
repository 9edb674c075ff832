-- Archives: versions on a line of their own, verified by jobs that their backup begins.

ALTER TABLE lines ADD COLUMN archives boolean NOT NULL DEFAULT false;
ALTER TABLE lines DROP CONSTRAINT lines_plan_id_source_id_key;
CREATE UNIQUE INDEX lines_plan ON lines (plan_id, source_id, archives);

ALTER TABLE plans DROP CONSTRAINT plans_version_kind_check;
ALTER TABLE plans ADD CONSTRAINT plans_version_kind_check
    CHECK (version_kind IN ('full', 'incremental', 'differential', 'mirror', 'archive', 'synthetic-full'));

-- The job that began it by itself.
ALTER TABLE jobs ADD COLUMN cause_job bigint REFERENCES jobs (id);
CREATE INDEX jobs_cause ON jobs (cause_job) WHERE cause_job IS NOT NULL;
