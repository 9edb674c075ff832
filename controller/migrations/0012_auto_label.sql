-- Barcodes of blank cartridges that are labelled into the pool when a backup needs a volume: a pattern with * and ?. NULL: none.
ALTER TABLE pools ADD COLUMN auto_label varchar(64) COLLATE "C";
