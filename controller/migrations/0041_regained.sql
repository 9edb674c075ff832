-- How often rows of a released version came back from a cartridge: a sweep that began before that does not say that they are gone.

ALTER TABLE versions ADD COLUMN regained bigint NOT NULL DEFAULT 0;
