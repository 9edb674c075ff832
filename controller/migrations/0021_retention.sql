-- Which versions of a plan are kept, and what people say of single ones.

ALTER TABLE plans ADD COLUMN retention bytea NOT NULL DEFAULT '';   -- encoded taf.v1.Retention

CREATE TABLE version_tags (
    line_id         bigint NOT NULL,
    version         bigint NOT NULL,
    tag             varchar(64) COLLATE "C" NOT NULL,
    PRIMARY KEY (line_id, version, tag),
    FOREIGN KEY (line_id, version) REFERENCES versions (line_id, version)
);

-- Until when the plan's rules keep it at the least, as of the last look; none if that is not a matter of time alone.
ALTER TABLE versions ADD COLUMN keep_until timestamptz;
