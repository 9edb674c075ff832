-- Removing what is extra at the target of a restore.

ALTER TABLE jobs DROP CONSTRAINT jobs_kind_check;
ALTER TABLE jobs ADD CONSTRAINT jobs_kind_check CHECK (kind IN ('backup', 'restore', 'label', 'erase', 'format', 'drive-load',
    'drive-unload', 'drive-rewind', 'drive-clean', 'inventory', 'move', 'import', 'export', 'index', 'verify', 'remove-sources',
    'remove-extra'));
ALTER TABLE jobs ADD CONSTRAINT jobs_extra_check CHECK (kind <> 'remove-extra' OR (line_id IS NOT NULL AND version IS NOT NULL
    AND agent_id IS NOT NULL AND restore_request IS NOT NULL));
