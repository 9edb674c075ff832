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
            let sum = self.0.entry(part).or_default();
            sum.rows += need.rows;
            sum.entries += need.entries;
            sum.bytes += need.bytes;
        }
    }

    /// The parts, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (Part, Need)> + '_ {
        self.0.iter().map(|(part, need)| (*part, *need))
    }

    /// After a rebuild: the newest archive, by version and ordinal, of which a part lacks rows that are needed, given how many
    /// rows of each part the version resolves to now. Whatever resolves to a row of an archive below it is not known to be as
    /// it was (rule 14): it may have been followed by one that is missing, in the same version if an attempt was gone on with.
    pub fn missing(&self, found: &Needs) -> Option<(i64, u32)> {
        let rows = |part| found.0.get(part).map_or(0, |need| need.rows);
        let short = self.0.iter().filter(|(part, need)| rows(part) < need.rows);
        short.map(|(part, _)| part.archive()).max()
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
}
