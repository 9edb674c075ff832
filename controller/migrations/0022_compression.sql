-- How a plan's archives are stored: methods with levels of their own, and one that has none.
ALTER TABLE plans ADD COLUMN compression_method varchar(16) NOT NULL DEFAULT 'zstd';
ALTER TABLE plans ADD CONSTRAINT plans_compression_method_check CHECK (compression_method IN ('zstd', 'gzip', 'tar', '7z'));
ALTER TABLE plans DROP CONSTRAINT plans_compression_level_check;
ALTER TABLE plans ADD CONSTRAINT plans_compression_level_check CHECK (compression_level BETWEEN 0 AND 19);
