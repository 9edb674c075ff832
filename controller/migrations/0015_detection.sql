-- How a run that builds on another tells a changed file from an unchanged one, by source.
ALTER TABLE sources ADD COLUMN ignore_ctime boolean NOT NULL DEFAULT false;
ALTER TABLE sources ADD COLUMN ignore_inode boolean NOT NULL DEFAULT false;
ALTER TABLE sources ADD COLUMN always_compare_content boolean NOT NULL DEFAULT false;
