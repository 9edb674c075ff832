-- The zstd dictionaries that the pages of a line use. A number stands for one dictionary for ever.
CREATE TABLE dictionaries (
    line_id         bigint NOT NULL REFERENCES lines (id),
    number          bigint NOT NULL CHECK (number > 0),
    body            bytea NOT NULL,
    PRIMARY KEY (line_id, number)
);
