//! What statements ask in the same words, said once.
//!
//! A statement has a condition's name in braces where it is to stand. In a text that is formatted the constant itself is put in; in one
//! that is a constant, [`put_in`] does it when the statement is sent. Each condition says which names it expects of the tables around it.

/// Whether a part `x` of an archive `a` is needed: by a version, or by a run that can be gone on with, or perhaps by a version of which no
/// closing record told yet.
pub(super) const LIVING: &str = "(a.state IN ('staged', 'closed', 'unclaimed') OR EXISTS (SELECT 1 FROM version_parts AS n WHERE n.part_id = x.id))";

/// Whether a volume `w` has what the catalog says, as far as is known, and keeps it: no job is to write it from its beginning.
pub(super) const STAYS: &str = "w.state NOT IN ('unlabelled', 'quarantined') AND NOT EXISTS (SELECT 1 FROM jobs AS g WHERE g.ended_at IS NULL \
     AND g.kind IN ('erase', 'format', 'label') AND (g.volume_id = w.id OR g.cartridge = w.barcode))";

/// Whether a part `x` is where the catalog has it: somebody has read it there, it was sound, and its volume stays and is no suspect.
pub(super) const PROVED: &str = "(x.damage IS NULL AND x.verified_at IS NOT NULL AND EXISTS (SELECT 1 FROM volumes AS w \
     WHERE w.recording_uuid = x.recording_uuid AND {STAYS} AND w.suspect_since IS NULL))";

/// Rows `h` of parts and the recordings that they were copied from.
pub(super) const COPIED: &str = "(SELECT y.id AS part, y.former_recording AS recording FROM parts AS y WHERE y.former_recording IS NOT NULL \
     UNION SELECT e.part_id, e.recording_uuid FROM earlier_places AS e) AS h";

/// Joins the volume `f` where somebody reads a part `x` of whom the job `j` was asked for before the part was copied: he reads it where it
/// was, for as long as a volume bears that. It is copied once only while he reads ([`super::reclaims::part_is_read_on`]), so that its
/// former place is the one, and none of the earlier ones.
pub(super) const FORMER: &str =
    "LEFT JOIN volumes AS f ON f.recording_uuid = x.former_recording AND x.moved_at > j.created_at";

/// A statement with the conditions that it names.
pub(super) fn put_in(sql: &str) -> String {
    // One that names another one comes first.
    let all = [
        ("{PROVED}", PROVED),
        ("{COPIED}", COPIED),
        ("{FORMER}", FORMER),
        ("{LIVING}", LIVING),
        ("{STAYS}", STAYS),
    ];
    let put = |sql: String, (name, text): (&str, &str)| sql.replace(name, text);
    all.into_iter().fold(sql.to_owned(), put)
}
