-- The volumes of an attempt, one after another: an archive goes on when a cartridge is full, and a restore reads what lies on
-- several. At most one at a time is held, and a volume is held by one attempt at most: the partial unique indexes are the lease.
-- A lost drive keeps its volume held until its worker is heard again, also after the attempt has ended.
CREATE TABLE attempt_volumes (
    attempt_id      bigint NOT NULL REFERENCES attempts (id),
    ordinal         integer NOT NULL CHECK (ordinal > 0),
    volume_id       bigint NOT NULL REFERENCES volumes (id),
    held            boolean NOT NULL,
    first_step      integer NOT NULL,                     -- the attempt's step when it was reserved
    reserved_at     timestamptz NOT NULL,
    PRIMARY KEY (attempt_id, ordinal)
);
INSERT INTO attempt_volumes (attempt_id, ordinal, volume_id, held, first_step, reserved_at)
    SELECT id, 1, volume_id, holds_volume, 1, started_at FROM attempts;
CREATE UNIQUE INDEX attempt_volumes_volume ON attempt_volumes (volume_id) WHERE held;
CREATE UNIQUE INDEX attempt_volumes_attempt ON attempt_volumes (attempt_id) WHERE held;

DROP INDEX attempts_volume;
ALTER TABLE attempts DROP COLUMN holds_volume;
ALTER TABLE attempts DROP COLUMN volume_id;
-- Of a restore: the volume that it needs next. And since when an attempt has none that it could work with.
ALTER TABLE attempts ADD COLUMN wanted_volume_id bigint REFERENCES volumes (id);
ALTER TABLE attempts ADD COLUMN waiting_since timestamptz;
