//! What a version needs to be whole, by the parts of archives (rules 11 and 12): a part in which a row came that it resolves to,
//! tombstones included, or in which something lies that an entry of such a page names.

use std::collections::BTreeMap;

/// A part of an archive, by the version that it was written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Part {
    /// Version.
    pub version: i64,
    /// Ordinal of the archive.
    pub archive_ordinal: u32,
    /// From 1.
    pub part_number: u32,
}

impl Part {
    /// Its archive, so that a later one is greater.
    pub fn archive(self) -> (i64, u32) {
        (self.version, self.archive_ordinal)
    }
}

/// Which bytes of its archive a part has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The part.
    pub part: Part,
    /// Tar offset of the first byte.
    pub first_tar_offset: u64,
    /// Tar offset behind the last byte.
    pub end_tar_offset: u64,
}

/// How much a version needs of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Need {
    /// Rows that it resolves to.
    pub rows: u64,
    /// Entries that begin in the part; each name of a hard link counts.
    pub entries: u64,
    /// Apparent bytes of those.
    pub bytes: u64,
}

/// Where something lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Ordinal of the archive.
    pub archive_ordinal: u32,
    /// Tar offset of its first byte.
    pub tar_offset: u64,
    /// Length in the tar stream.
    pub tar_length: u64,
}

/// What a version needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Needs(BTreeMap<Part, Need>);

impl Needs {
    /// A row that it resolves to came with this part.
    pub fn row(&mut self, part: Part) {
        self.0.entry(part).or_default().rows += 1;
    }

    /// An entry of a page that it resolves to lies here. `spans` are in the order of archive and offset.
    pub fn entry(&mut self, spans: &[Span], at: Extent, bytes: u64) {
        for (nth, span) in touched(spans, at).enumerate() {
            let need = self.0.entry(span.part).or_default();
            // It counts where it begins; where it goes on, the part is needed all the same.
            if nth == 0 {
                need.entries += 1;
                need.bytes += bytes;
            }
        }
    }

    /// The own header of a directory that it resolves to lies here. It is no entry.
    pub fn header(&mut self, spans: &[Span], at: Extent) {
        for span in touched(spans, at) {
            self.0.entry(span.part).or_default();
        }
    }

    /// Adds what another count found.
    pub fn merge(&mut self, other: Self) {
        for (part, need) in other.0 {
            self.add(part, need);
        }
    }

    /// The parts, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (Part, Need)> + '_ {
        self.0.iter().map(|(part, need)| (*part, *need))
    }

    /// A part of which the version needs as much.
    pub fn add(&mut self, part: Part, need: Need) {
        let sum = self.0.entry(part).or_default();
        sum.rows += need.rows;
        sum.entries += need.entries;
        sum.bytes += need.bytes;
    }

    /// After a rebuild: the newest archive, by version and ordinal, of which a part lacks rows that are needed, given how many
    /// rows of each part the version resolves to now. Whatever resolves to a row of an archive below it is not known to be as
    /// it was (rule 14): it may have been followed by one that is missing, in the same version if an attempt was gone on with.
    pub fn missing(&self, found: &Needs) -> Option<(i64, u32)> {
        let rows = |part| found.0.get(part).map_or(0, |need| need.rows);
        let short = self.0.iter().filter(|(part, need)| rows(part) < need.rows);
        short.map(|(part, _)| part.archive()).max()
    }

    /// After a rebuild: the oldest archive, by version and ordinal, from which on every row that the version resolves to is the one
    /// that it resolved to when it was made. A key is written once in an archive, so the rows of the archive that [`Needs::missing`]
    /// names are certain, and all of later ones. Unless one of those resolves to more rows than were needed: then a row counts that
    /// belongs to no version, left by an attempt of which nothing but its parts was met, and only what is newer than it is certain.
    pub fn certain_from(&self, found: &Needs) -> (i64, u32) {
        let needed = |part| self.0.get(part).map_or(0, |need| need.rows);
        let from = self.missing(found).unwrap_or_default();
        let over = found.0.iter().filter(|(part, n)| n.rows > needed(part));
        let over = over
            .map(|(part, _)| part.archive())
            .filter(|at| *at >= from)
            .max();
        over.map_or(from, |(version, ordinal)| (version, ordinal + 1))
    }
}

/// The parts that something touches, the one that it begins in first.
fn touched(spans: &[Span], at: Extent) -> impl Iterator<Item = &Span> {
    let begin = (at.archive_ordinal, at.tar_offset);
    let end = at.tar_offset.saturating_add(at.tar_length.max(1));
    let first = spans.partition_point(|s| (s.part.archive_ordinal, s.end_tar_offset) <= begin);
    spans[first..]
        .iter()
        .take_while(move |s| s.part.archive_ordinal == begin.0 && s.first_tar_offset < end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(archive_ordinal: u32, part_number: u32) -> Part {
        Part {
            version: i64::from(archive_ordinal),
            archive_ordinal,
            part_number,
        }
    }

    fn spans() -> Vec<Span> {
        [(1, 1), (1, 2), (1, 3), (2, 1)]
            .map(|(archive, number)| Span {
                part: part(archive, number),
                first_tar_offset: u64::from(number - 1) * 1_000,
                end_tar_offset: u64::from(number) * 1_000,
            })
            .to_vec()
    }

    #[test]
    fn a_file_over_several_parts_needs_them_all_and_counts_once() {
        let mut needs = Needs::default();
        let at = |tar_offset, tar_length| Extent {
            archive_ordinal: 1,
            tar_offset,
            tar_length,
        };
        needs.entry(&spans(), at(999, 1_002), 7);
        needs.header(&spans(), at(2_999, 1));
        needs.entry(&spans(), at(3_000, 1), 9);
        needs.row(part(2, 1));
        let found: Vec<_> = needs
            .iter()
            .map(|(part, n)| (part.part_number, n.rows, n.entries, n.bytes))
            .collect();
        assert_eq!(
            found,
            [(1, 0, 1, 7), (2, 0, 0, 0), (3, 0, 0, 0), (1, 1, 0, 0)]
        );
    }

    #[test]
    fn what_is_missing_is_dated_by_the_newest_part_that_lacks_rows() {
        let (mut needs, mut found) = (Needs::default(), Needs::default());
        for at in [part(1, 1), part(1, 2), part(2, 1)] {
            needs.row(at);
        }
        assert_eq!(needs.missing(&needs), None);
        found.row(part(1, 1));
        found.row(part(1, 1));
        assert_eq!(needs.missing(&found), Some((2, 2)));
        found.row(part(2, 1));
        assert_eq!(needs.missing(&found), Some((1, 1)));
    }

    #[test]
    fn what_resolves_to_the_newest_archive_that_lacks_rows_or_above_is_certain_but_for_what_is_too_much()
     {
        let (mut needs, mut found) = (Needs::default(), Needs::default());
        for at in [part(1, 1), part(2, 1), part(2, 2), part(3, 1)] {
            needs.row(at);
        }
        assert_eq!(needs.certain_from(&needs), (0, 0));
        // The second part of the second archive was not met: what it has resolves to an older row now, or to none.
        for at in [part(1, 1), part(1, 1), part(2, 1), part(3, 1)] {
            found.row(at);
        }
        assert_eq!(needs.certain_from(&found), (2, 2));
        // A row of the third archive stands where none was.
        found.row(part(3, 1));
        assert_eq!(needs.certain_from(&found), (3, 4));
    }
}
