//! What a restore needs: how much it is, and which of the version's parts have it.

use std::collections::HashSet;

use taf_format::page::Place;

use crate::catalog::select::{Item, covers};
use crate::catalog::{Error, Selection, View};
use crate::store::parts::Located;

/// What a selection amounts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Items that [`stream`](super::stream) sends, the ancestors not counted.
    pub entries: u64,
    /// Apparent bytes, each inode once.
    pub bytes: u64,
}

/// Which of a version's parts hold something of a selection, and how much.
#[derive(Debug)]
pub struct Needed<'a> {
    parts: &'a [Located],
    takes: Vec<Take>,
    joined: Vec<(i64, i64)>,
}

/// What is needed of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Take {
    /// Entries that begin in it, all names of a file as one.
    pub entries: u64,
    /// Bytes of tar.
    pub tar_bytes: u64,
    hit: bool,
}

impl<'a> Needed<'a> {
    /// None of these yet, which are in the order of their bytes.
    fn none(parts: &'a [Located]) -> Self {
        Self {
            parts,
            takes: vec![Take::default(); parts.len()],
            joined: Vec::new(),
        }
    }

    fn take(&mut self, place: Option<Place>, length: u64) {
        let Some(place) = place else { return };
        let begin = (place.archive_ordinal, place.tar_offset);
        let end = (begin.0, begin.1.saturating_add(length));
        let first = self.parts.partition_point(|part| {
            (part.archive_ordinal as u32, part.end_tar_offset as u64) <= begin
        });
        let parts = self.parts.iter().zip(&mut self.takes).skip(first);
        let mut before: Option<i64> = None;
        for (index, (part, take)) in parts.enumerate() {
            let part_begin = (part.archive_ordinal as u32, part.first_tar_offset as u64);
            if part_begin >= end {
                return;
            }
            let joined = before
                .replace(part.volume_id)
                .map(|id| (id, part.volume_id));
            if let Some(pair) = joined.filter(|(one, other)| one != other)
                && !self.joined.contains(&pair)
            {
                self.joined.push(pair);
            }
            let part_end = (part.end_tar_offset as u64).min(end.1);
            take.hit = true;
            take.entries += u64::from(index == 0);
            take.tar_bytes += part_end.saturating_sub(part_begin.1.max(begin.1));
        }
    }

    /// Pairs of volumes that something crosses.
    pub fn joined(&self) -> &[(i64, i64)] {
        &self.joined
    }

    /// The parts, in the order of their bytes.
    pub fn parts(&self) -> impl Iterator<Item = &'a Located> + '_ {
        self.takes().map(|(part, _)| part)
    }

    /// The parts, and what is needed of each.
    pub fn takes(&self) -> impl Iterator<Item = (&'a Located, Take)> + '_ {
        let both = self.parts.iter().zip(&self.takes);
        both.filter(|(_, take)| take.hit)
            .map(|(part, take)| (part, *take))
    }
}

/// Counts a selection, and says which of the version's parts it needs. `target` is the directory that becomes the target itself, and
/// is no entry.
pub async fn count<'a>(
    view: &View,
    selection: &Selection,
    target: &[u8],
    parts: &'a [Located],
) -> Result<(Count, Needed<'a>), Error> {
    let mut needed = Needed::none(parts);
    let mut count = Count::default();
    let mut linked = HashSet::new();
    let mut take = |item: Item, count: &mut Count, needed: &mut Needed| {
        count.entries += 1;
        if item.link_group == 0 || linked.insert(item.place) {
            needed.take(item.place, item.tar_length);
            count.bytes += item.size;
        }
    };
    // Of a whole version the files were found when they were chosen, and need not be looked up again.
    let (items, directories) = selection.apart();
    let mut pages = if view.gap().is_some() {
        selection.pages(view)
    } else {
        for item in items {
            take(item, &mut count, &mut needed);
        }
        directories.pages(view)
    };
    while let Some(page) = pages.next().await? {
        let header = page.header.as_ref();
        if let Some(header) = header.filter(|_| !covers(&page.directory, target)) {
            count.entries += 1;
            needed.take(header.place, header.tar_length);
        }
        for item in page.entries.iter().filter_map(Item::of) {
            take(item, &mut count, &mut needed);
        }
    }
    Ok((count, needed))
}

#[cfg(test)]
mod tests {
    use super::super::tests::part;
    use super::*;

    #[test]
    fn what_is_needed_of_each_part_adds_up() {
        let parts = [part(1, 1, 10, 1), part(1, 2, 11, 1), part(2, 1, 11, 2)];
        let mut needed = Needed::none(&parts);
        let at = |archive_ordinal, tar_offset| {
            Some(Place {
                archive_ordinal,
                tar_offset,
            })
        };
        needed.take(at(1, 90), 30);
        needed.take(at(1, 150), 10);
        needed.take(None, 10);
        let told: Vec<_> = needed
            .takes()
            .map(|(part, take)| (part.volume_id, take.entries, take.tar_bytes))
            .collect();
        assert_eq!(told, [(10, 1, 10), (11, 1, 30)]);
        assert_eq!(needed.joined(), [(10, 11)]);
    }
}
