-- Removing what is archived and verified from where it came.

-- Encoded taf.v1.RemoveSourcesRequest: what a removal does, or what is to follow a backup that makes an archive.
ALTER TABLE jobs ADD COLUMN removal bytea;
ALTER TABLE jobs DROP CONSTRAINT jobs_kind_check;
ALTER TABLE jobs ADD CONSTRAINT jobs_kind_check CHECK (kind IN ('backup', 'restore', 'label', 'erase', 'format', 'drive-load',
    'drive-unload', 'drive-rewind', 'drive-clean', 'inventory', 'move', 'import', 'export', 'index', 'verify', 'remove-sources'));
ALTER TABLE jobs ADD CONSTRAINT jobs_removal_check CHECK (
    (kind <> 'remove-sources' OR (line_id IS NOT NULL AND version IS NOT NULL AND agent_id IS NOT NULL AND removal IS NOT NULL))
    AND (removal IS NULL OR kind IN ('backup', 'remove-sources')));
