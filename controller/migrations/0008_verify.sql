-- Verifying: which parts a job reads, and what was found of each when.

CREATE TABLE job_parts (
    job_id          bigint NOT NULL REFERENCES jobs (id),
    part_id         bigint NOT NULL REFERENCES parts (id),
    PRIMARY KEY (job_id, part_id)
);

-- What was wrong with it when it was verified last; nothing if it was whole.
ALTER TABLE parts ADD COLUMN verified_at timestamptz;
ALTER TABLE parts ADD COLUMN damage varchar(400);
ALTER TABLE parts ADD CONSTRAINT parts_damage_check CHECK (damage IS NULL OR verified_at IS NOT NULL);

ALTER TABLE jobs DROP CONSTRAINT jobs_kind_check;
ALTER TABLE jobs ADD CONSTRAINT jobs_kind_check CHECK (kind IN ('backup', 'restore', 'label', 'erase', 'format', 'drive-load',
    'drive-unload', 'drive-rewind', 'drive-clean', 'inventory', 'move', 'import', 'export', 'index', 'verify'));
