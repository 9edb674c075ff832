-- What rebuilds took in before closing records claimed parts.

-- Archives that other versions name, while no record tells of their own version: all that was met of it is held until one does.
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

-- What runs had begun under numbers below the head: nobody goes on with it, and only a record tells whether it counts.
UPDATE archives SET state = 'unclaimed' WHERE state IN ('staged', 'closed') AND EXISTS
    (SELECT 1 FROM versions AS v JOIN lines AS l ON l.id = v.line_id WHERE v.line_id = archives.line_id
    AND v.version = archives.version AND v.state = 'staged' AND v.rebuilt_at IS NULL AND v.version <= l.head);
INSERT INTO pages_unclaimed (line_id, archive_ordinal, part_number, chunk, version, body, hashes)
    SELECT p.line_id, p.archive_ordinal, p.part_number, p.chunk, p.version, p.body, p.hashes FROM archives AS a
    JOIN pages AS p ON p.line_id = a.line_id AND p.version = a.version AND p.archive_ordinal = a.ordinal WHERE a.state = 'unclaimed';
DELETE FROM pages USING archives AS a WHERE a.state = 'unclaimed' AND pages.line_id = a.line_id AND pages.version = a.version
    AND pages.archive_ordinal = a.ordinal;
DELETE FROM versions WHERE state = 'staged' AND rebuilt_at IS NULL AND EXISTS
    (SELECT 1 FROM lines AS l WHERE l.id = versions.line_id AND versions.version <= l.head);
