-- Volumes that are reclaimed: what lives on them is copied to others.

-- How often a part was copied; of several places that cartridges tell of, the one with the highest number counts.
ALTER TABLE parts ADD COLUMN copy_number integer NOT NULL DEFAULT 0;
-- Where it was before it was copied last, and when that was: who began to read before reads it there. The table is only kept if it was
-- another one.
ALTER TABLE parts ADD COLUMN moved_at timestamptz;
ALTER TABLE parts ADD COLUMN former_recording uuid;
ALTER TABLE parts ADD COLUMN former_tape_file bigint;
ALTER TABLE parts ADD COLUMN former_first_block bigint;
ALTER TABLE parts ADD COLUMN former_byte_count bigint;
ALTER TABLE parts ADD COLUMN former_table bytea;
ALTER TABLE parts ADD CONSTRAINT parts_copy_check CHECK (copy_number >= 0 AND (moved_at IS NULL) = (former_recording IS NULL)
    AND (moved_at IS NULL) = (former_tape_file IS NULL) AND (moved_at IS NULL) = (former_first_block IS NULL)
    AND (moved_at IS NULL) = (former_byte_count IS NULL) AND (former_table IS NULL OR moved_at IS NOT NULL));
CREATE INDEX parts_former ON parts (former_recording) WHERE former_recording IS NOT NULL;

ALTER TABLE jobs DROP CONSTRAINT jobs_kind_check;
ALTER TABLE jobs ADD CONSTRAINT jobs_kind_check CHECK (kind IN ('backup', 'restore', 'label', 'erase', 'format', 'drive-load',
    'drive-unload', 'drive-rewind', 'drive-clean', 'inventory', 'move', 'import', 'export', 'index', 'verify', 'remove-sources',
    'remove-extra', 'inspect', 'feed', 'rescan', 'reclaim'));
ALTER TABLE jobs ADD CONSTRAINT jobs_reclaim_check CHECK (kind <> 'reclaim' OR volume_id IS NOT NULL);
