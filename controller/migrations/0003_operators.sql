-- Jobs of operators. What a job needs is a robot, a drive or both, so an attempt may lack a drive or a volume.

ALTER TABLE jobs DROP CONSTRAINT jobs_kind_check;
ALTER TABLE jobs ADD CONSTRAINT jobs_kind_check CHECK (kind IN ('backup', 'restore', 'label', 'erase', 'format', 'drive-load',
    'drive-unload', 'drive-rewind', 'drive-clean', 'inventory', 'move', 'import', 'export'));
ALTER TABLE jobs ADD COLUMN drive_id bigint REFERENCES drives (id);
ALTER TABLE jobs ADD COLUMN library_id bigint REFERENCES libraries (id);
-- Barcode of a cartridge that the catalog need not know.
ALTER TABLE jobs ADD COLUMN cartridge varchar(64) COLLATE "C";
-- Element addresses of a cartridge to carry; the one that it comes from names it if it has no barcode.
ALTER TABLE jobs ADD COLUMN from_address integer;
ALTER TABLE jobs ADD COLUMN to_address integer;
-- Of an erase: over the whole tape.
ALTER TABLE jobs ADD COLUMN thorough boolean NOT NULL DEFAULT false;
-- Overwrites what it would refuse to, as a person asked.
ALTER TABLE jobs ADD COLUMN forced boolean NOT NULL DEFAULT false;
-- Takes only what nobody else wants.
ALTER TABLE jobs ADD COLUMN background boolean NOT NULL DEFAULT false;
ALTER TABLE jobs ADD CONSTRAINT jobs_operator_check CHECK (
    (kind NOT IN ('drive-load', 'drive-unload', 'drive-rewind', 'drive-clean') OR drive_id IS NOT NULL)
    AND (kind NOT IN ('inventory', 'move', 'import', 'export') OR library_id IS NOT NULL)
    AND (kind NOT IN ('erase', 'format', 'export') OR cartridge IS NOT NULL)
    AND (kind <> 'move' OR (from_address IS NOT NULL AND to_address IS NOT NULL))
    AND (kind <> 'import' OR from_address IS NOT NULL));

ALTER TABLE attempts ALTER COLUMN drive_id DROP NOT NULL;
-- The library whose robot works for it.
ALTER TABLE attempts ADD COLUMN library_id bigint REFERENCES libraries (id);
-- The drive has cleaned itself, or the robot has looked; what is left is to bring the cartridge home.
ALTER TABLE attempts ADD COLUMN worked boolean NOT NULL DEFAULT false;
ALTER TABLE attempts DROP CONSTRAINT attempts_step_kind_check;
ALTER TABLE attempts ADD CONSTRAINT attempts_step_kind_check
    CHECK (step_kind IN ('none', 'unload', 'clear', 'mount', 'carry', 'clean', 'scan', 'work'));
-- An attempt holds a cartridge, volume of the catalog or not.
ALTER TABLE attempt_volumes ALTER COLUMN volume_id DROP NOT NULL;
ALTER TABLE attempt_volumes ADD COLUMN cartridge varchar(64) COLLATE "C";
UPDATE attempt_volumes SET cartridge = (SELECT v.barcode FROM volumes v WHERE v.id = attempt_volumes.volume_id);
ALTER TABLE attempt_volumes ALTER COLUMN cartridge SET NOT NULL;
CREATE UNIQUE INDEX attempt_volumes_cartridge ON attempt_volumes (cartridge) WHERE held;
-- A robot does one thing at a time.
CREATE UNIQUE INDEX attempts_robot ON attempts (library_id)
    WHERE ended_at IS NULL AND step_kind IN ('clear', 'mount', 'carry', 'scan');

-- Why the robot moves nothing now (its door is open), and what is wrong with its picker.
ALTER TABLE libraries ADD COLUMN pause varchar(400);
ALTER TABLE libraries ADD COLUMN picker_exception varchar(400);
ALTER TABLE elements ADD COLUMN exception varchar(400);

-- Where a volume was seen last, once no library shows it any more: it is outside.
ALTER TABLE volumes ADD COLUMN seen_library varchar(64) COLLATE "C";
ALTER TABLE volumes ADD COLUMN seen_address integer;
ALTER TABLE volumes ADD COLUMN seen_at timestamptz;

-- Cleaning cartridges: those that were used, and those that were named as such.
CREATE TABLE cleaning_cartridges (
    barcode         varchar(64) COLLATE "C" PRIMARY KEY,
    use_count       integer NOT NULL DEFAULT 0 CHECK (use_count >= 0),
    -- A drive has refused it.
    used_up         boolean NOT NULL DEFAULT false,
    last_used_at    timestamptz
);

-- Why a published version can't be restored any more: a person had a volume of it erased.
ALTER TABLE versions ADD COLUMN lost_reason varchar(400);
