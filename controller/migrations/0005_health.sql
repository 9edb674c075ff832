-- What was counted while a cartridge was in a drive for one attempt, and what came up. What the drive did not tell is NULL.

CREATE TABLE mounts (
    id                  bigserial PRIMARY KEY,
    mount_uuid          uuid NOT NULL UNIQUE,
    attempt_id          bigint NOT NULL REFERENCES attempts (id),
    drive_id            bigint NOT NULL REFERENCES drives (id),
    volume_id           bigint REFERENCES volumes (id),   -- none if the cartridge is no volume of the catalog
    recording_uuid      uuid,                             -- the volume's, when the mount was first reported
    began_at            timestamptz NOT NULL,
    ended_at            timestamptz,
    fault_reason        varchar(64),                      -- of drive or medium
    written_bytes       bigint CHECK (written_bytes >= 0),
    read_bytes          bigint CHECK (read_bytes >= 0),
    medium_written      bigint CHECK (medium_written >= 0),
    medium_read         bigint CHECK (medium_read >= 0),
    write_corrected     bigint CHECK (write_corrected >= 0),
    write_uncorrected   bigint CHECK (write_uncorrected >= 0),
    read_corrected      bigint CHECK (read_corrected >= 0),
    read_uncorrected    bigint CHECK (read_uncorrected >= 0),
    write_retries       bigint CHECK (write_retries >= 0),
    read_retries        bigint CHECK (read_retries >= 0),
    suspends            bigint CHECK (suspends >= 0),
    fatal_suspends      bigint CHECK (fatal_suspends >= 0),
    native_bytes        bigint CHECK (native_bytes >= 0),
    remaining_bytes     bigint CHECK (remaining_bytes >= 0),
    early_warning       boolean NOT NULL DEFAULT false,
    end_block           bigint CHECK (end_block > 0),
    medium_serial       varchar(64) COLLATE "C",
    load_count          bigint CHECK (load_count >= 0),
    life_written        bigint CHECK (life_written >= 0),
    life_read           bigint CHECK (life_read >= 0),
    seed_score          smallint CHECK (seed_score BETWEEN 0 AND 100)
);
CREATE INDEX mounts_drive ON mounts (drive_id, id);
CREATE INDEX mounts_volume ON mounts (volume_id, id);
CREATE INDEX mounts_attempt ON mounts (attempt_id);

CREATE TABLE mount_alerts (
    mount_id            bigint NOT NULL REFERENCES mounts (id),
    flag                smallint NOT NULL CHECK (flag BETWEEN 1 AND 64),
    title               varchar(64) NOT NULL,
    severity            varchar(16) NOT NULL CHECK (severity IN ('information', 'warning', 'critical')),
    measure             varchar(24) NOT NULL CHECK (measure IN ('note', 'cross-test', 'clean', 'replace-cleaner', 'drive-down',
                            'refuse-writing', 'volume-read-only', 'retire-volume', 'operator')),
    meaning             varchar(400) NOT NULL,
    advice              varchar(400) NOT NULL,
    PRIMARY KEY (mount_id, flag)
);

ALTER TABLE drives ADD COLUMN cleaning varchar(16) NOT NULL DEFAULT 'unknown'
    CHECK (cleaning IN ('unknown', 'not-wanted', 'requested', 'required'));
-- A drive that gets no work: why, and since when.
ALTER TABLE drives ADD COLUMN down_reason varchar(400);
ALTER TABLE drives ADD COLUMN down_at timestamptz;
ALTER TABLE drives ADD CONSTRAINT drives_down CHECK ((down_reason IS NULL) = (down_at IS NULL));
-- Why the volume's data should move to another one.
ALTER TABLE volumes ADD COLUMN retire_reason varchar(400);
