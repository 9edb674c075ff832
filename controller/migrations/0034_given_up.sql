-- A version that is not whole can be given up, when what it lacks won't come: it has expired then, as any other.

ALTER TABLE versions DROP CONSTRAINT versions_expired_check;
ALTER TABLE versions ADD CONSTRAINT versions_expired_check
    CHECK ((expired_at IS NULL OR state = 'published' OR incomplete_reason IS NOT NULL) AND (NOT pages_gone OR expired_at IS NOT NULL));
