-- Synthetic fulls: a job of its own reads what the backup is put together from.

ALTER TABLE jobs DROP CONSTRAINT jobs_kind_check;
ALTER TABLE jobs ADD CONSTRAINT jobs_kind_check CHECK (kind IN ('backup', 'restore', 'label', 'erase', 'format', 'drive-load',
    'drive-unload', 'drive-rewind', 'drive-clean', 'inventory', 'move', 'import', 'export', 'index', 'verify', 'remove-sources',
    'remove-extra', 'inspect', 'feed'));
-- Of a feed: the archive that goes straight from tape to tape, and the bytes of all others that are spooled.
ALTER TABLE jobs ADD COLUMN streamed_archive integer;
ALTER TABLE jobs ADD COLUMN spool_bytes bigint;
ALTER TABLE jobs ADD CONSTRAINT jobs_feed_check CHECK (kind <> 'feed' OR (line_id IS NOT NULL AND version IS NOT NULL
    AND agent_id IS NOT NULL AND volume_id IS NOT NULL AND cause_job IS NOT NULL AND streamed_archive IS NOT NULL
    AND spool_bytes IS NOT NULL));
