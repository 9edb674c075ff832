-- Rows count only when a closing record claims the part that brought them.

-- An archive that was met on a cartridge and that no closing record names so far: a failed attempt may have left it.
ALTER TABLE archives DROP CONSTRAINT archives_state_check;
ALTER TABLE archives ADD CONSTRAINT archives_state_check CHECK (state IN ('staged', 'closed', 'published', 'abandoned', 'unclaimed'));

-- Rows of parts that no closing record names so far: aside, where no version resolves to them.
CREATE TABLE pages_unclaimed (
    line_id         bigint NOT NULL,
    archive_ordinal integer NOT NULL,
    part_number     integer NOT NULL,
    chunk           bytea NOT NULL,
    version         bigint NOT NULL,
    body            bytea,
    hashes          bytea
);
ALTER TABLE pages_unclaimed ALTER COLUMN body SET STORAGE EXTERNAL;
ALTER TABLE pages_unclaimed ALTER COLUMN hashes SET STORAGE EXTERNAL;
CREATE UNIQUE INDEX pages_unclaimed_key ON pages_unclaimed (line_id, archive_ordinal, part_number, chunk);

-- Its rows were given up as such: who needs it must meet it again.
ALTER TABLE parts ADD COLUMN rows_given_up boolean NOT NULL DEFAULT false;

-- What a rebuild under way has taken in so: versions that are not whole claim theirs when the controller starts.
UPDATE archives SET state = 'unclaimed' WHERE state = 'closed' AND NOT EXISTS
    (SELECT 1 FROM versions AS v WHERE v.line_id = archives.line_id AND v.version = archives.version);
INSERT INTO pages_unclaimed (line_id, archive_ordinal, part_number, chunk, version, body, hashes)
    SELECT p.line_id, p.archive_ordinal, p.part_number, p.chunk, p.version, p.body, p.hashes FROM archives AS a
    JOIN pages AS p ON p.line_id = a.line_id AND p.version = a.version AND p.archive_ordinal = a.ordinal WHERE a.state = 'unclaimed';
DELETE FROM pages USING archives AS a WHERE a.state = 'unclaimed' AND pages.line_id = a.line_id AND pages.version = a.version
    AND pages.archive_ordinal = a.ordinal;
