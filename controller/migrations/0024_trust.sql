-- Whether the catalog may be older than the tapes: an older dump was restored, or a standby that lacked the newest came up.

-- Since when it is not trusted, and why. While it is not, nothing is written to any tape but by force, and nothing is let go.
ALTER TABLE installation ADD COLUMN distrusted_at timestamptz;
ALTER TABLE installation ADD COLUMN distrust_reason varchar(400);
ALTER TABLE installation ADD CONSTRAINT installation_distrust_check CHECK ((distrusted_at IS NULL) = (distrust_reason IS NULL));
-- The tables that this row was last seen beside, by their object ids: a restored dump has others.
ALTER TABLE installation ADD COLUMN tables_mark varchar(100);

-- Since when a volume may hold more than the catalog knows, or something else: it is read only until it is inspected.
ALTER TABLE volumes ADD COLUMN suspect_since timestamptz;
ALTER TABLE volumes ADD COLUMN inspected_at timestamptz;

ALTER TABLE jobs DROP CONSTRAINT jobs_kind_check;
ALTER TABLE jobs ADD CONSTRAINT jobs_kind_check CHECK (kind IN ('backup', 'restore', 'label', 'erase', 'format', 'drive-load',
    'drive-unload', 'drive-rewind', 'drive-clean', 'inventory', 'move', 'import', 'export', 'index', 'verify', 'remove-sources',
    'remove-extra', 'inspect'));
