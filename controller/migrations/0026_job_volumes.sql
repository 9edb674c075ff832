-- The volumes that a restore needs, in the order in which it reads them if all are at hand: it begins with the first that can be had.

CREATE TABLE job_volumes (
    job_id      bigint NOT NULL REFERENCES jobs (id),
    ordinal     integer NOT NULL,
    volume_id   bigint NOT NULL REFERENCES volumes (id),
    PRIMARY KEY (job_id, ordinal)
);
CREATE INDEX job_volumes_volume ON job_volumes (volume_id);
