-- What was taken in before closing records claimed parts, and what runs had begun under numbers that later versions passed: nobody goes
-- on with those, and only their own record tells whether they count.

UPDATE archives SET state = 'closed' WHERE state IN ('staged', 'published') AND EXISTS
    (SELECT 1 FROM versions AS v JOIN lines AS l ON l.id = v.line_id WHERE v.line_id = archives.line_id
    AND v.version = archives.version AND v.state = 'staged' AND v.rebuilt_at IS NULL AND v.version <= l.head);
DELETE FROM versions WHERE state = 'staged' AND rebuilt_at IS NULL AND EXISTS
    (SELECT 1 FROM lines AS l WHERE l.id = versions.line_id AND versions.version <= l.head);

-- Of archives whose own version no record tells of, those parts count that other versions need; all of them are held until one tells.
UPDATE archives SET state = 'closed' WHERE state = 'published' AND NOT EXISTS
    (SELECT 1 FROM versions AS v WHERE v.line_id = archives.line_id AND v.version = archives.version);
INSERT INTO pages_unclaimed (line_id, archive_ordinal, part_number, chunk, version, body, hashes)
    SELECT p.line_id, p.archive_ordinal, p.part_number, p.chunk, p.version, p.body, p.hashes FROM archives AS a
    JOIN parts AS x ON x.archive_id = a.id JOIN pages AS p ON p.line_id = a.line_id AND p.version = a.version
    AND p.archive_ordinal = a.ordinal AND p.part_number = x.part_number WHERE a.state = 'closed'
    AND NOT EXISTS (SELECT 1 FROM versions AS v WHERE v.line_id = a.line_id AND v.version = a.version)
    AND NOT EXISTS (SELECT 1 FROM version_parts AS n WHERE n.part_id = x.id);
DELETE FROM pages USING archives AS a, parts AS x WHERE pages.line_id = a.line_id AND pages.version = a.version
    AND pages.archive_ordinal = a.ordinal AND x.archive_id = a.id AND x.part_number = pages.part_number AND a.state = 'closed'
    AND NOT EXISTS (SELECT 1 FROM versions AS v WHERE v.line_id = a.line_id AND v.version = a.version)
    AND NOT EXISTS (SELECT 1 FROM version_parts AS n WHERE n.part_id = x.id);
UPDATE archives SET state = 'unclaimed' WHERE state = 'closed' AND NOT EXISTS
    (SELECT 1 FROM versions AS v WHERE v.line_id = archives.line_id AND v.version = archives.version) AND NOT EXISTS
    (SELECT 1 FROM parts AS x JOIN version_parts AS n ON n.part_id = x.id WHERE x.archive_id = archives.id);
