-- Since when a drive has not answered which command. Kept when its worker is lost: the next one that connects clears it.
ALTER TABLE drives ADD COLUMN hung_since timestamptz;
ALTER TABLE drives ADD COLUMN hung_command varchar(64);
ALTER TABLE drives ADD CONSTRAINT drives_hung_check CHECK ((hung_since IS NULL) = (hung_command IS NULL));
