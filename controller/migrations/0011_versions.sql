-- Versions that build on others: incremental and differential ones, and those to come.

ALTER TABLE versions DROP CONSTRAINT versions_kind_check;
ALTER TABLE versions ADD CONSTRAINT versions_kind_check
    CHECK (kind IN ('full', 'incremental', 'differential', 'mirror', 'archive', 'synthetic-full'));
-- The version that it was compared with, 0 for none.
ALTER TABLE versions ADD COLUMN parent bigint NOT NULL DEFAULT 0;
-- Since when it is not kept any more. Its rows stay while others need them.
ALTER TABLE versions ADD COLUMN expired_at timestamptz;
-- Rows that it resolved to were forgotten: nothing can build on it.
ALTER TABLE versions ADD COLUMN pages_gone boolean NOT NULL DEFAULT false;
ALTER TABLE versions ADD CONSTRAINT versions_parent_check CHECK (parent >= 0 AND parent < version AND floor <= version
    AND (parent = 0) = (floor = version)
    AND (parent = 0 OR kind IN ('incremental', 'differential', 'mirror'))
    AND (parent > 0 OR kind IN ('full', 'mirror', 'archive', 'synthetic-full')));
ALTER TABLE versions ADD CONSTRAINT versions_expired_check CHECK ((expired_at IS NULL OR state = 'published')
    AND (NOT pages_gone OR expired_at IS NOT NULL));

-- The parts that a published version needs: all of its own archives, and those of earlier versions that rows it resolves to
-- came with, or that entries of such pages lie in.
CREATE TABLE version_parts (
    line_id         bigint NOT NULL,
    version         bigint NOT NULL,
    part_id         bigint NOT NULL REFERENCES parts (id),
    PRIMARY KEY (line_id, version, part_id),
    FOREIGN KEY (line_id, version) REFERENCES versions (line_id, version)
);
INSERT INTO version_parts (line_id, version, part_id)
    SELECT a.line_id, a.version, x.id FROM archives AS a JOIN parts AS x ON x.archive_id = a.id WHERE a.state = 'published';
CREATE INDEX version_parts_part ON version_parts (part_id);

-- 'closed': its attempt is over and it takes no more parts; those that it has count for the version that a later attempt goes on
-- with.
ALTER TABLE archives DROP CONSTRAINT archives_state_check;
ALTER TABLE archives ADD CONSTRAINT archives_state_check CHECK (state IN ('staged', 'closed', 'published', 'abandoned'));
CREATE INDEX archives_version ON archives (line_id, version);

-- What a plan makes if nobody says.
ALTER TABLE plans ADD COLUMN version_kind varchar(16) NOT NULL DEFAULT 'full';
ALTER TABLE plans ADD CONSTRAINT plans_version_kind_check CHECK (version_kind IN ('full', 'incremental', 'differential'));

-- What a backup was asked to make, what it makes, and why that is a full although something else was asked for.
ALTER TABLE jobs ADD COLUMN asked_kind varchar(16);
ALTER TABLE jobs ADD COLUMN version_kind varchar(16);
ALTER TABLE jobs ADD COLUMN promotion varchar(400);
UPDATE jobs SET asked_kind = 'full', version_kind = CASE WHEN started_at IS NULL THEN NULL ELSE 'full' END WHERE kind = 'backup';
ALTER TABLE jobs ADD CONSTRAINT jobs_version_kind_check CHECK (
    (asked_kind IS NULL OR asked_kind IN ('full', 'incremental', 'differential', 'mirror', 'archive', 'synthetic-full'))
    AND (version_kind IS NULL OR version_kind IN ('full', 'incremental', 'differential', 'mirror', 'archive', 'synthetic-full'))
    AND (kind = 'backup') = (asked_kind IS NOT NULL)
    AND (promotion IS NULL OR version_kind IS NOT NULL));
