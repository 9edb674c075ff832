-- Recordings that a part was copied from before it was copied from its former one, while nobody had read back what was made of it: it
-- may be all that is left there, until the part is read back where it is now.

CREATE TABLE earlier_places (
    part_id         bigint NOT NULL REFERENCES parts (id),
    recording_uuid  uuid NOT NULL,
    PRIMARY KEY (part_id, recording_uuid)
);
CREATE INDEX earlier_places_recording ON earlier_places (recording_uuid);
