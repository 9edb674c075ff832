-- Versions that are not whole are shown as far as they are known.

-- The oldest archive, by version and ordinal, from which on the rows that an incomplete version resolves to are those that it was made of
-- (design.md, "The catalog", rule 14). Not set if none are known to be, or nobody has counted yet.
ALTER TABLE versions ADD COLUMN certain_version bigint;
ALTER TABLE versions ADD COLUMN certain_ordinal integer;
ALTER TABLE versions ADD CONSTRAINT versions_certain_check CHECK ((certain_version IS NULL) = (certain_ordinal IS NULL)
    AND (certain_version IS NULL OR incomplete_reason IS NOT NULL));
