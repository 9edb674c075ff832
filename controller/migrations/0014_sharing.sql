-- Several backups of a pool may write on one volume in one drive, part by part in turns.
--
-- Each attempt has a seat at its drive, the first one unless it came to others. So the unique indexes still keep two attempts from
-- one drive or volume that do not know of each other; who takes another seat says so, and the statement looks for the others.
ALTER TABLE pools ADD COLUMN sources_per_drive integer NOT NULL DEFAULT 1;
ALTER TABLE pools ADD CONSTRAINT pools_sources_check CHECK (sources_per_drive BETWEEN 1 AND 16);

ALTER TABLE attempts ADD COLUMN seat integer NOT NULL DEFAULT 1;
ALTER TABLE attempts ADD CONSTRAINT attempts_seat_check CHECK (seat BETWEEN 1 AND 16);
DROP INDEX attempts_drive;
CREATE UNIQUE INDEX attempts_drive ON attempts (drive_id, seat) WHERE ended_at IS NULL;

-- The seat of its attempt.
ALTER TABLE attempt_volumes ADD COLUMN seat integer NOT NULL DEFAULT 1;
DROP INDEX attempt_volumes_volume;
CREATE UNIQUE INDEX attempt_volumes_volume ON attempt_volumes (volume_id, seat) WHERE held;
DROP INDEX attempt_volumes_cartridge;
CREATE UNIQUE INDEX attempt_volumes_cartridge ON attempt_volumes (cartridge, seat) WHERE held;
