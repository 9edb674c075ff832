//! What of a version one stream is sent: what some of its archives have, or begins on some of its volumes.

use taf_format::page::Place;
use uuid::Uuid;

use crate::store::parts::Located;

/// What of a version is recalled, by the archives that have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Archives {
    /// Whichever.
    #[default]
    All,
    /// Only what is in this one, by its ordinal.
    Only(u32),
    /// All but that.
    Without(u32),
}

impl Archives {
    fn has(self, ordinal: u32) -> bool {
        match self {
            Self::All => true,
            Self::Only(one) => one == ordinal,
            Self::Without(one) => one != ordinal,
        }
    }

    /// What is nowhere is of no use to who copies.
    fn holds(self, place: Option<Place>) -> bool {
        match place {
            Some(place) => self.has(place.archive_ordinal),
            None => self == Self::All,
        }
    }
}

/// What one stream of a restore reads of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Share {
    /// All.
    #[default]
    All,
    /// What begins on the recordings of a turn.
    Turn {
        /// The recordings.
        own: Vec<Uuid>,
        /// Recordings that are other streams'.
        others: Vec<Uuid>,
        /// Whether it also has what is on none of all these: what was copied to another volume while it was counted.
        strays: bool,
    },
}

impl Share {
    /// The share that has these of all recordings, in the order of the restore.
    pub fn of(only: &[Uuid], all: &[Uuid]) -> Self {
        if only.is_empty() {
            return Self::All;
        }
        let others = all.iter().filter(|one| !only.contains(one));
        Self::Turn {
            own: only.to_vec(),
            others: others.copied().collect(),
            strays: all.first().is_some_and(|first| only.contains(first)),
        }
    }
}

/// What of a version is sent: what begins on some of its parts.
pub(super) struct Scope {
    archives: Archives,
    /// All that the archives have, in the order of their bytes.
    parts: Vec<Located>,
    share: Share,
}

impl Scope {
    /// What these archives have of the share; `parts` are all of the version, in the order of their bytes.
    pub fn of(archives: Archives, mut parts: Vec<Located>, share: &Share) -> Self {
        parts.retain(|part| archives.has(part.archive_ordinal as u32));
        Self {
            archives,
            parts,
            share: share.clone(),
        }
    }

    /// Whether something at this place is sent. What has none is so each time: it may be a directory that something else is put in.
    /// What no part has is so once, with what is on no volume that was counted.
    pub fn holds(&self, place: Option<Place>) -> bool {
        let (
            Some(at),
            Share::Turn {
                own,
                others,
                strays,
            },
        ) = (place, &self.share)
        else {
            return self.archives.holds(place);
        };
        let begin = (at.archive_ordinal, at.tar_offset);
        let part = self.parts.partition_point(|part| {
            (part.archive_ordinal as u32, part.end_tar_offset as u64) <= begin
        });
        let mine = match self.parts.get(part) {
            Some(part) if own.contains(&part.recording) => true,
            Some(part) => *strays && !others.contains(&part.recording),
            None => *strays,
        };
        self.archives.holds(place) && mine
    }

    /// The parts that what is sent is on, or goes on in.
    pub fn parts(&self) -> Vec<Located> {
        let parts = self.parts.iter();
        let wanted = parts.filter(|part| match &self.share {
            Share::All => true,
            Share::Turn { others, .. } => !others.contains(&part.recording),
        });
        wanted.cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::part;
    use super::*;

    #[test]
    fn a_stream_gets_what_begins_on_its_volumes() {
        let uuids =
            |ids: &[u128]| -> Vec<Uuid> { ids.iter().copied().map(Uuid::from_u128).collect() };
        // What was on volume 11 when it was counted is on volume 12 now.
        let scope = |only: &[u128]| Scope {
            archives: Archives::All,
            parts: vec![
                part(1, 1, 10, 1),
                part(1, 2, 11, 1),
                part(2, 1, 10, 2),
                part(3, 1, 12, 1),
            ],
            share: Share::of(&uuids(only), &uuids(&[10, 11])),
        };
        let at = |archive_ordinal, tar_offset| {
            Some(Place {
                archive_ordinal,
                tar_offset,
            })
        };
        let places = [at(1, 0), at(1, 100), at(2, 50), at(3, 0), at(9, 0), None];
        let held = |only: &[u128]| {
            let scope = scope(only);
            places.map(|place| scope.holds(place))
        };
        assert_eq!(held(&[]), [true; 6]);
        // Nothing is left out by all of them; only what has no place comes twice.
        assert_eq!(held(&[10]), [true, false, true, true, true, true]);
        assert_eq!(held(&[11]), [false, true, false, false, false, true]);
        assert_eq!(held(&[11, 10]), [true; 6]);
        let on = |only: &[u128]| -> Vec<i64> {
            scope(only)
                .parts()
                .iter()
                .map(|part| part.volume_id)
                .collect()
        };
        assert_eq!(on(&[10]), [10, 10, 12]);
        assert_eq!(on(&[11]), [11, 12]);
    }
}
