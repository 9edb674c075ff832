//! What need not be read from tape, since what is at its place would stay: an interrupted restore that is asked for again brings only
//! what is missing. Files with several names are never left out here, for which of them carries the bytes is not known yet; nor are
//! directories, which take what is restored into them.

use std::sync::Arc;

use taf_format::entry::{Kind, Time};
use taf_proto::agent::{EntryStat, RecallItem};
use taf_proto::v1::EntryKind;
use taf_tree::{Collision, Facts, Lookout};

use super::mapping::Mapping;
use super::write::{Allowed, EXISTS, Permit};
use crate::issues::Issues;
use crate::progress::Counters;

/// See the module.
pub struct Sieve {
    /// Looks at the target.
    pub lookout: Lookout,
    /// How it looks.
    pub collision: Collision,
    /// Where things go.
    pub mapping: Mapping,
    /// Where anything may be at all.
    pub permit: Permit,
    /// Takes what exists and was to be left.
    pub issues: Issues,
    /// Counts what is kept.
    pub counters: Arc<Counters>,
}

impl std::fmt::Debug for Sieve {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sieve").finish_non_exhaustive()
    }
}

impl Sieve {
    /// The items that are to be read.
    pub fn sift(&mut self, items: Vec<RecallItem>) -> Vec<RecallItem> {
        let wanted = |item: &RecallItem| !self.stays(item);
        items.into_iter().filter(wanted).collect()
    }

    fn stays(&mut self, item: &RecallItem) -> bool {
        let Some(entry) = item.stat.as_ref().and_then(facts) else {
            return false;
        };
        let Some(place) = self.mapping.place(&item.path) else {
            return false;
        };
        // What is refused there the writer says.
        let allowed = matches!((self.permit)(&place), Ok(Allowed::Write));
        if item.link_group != 0 || !allowed || !self.lookout.stays(&place, entry) {
            return false;
        }
        if self.collision == Collision::Never {
            self.issues.put_blocking(&place, "EXISTS", EXISTS);
        } else {
            Counters::add(&self.counters.kept, 1);
        }
        true
    }
}

/// What the version's page says; none of a controller that does not say it.
fn facts(stat: &EntryStat) -> Option<Facts> {
    let kind = match stat.kind() {
        EntryKind::File => Kind::File,
        EntryKind::Symlink => Kind::Symlink,
        EntryKind::Fifo => Kind::Fifo,
        EntryKind::CharDevice => Kind::CharDevice,
        EntryKind::BlockDevice => Kind::BlockDevice,
        EntryKind::Directory | EntryKind::Unspecified => return None,
    };
    Some(Facts {
        kind,
        size: stat.size,
        mtime: Time {
            seconds: stat.mtime_seconds,
            nanos: stat.mtime_nanos,
        },
    })
}
