-- Volume indexes: tape files that say what the parts before them hold, so that a catalog is rebuilt without reading those.

CREATE TABLE volume_indexes (
    id                  bigserial PRIMARY KEY,
    index_uuid          uuid NOT NULL UNIQUE,
    volume_id           bigint NOT NULL REFERENCES volumes (id),
    recording_uuid      uuid NOT NULL,
    tape_file           bigint NOT NULL,
    first_block         bigint NOT NULL,
    block_count         bigint NOT NULL,
    byte_count          bigint NOT NULL,
    written_at          timestamptz NOT NULL,
    UNIQUE (recording_uuid, tape_file)
);

-- The index that has a part's records, and the newest one that only says that the part is there.
ALTER TABLE parts ADD COLUMN covered_by bigint REFERENCES volume_indexes (id);
ALTER TABLE parts ADD COLUMN listed_by bigint REFERENCES volume_indexes (id);
CREATE INDEX parts_uncovered ON parts (recording_uuid, tape_file) WHERE covered_by IS NULL;

-- What a version resolves to, counted before it is published; and its closing record (taf.tape.v1.ClosingRecord).
ALTER TABLE versions ADD COLUMN needs bytea;
ALTER TABLE versions ADD COLUMN closing bytea;

-- Which closing records are on which recording.
CREATE TABLE closings (
    line_id             bigint NOT NULL REFERENCES lines (id),
    version             bigint NOT NULL,
    recording_uuid      uuid NOT NULL,
    index_id            bigint NOT NULL REFERENCES volume_indexes (id),
    PRIMARY KEY (line_id, version, recording_uuid)
);

-- index_due: there is something that no index on the recording tells of. index_tries: how often it failed since the last thing
-- came. index_omitted: its end had no room; the next index of the pool tells of it.
ALTER TABLE volumes ADD COLUMN index_due boolean NOT NULL DEFAULT false;
ALTER TABLE volumes ADD COLUMN index_tries integer NOT NULL DEFAULT 0;
ALTER TABLE volumes ADD COLUMN index_omitted boolean NOT NULL DEFAULT false;
CREATE INDEX volumes_index_due ON volumes (id) WHERE index_due;

ALTER TABLE jobs DROP CONSTRAINT jobs_kind_check;
ALTER TABLE jobs ADD CONSTRAINT jobs_kind_check CHECK (kind IN ('backup', 'restore', 'label', 'erase', 'format', 'drive-load',
    'drive-unload', 'drive-rewind', 'drive-clean', 'inventory', 'move', 'import', 'export', 'index'));
