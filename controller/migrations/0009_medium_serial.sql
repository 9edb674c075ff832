-- The cartridge itself, from its memory: the maker's serial number (attribute 0401h), and the density of its medium. NULL until
-- a drive has told them. A barcode can be put on another cartridge; this number can't.
ALTER TABLE volumes ADD COLUMN medium_serial varchar(64) COLLATE "C";
ALTER TABLE volumes ADD COLUMN density smallint CHECK (density BETWEEN 1 AND 255);
CREATE INDEX volumes_medium_serial ON volumes (medium_serial);
