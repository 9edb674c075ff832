-- Mirrors: one current version each.

-- Bytes of tar that belong to a version, what lies at one place counted once; not known of those that were published before this.
ALTER TABLE versions ADD COLUMN living_tar_bytes bigint;
-- Percent of what a mirror's archives hold below which the next one is made whole.
ALTER TABLE plans ADD COLUMN mirror_living_percent integer NOT NULL DEFAULT 50;
ALTER TABLE plans ADD CONSTRAINT plans_mirror_check CHECK (mirror_living_percent BETWEEN 1 AND 100);
