-- The catalog of one installation. Portable between PostgreSQL 12-18 and openGauss in PG mode: keys are BIGSERIAL,
-- closed sets are varchar with CHECK, UUIDs and hashes are made by the program, no ON CONFLICT, no partitions.
-- CHECK constraints tie a state to its columns, so that a row can't say two things.

-- One row: who we are. epoch and counter are the generation that fences agents.
CREATE TABLE installation (
    id                  smallint PRIMARY KEY CHECK (id = 1),
    installation_uuid   uuid NOT NULL,
    epoch               bigint NOT NULL CHECK (epoch > 0),
    generation_counter  bigint NOT NULL CHECK (generation_counter >= 0),
    authority_der       bytea NOT NULL,
    authority_key       bytea NOT NULL, -- wrapped by the cluster key
    created_at          timestamptz NOT NULL
);

-- One row: which controller reconciles, until when.
CREATE TABLE leadership (
    id              smallint PRIMARY KEY CHECK (id = 1),
    holder          uuid NOT NULL,
    term            bigint NOT NULL CHECK (term > 0),
    expires_at      timestamptz NOT NULL
);

CREATE TABLE accounts (
    id              bigserial PRIMARY KEY,
    user_name       varchar(64) COLLATE "C" NOT NULL UNIQUE,
    role            varchar(16) NOT NULL CHECK (role IN ('viewer', 'operator', 'administrator')),
    password_hash   varchar(256) NOT NULL,
    failed_logins   integer NOT NULL DEFAULT 0,
    locked_until    timestamptz,
    created_at      timestamptz NOT NULL
);

CREATE TABLE api_tokens (
    id              bigserial PRIMARY KEY,
    account_id      bigint NOT NULL REFERENCES accounts (id),
    token_sha256    bytea NOT NULL UNIQUE,
    created_at      timestamptz NOT NULL,
    expires_at      timestamptz NOT NULL,
    revoked_at      timestamptz
);

CREATE TABLE agents (
    id              bigserial PRIMARY KEY,
    agent_name      varchar(64) COLLATE "C" NOT NULL UNIQUE,
    role            varchar(16) NOT NULL CHECK (role IN ('source-agent', 'tape-agent')),
    host_name       varchar(255) NOT NULL DEFAULT 'unknown',
    program_version varchar(64) NOT NULL DEFAULT 'unknown',
    enrolled_at     timestamptz,
    -- of the source agent's session; a tape agent's workers have theirs with drives and libraries
    incarnation     uuid,
    connected       boolean NOT NULL DEFAULT false,
    last_seen_at    timestamptz
);

CREATE TABLE enrolment_tokens (
    id              bigserial PRIMARY KEY,
    agent_id        bigint NOT NULL REFERENCES agents (id),
    secret_sha256   bytea NOT NULL UNIQUE,
    created_at      timestamptz NOT NULL,
    expires_at      timestamptz NOT NULL,
    used_at         timestamptz
);

-- Every mutation: who, what, outcome.
CREATE TABLE audit (
    id              bigserial PRIMARY KEY,
    happened_at     timestamptz NOT NULL,
    actor           varchar(160) NOT NULL,
    action          varchar(160) NOT NULL,
    subject         varchar(400) NOT NULL,
    outcome         varchar(400) NOT NULL
);

-- Answers to mutations by request id, stored in the mutation's own transaction.
CREATE TABLE requests (
    request_uuid    uuid PRIMARY KEY,
    method          varchar(160) NOT NULL,
    request_sha256  bytea NOT NULL,
    answer          bytea NOT NULL,
    created_at      timestamptz NOT NULL
);

CREATE TABLE sources (
    id              bigserial PRIMARY KEY,
    source_name     varchar(64) COLLATE "C" NOT NULL UNIQUE,
    agent_id        bigint NOT NULL REFERENCES agents (id),
    paths           bytea NOT NULL,          -- encoded taf.agent.v1.FetchSelectionResponse: paths and excluded paths
    one_file_system boolean NOT NULL,
    revision        bigint NOT NULL DEFAULT 1,
    created_at      timestamptz NOT NULL,
    deleted_at      timestamptz
);

CREATE TABLE pools (
    id              bigserial PRIMARY KEY,
    pool_name       varchar(64) COLLATE "C" NOT NULL UNIQUE,
    block_size      integer NOT NULL CHECK (block_size BETWEEN 65536 AND 8388608),
    part_size       bigint NOT NULL CHECK (part_size >= 16777216),
    revision        bigint NOT NULL DEFAULT 1,
    created_at      timestamptz NOT NULL
);

CREATE TABLE plans (
    id                  bigserial PRIMARY KEY,
    plan_name           varchar(64) COLLATE "C" NOT NULL UNIQUE,
    source_id           bigint NOT NULL REFERENCES sources (id),
    pool_id             bigint NOT NULL REFERENCES pools (id),
    compression_level   integer NOT NULL CHECK (compression_level BETWEEN 1 AND 19),
    compression_threads integer NOT NULL CHECK (compression_threads BETWEEN 0 AND 256),
    revision            bigint NOT NULL DEFAULT 1,
    created_at          timestamptz NOT NULL,
    deleted_at          timestamptz
);

-- A line: the versions of one plan on one source. head is the newest published version, 0 for none.
CREATE TABLE lines (
    id              bigserial PRIMARY KEY,
    line_uuid       uuid NOT NULL UNIQUE,
    plan_id         bigint NOT NULL REFERENCES plans (id),
    source_id       bigint NOT NULL REFERENCES sources (id),
    head            bigint NOT NULL DEFAULT 0 CHECK (head >= 0),
    next_ordinal    integer NOT NULL DEFAULT 1 CHECK (next_ordinal > 0),
    UNIQUE (plan_id, source_id)
);

CREATE TABLE libraries (
    id              bigserial PRIMARY KEY,
    serial          varchar(64) COLLATE "C" NOT NULL UNIQUE,
    vendor          varchar(32) NOT NULL,
    product         varchar(32) NOT NULL,
    agent_id        bigint NOT NULL REFERENCES agents (id),
    incarnation     uuid NOT NULL,
    last_heard_at   timestamptz NOT NULL,
    connected       boolean NOT NULL,
    inventory_at    timestamptz
);

CREATE TABLE elements (
    library_id      bigint NOT NULL REFERENCES libraries (id),
    address         integer NOT NULL,
    kind            varchar(16) NOT NULL CHECK (kind IN ('slot', 'mail-slot', 'drive')),
    occupied        boolean NOT NULL,
    barcode         varchar(64) COLLATE "C",
    drive_serial    varchar(64) COLLATE "C",
    source_address  integer,
    PRIMARY KEY (library_id, address)
);

CREATE TABLE drives (
    id              bigserial PRIMARY KEY,
    serial          varchar(64) COLLATE "C" NOT NULL UNIQUE,
    vendor          varchar(32) NOT NULL,
    product         varchar(32) NOT NULL,
    firmware        varchar(32) NOT NULL,
    agent_id        bigint NOT NULL REFERENCES agents (id),
    addresses       varchar(1024) NOT NULL,      -- host:port, separated by spaces
    incarnation     uuid NOT NULL,
    last_heard_at   timestamptz NOT NULL,
    connected       boolean NOT NULL,
    medium          varchar(16) NOT NULL DEFAULT 'unknown' CHECK (medium IN ('unknown', 'empty', 'loaded', 'unloaded')),
    barcode         varchar(64) COLLATE "C",
    state_reason    varchar(400)
);

-- A cartridge and its present recording. next_tape_file and next_block are where an append must find the end of data.
CREATE TABLE volumes (
    id              bigserial PRIMARY KEY,
    barcode         varchar(64) COLLATE "C" NOT NULL UNIQUE,
    volume_uuid     uuid NOT NULL UNIQUE,
    pool_id         bigint NOT NULL REFERENCES pools (id),
    state           varchar(16) NOT NULL CHECK (state IN ('labelling', 'appendable', 'full', 'read-only', 'quarantined', 'unlabelled')),
    state_reason    varchar(400),
    recording_uuid  uuid NOT NULL UNIQUE,
    block_size      integer NOT NULL,
    next_tape_file  bigint NOT NULL DEFAULT 0,
    next_block      bigint NOT NULL DEFAULT 0,
    byte_count      bigint NOT NULL DEFAULT 0,
    labelled_at     timestamptz,
    written_at      timestamptz,
    created_at      timestamptz NOT NULL,
    CHECK (state IN ('labelling', 'unlabelled') OR (labelled_at IS NOT NULL AND next_tape_file >= 1 AND next_block >= 1))
);

CREATE TABLE jobs (
    id              bigserial PRIMARY KEY,
    kind            varchar(16) NOT NULL CHECK (kind IN ('backup', 'restore', 'label')),
    state           varchar(24) NOT NULL CHECK (state IN ('queued', 'running', 'succeeded', 'succeeded-with-issues', 'failed', 'cancelled')),
    cancel_asked    boolean NOT NULL DEFAULT false,
    creator         varchar(160) NOT NULL,
    plan_id         bigint REFERENCES plans (id),
    line_id         bigint REFERENCES lines (id),
    version         bigint,
    agent_id        bigint REFERENCES agents (id),
    volume_id       bigint REFERENCES volumes (id),
    restore_request bytea,                        -- encoded taf.v1.RestoreVersionRequest
    entry_count     bigint,                       -- of a restore, counted when it was asked for
    byte_total      bigint,
    waiting_for     varchar(400),
    fault_reason    varchar(64),
    fault_message   varchar(2000),
    fault_next_step varchar(2000),
    created_at      timestamptz NOT NULL,
    started_at      timestamptz,
    ended_at        timestamptz,
    CHECK ((state IN ('queued', 'running')) = (ended_at IS NULL)),
    CHECK ((state = 'failed') = (fault_reason IS NOT NULL)),
    CHECK (kind <> 'backup' OR plan_id IS NOT NULL),
    CHECK (kind <> 'label' OR volume_id IS NOT NULL),
    CHECK (kind <> 'restore' OR (line_id IS NOT NULL AND version IS NOT NULL AND agent_id IS NOT NULL AND restore_request IS NOT NULL))
);
CREATE INDEX jobs_active ON jobs (id) WHERE ended_at IS NULL;

-- One try at a job. While it lives it holds its drive and its volume: the two partial unique indexes are the leases.
-- *_incarnation is the process that was given the work; another incarnation has lost it. The verdict is reached first;
-- the row ends when the drive has cleaned up behind it, or is lost.
CREATE TABLE attempts (
    id                  bigserial PRIMARY KEY,
    job_id              bigint NOT NULL REFERENCES jobs (id),
    epoch               bigint NOT NULL,
    generation          bigint NOT NULL,
    verdict             varchar(24) NOT NULL DEFAULT 'none' CHECK (verdict IN ('none', 'succeeded', 'succeeded-with-issues', 'failed', 'cancelled')),
    fault               bytea,                            -- encoded taf.v1.Fault of a failed verdict
    drive_id            bigint NOT NULL REFERENCES drives (id),
    volume_id           bigint NOT NULL REFERENCES volumes (id),
    agent_id            bigint REFERENCES agents (id),   -- source agent; none for a label
    step                integer NOT NULL DEFAULT 1,       -- counts mount steps; the last one is the work
    step_kind           varchar(16) NOT NULL DEFAULT 'none' CHECK (step_kind IN ('none', 'unload', 'clear', 'mount', 'work')),
    step_detail         bytea,                            -- encoded MoveWork of a clear or mount step
    drive_incarnation   uuid,
    source_incarnation  uuid,
    drive_result        bytea,                            -- encoded taf.agent.v1.Result
    source_result       bytea,
    progress            bytea,                            -- encoded taf.v1.Progress, newest
    drive_progress      bytea,                            -- encoded taf.agent.v1.DriveObservation, newest
    started_at          timestamptz NOT NULL,
    ended_at            timestamptz,
    -- a lost drive keeps the volume reserved until its worker is heard again
    holds_volume        boolean NOT NULL DEFAULT true,
    CHECK (ended_at IS NULL OR verdict <> 'none'),
    CHECK ((verdict = 'failed') = (fault IS NOT NULL))
);
CREATE UNIQUE INDEX attempts_drive ON attempts (drive_id) WHERE ended_at IS NULL;
CREATE UNIQUE INDEX attempts_volume ON attempts (volume_id) WHERE holds_volume;
CREATE UNIQUE INDEX attempts_job ON attempts (job_id) WHERE ended_at IS NULL;
CREATE UNIQUE INDEX attempts_generation ON attempts (epoch, generation);

CREATE TABLE issues (
    attempt_id      bigint NOT NULL REFERENCES attempts (id),
    issue_number    bigint NOT NULL,
    path            bytea NOT NULL,
    reason          varchar(64) NOT NULL,
    message         varchar(2000) NOT NULL,
    PRIMARY KEY (attempt_id, issue_number)
);

-- Staged while its number is above the line's head. A failed number is emptied before it is used again.
CREATE TABLE versions (
    line_id             bigint NOT NULL REFERENCES lines (id),
    version             bigint NOT NULL CHECK (version > 0),
    state               varchar(16) NOT NULL CHECK (state IN ('staged', 'published')),
    floor               bigint NOT NULL,
    kind                varchar(16) NOT NULL CHECK (kind IN ('full')),
    job_id              bigint NOT NULL REFERENCES jobs (id),
    started_at          timestamptz NOT NULL,
    published_at        timestamptz,
    file_count          bigint NOT NULL DEFAULT 0,
    directory_count     bigint NOT NULL DEFAULT 0,
    byte_count          bigint NOT NULL DEFAULT 0,
    stored_byte_count   bigint NOT NULL DEFAULT 0,
    issue_count         bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (line_id, version),
    CHECK ((state = 'published') = (published_at IS NOT NULL))
);

-- The bytes of one attempt at a version. 'abandoned' archives hold room on tape and nothing else.
CREATE TABLE archives (
    id              bigserial PRIMARY KEY,
    archive_uuid    uuid NOT NULL UNIQUE,
    line_id         bigint NOT NULL REFERENCES lines (id),
    ordinal         integer NOT NULL,
    version         bigint NOT NULL,
    attempt_id      bigint NOT NULL REFERENCES attempts (id),
    state           varchar(16) NOT NULL CHECK (state IN ('staged', 'published', 'abandoned')),
    UNIQUE (line_id, ordinal)
);

CREATE TABLE parts (
    id                  bigserial PRIMARY KEY,
    archive_id          bigint NOT NULL REFERENCES archives (id),
    part_number         integer NOT NULL CHECK (part_number > 0),
    volume_id           bigint NOT NULL REFERENCES volumes (id),
    recording_uuid      uuid NOT NULL,
    tape_file           bigint NOT NULL,
    first_block         bigint NOT NULL,
    block_count         bigint NOT NULL,
    byte_count          bigint NOT NULL,
    first_sequence      bigint NOT NULL,
    last_sequence       bigint NOT NULL,
    first_tar_offset    bigint NOT NULL,
    end_tar_offset      bigint NOT NULL,
    final_part          boolean NOT NULL,
    truncated           boolean NOT NULL,
    digest              bytea NOT NULL,
    segment_table       bytea NOT NULL,
    committed_at        timestamptz NOT NULL,
    UNIQUE (archive_id, part_number),
    UNIQUE (recording_uuid, tape_file)
);

-- Tape files that no catalog row owns.
CREATE TABLE orphans (
    recording_uuid  uuid NOT NULL,
    tape_file       bigint NOT NULL,
    volume_id       bigint NOT NULL REFERENCES volumes (id),
    first_block     bigint NOT NULL,
    next_block      bigint NOT NULL,
    reason          varchar(400) NOT NULL,
    found_at        timestamptz NOT NULL,
    PRIMARY KEY (recording_uuid, tape_file)
);

-- Directory pages. A row whose body is NULL is a tombstone. Pages of a version above the head are staged.
CREATE TABLE pages (
    line_id         bigint NOT NULL,
    chunk           bytea NOT NULL,
    version         bigint NOT NULL,
    archive_ordinal integer NOT NULL,
    part_number     integer NOT NULL,
    body            bytea,
    hashes          bytea
);
ALTER TABLE pages ALTER COLUMN body SET STORAGE EXTERNAL;
ALTER TABLE pages ALTER COLUMN hashes SET STORAGE EXTERNAL;
CREATE UNIQUE INDEX pages_key ON pages (line_id, chunk, version DESC);
CREATE INDEX pages_version ON pages (line_id, version);
