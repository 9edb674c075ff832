-- What is kept no longer, and what follows: its rows go, its parts are released, volumes become reusable.

ALTER TABLE versions ADD COLUMN expired_reason varchar(400);
-- Since when nothing of it is left but this row. Between 'pages_gone' and this its rows are on their way out.
ALTER TABLE versions ADD COLUMN vacuumed_at timestamptz;
ALTER TABLE versions ADD CONSTRAINT versions_vacuumed_check CHECK (vacuumed_at IS NULL OR pages_gone);
-- Why it must stay until somebody says otherwise, and until when nobody may say otherwise.
ALTER TABLE versions ADD COLUMN hold_reason varchar(400);
ALTER TABLE versions ADD COLUMN locked_until timestamptz;
ALTER TABLE versions ADD CONSTRAINT versions_hold_check CHECK (hold_reason IS NULL OR expired_at IS NULL);
CREATE INDEX versions_going ON versions (line_id, version) WHERE expired_at IS NOT NULL AND vacuumed_at IS NULL;
CREATE INDEX jobs_reading ON jobs (line_id, version) WHERE ended_at IS NULL AND kind = 'restore';

-- Since when nothing that is needed is on it, although it was written.
ALTER TABLE volumes ADD COLUMN freed_at timestamptz;
-- The recording that may still be on a cartridge which is about to be labelled anew, and where it ended: nothing of it is needed.
ALTER TABLE volumes ADD COLUMN former_recording uuid;
ALTER TABLE volumes ADD COLUMN former_end bigint;
ALTER TABLE volumes ADD CONSTRAINT volumes_former_check CHECK ((former_recording IS NULL) = (former_end IS NULL)
    AND (former_recording IS NULL OR state IN ('labelling', 'unlabelled')));
