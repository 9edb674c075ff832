-- A catalog that is rebuilt from cartridges.

-- A line that was met on a cartridge before the closing record came that says whose it is.
ALTER TABLE lines ALTER COLUMN plan_id DROP NOT NULL;
ALTER TABLE lines ALTER COLUMN source_id DROP NOT NULL;
ALTER TABLE lines ALTER COLUMN archives DROP NOT NULL;
ALTER TABLE lines ADD CONSTRAINT lines_owner_check CHECK ((plan_id IS NULL) = (source_id IS NULL) AND (plan_id IS NULL) = (archives IS NULL));

-- When the version came back from its closing record; and why it is not readable yet: what it needs was not met on any cartridge.
ALTER TABLE versions ADD COLUMN rebuilt_at timestamptz;
ALTER TABLE versions ADD COLUMN incomplete_reason varchar(400);
ALTER TABLE versions ADD CONSTRAINT versions_incomplete_check
    CHECK (incomplete_reason IS NULL OR (rebuilt_at IS NOT NULL AND state = 'staged'));

-- Jobs that take what is on a cartridge into the catalog.

ALTER TABLE jobs DROP CONSTRAINT jobs_kind_check;
ALTER TABLE jobs ADD CONSTRAINT jobs_kind_check CHECK (kind IN ('backup', 'restore', 'label', 'erase', 'format', 'drive-load',
    'drive-unload', 'drive-rewind', 'drive-clean', 'inventory', 'move', 'import', 'export', 'index', 'verify', 'remove-sources',
    'remove-extra', 'inspect', 'feed', 'rescan'));
