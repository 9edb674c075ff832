//! What a synthetic full is put together from: the newest version's pages in catalog order, and the members that they name. Those of
//! the largest archive come straight from tape, which is in the same order; all others from the spool.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::Arc;

use taf_format::page::{Page, Place};
use tokio::sync::mpsc;

use super::pages::Pages;
use super::spool::{Kept, Reel, Spool};
use super::{full, noted};
use crate::backup::pack::{Copies, Missing};
use crate::fault::Error;
use crate::issues::Issues;
use crate::progress::Counters;
use crate::restore::plan::{Needs, Order};
use crate::restore::window::Window;

/// The archive that comes straight from tape.
pub struct Tape {
    /// Its ordinal.
    pub ordinal: u32,
    /// What was asked for, in the order of the tape.
    pub orders: mpsc::Receiver<Order>,
    /// What comes.
    pub window: Window,
    /// Shows how far it is.
    pub counters: Arc<Counters>,
}

/// See the module.
pub struct Merge {
    pages: Pages,
    tape: Tape,
    /// An order whose turn has not come.
    ahead: Option<Order>,
    spool: Spool,
    reels: HashMap<u32, Reel>,
    /// Members of the tape with several names that were passed by, by their tar offset.
    loose: HashMap<u64, Kept>,
    issues: Issues,
}

impl Merge {
    /// Merges these.
    pub fn new(pages: Pages, tape: Tape, spool: Spool, issues: Issues) -> Self {
        Self {
            pages,
            tape,
            ahead: None,
            spool,
            reels: HashMap::new(),
            loose: HashMap::new(),
            issues,
        }
    }

    /// Takes what nobody asked for, so that the tape comes to its end.
    fn drain(&mut self) {
        while let Some(order) = self
            .ahead
            .take()
            .or_else(|| self.tape.orders.blocking_recv())
        {
            if let Needs::Segments { last, .. } = order.needs {
                self.tape.window.pass(last);
            }
        }
    }

    fn spooled(&mut self, place: Place) -> Result<Box<dyn Read + '_>, Missing> {
        let reel = match self.reels.entry(place.archive_ordinal) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(new) => {
                let reel = self
                    .spool
                    .reel(place.archive_ordinal)
                    .map_err(|error| lost(&error))?;
                new.insert(reel)
            }
        };
        let kept = reel.find(place.tar_offset).map_err(|error| lost(&error))?;
        let kept = kept.ok_or_else(|| unlisted(place))?;
        given(reel.open(kept))
    }

    fn streamed(&mut self, place: Place, length: u64) -> Result<Box<dyn Read + '_>, Missing> {
        if let Some(kept) = self.loose.remove(&place.tar_offset) {
            return given(self.spool.open(kept));
        }
        loop {
            let order = self.ahead.take();
            let order = order.or_else(|| self.tape.orders.blocking_recv());
            let Some(Order { item, needs }) = order else {
                return Err(unlisted(place));
            };
            if item.tar_offset > place.tar_offset {
                self.ahead = Some(Order { item, needs });
                return Err(unlisted(place));
            }
            let is_it = item.tar_offset == place.tar_offset;
            let (first, last) = match needs {
                Needs::Missing(why) if is_it => return Err(Missing::Damaged(why)),
                // A further name of what came before, or nobody's.
                Needs::Nothing | Needs::Missing(_) => continue,
                Needs::Segments { first, last } => (first, last),
            };
            noted(&self.tape.counters, &item);
            if is_it {
                let bytes = self.tape.window.item(first, last, item.tar_offset);
                return Ok(Box::new(bytes.take(length)));
            }
            if item.link_group != 0 {
                let bytes = self.tape.window.item(first, last, item.tar_offset);
                let mut bytes = bytes.take(item.tar_length);
                let kept = self
                    .spool
                    .keep(item.tar_offset, true, item.tar_length, &mut bytes);
                self.loose
                    .insert(item.tar_offset, kept.map_err(|error| lost(&error))?);
            }
        }
    }
}

impl Copies for Merge {
    fn page(&mut self) -> Result<Option<Page>, Error> {
        let page = self.pages.next()?;
        if page.is_none() {
            self.drain();
        }
        Ok(page)
    }

    fn member(&mut self, place: Place, length: u64) -> Result<Box<dyn Read + '_>, Missing> {
        if place.archive_ordinal == self.tape.ordinal {
            self.streamed(place, length)
        } else {
            self.spooled(place)
        }
    }

    fn ended(&self) -> bool {
        self.tape.window.ended()
    }

    fn damaged(&mut self, path: &[u8], why: String) {
        self.issues.put_blocking(path, "DAMAGED", why);
    }
}

fn given(opened: io::Result<Result<Box<dyn Read>, String>>) -> Result<Box<dyn Read>, Missing> {
    match opened {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(why)) => Err(Missing::Damaged(why)),
        Err(error) => Err(lost(&error)),
    }
}

/// The spool's disk.
fn lost(error: &io::Error) -> Missing {
    Missing::Failed(full(error))
}

fn unlisted(place: Place) -> Missing {
    Missing::Damaged(format!(
        "nothing was read for its place, byte {} of archive {}",
        place.tar_offset, place.archive_ordinal
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::issues;
    use crate::ordered;
    use crate::restore::receive::Delivery;
    use taf_proto::agent::RecallItem;

    const ARCHIVE: u32 = 7;

    /// The tar bytes of an item are its offset, over and over.
    fn segment(number: u64, tar_offset: u64, items: &[u64]) -> Delivery {
        let tar = items.iter().flat_map(|item| [*item as u8; 512]);
        Delivery {
            number,
            tar_offset,
            tar: Ok(tar.collect()),
        }
    }

    fn item(tar_offset: u64, link_group: u64) -> RecallItem {
        RecallItem {
            path: format!("{tar_offset}").into_bytes().into(),
            archive_ordinal: ARCHIVE,
            tar_offset,
            tar_length: 512,
            link_group,
            ..RecallItem::default()
        }
    }

    /// Two segments of four items each, of which the second, third and sixth have several names; the fifth can't be read.
    fn merge() -> Merge {
        let (feed, drain) = ordered::pool("test", 1, 8, || (), |(), delivery| delivery).unwrap();
        feed.put_blocking(segment(0, 0, &[0, 1, 2, 3])).unwrap();
        feed.put_blocking(segment(1, 2048, &[4, 5, 6, 7])).unwrap();
        drop(feed);
        let (sender, orders) = mpsc::channel(16);
        for number in 0..8 {
            let link_group = u64::from([1, 2, 5].contains(&number));
            let needs = match number {
                4 => Needs::Missing("no part has it".into()),
                _ => Needs::Segments {
                    first: number / 4,
                    last: number / 4,
                },
            };
            let item = item(number * 512, link_group);
            sender.blocking_send(Order { item, needs }).unwrap();
            if number == 2 {
                let needs = Needs::Nothing;
                let item = self::item(512, 1);
                sender.blocking_send(Order { item, needs }).unwrap();
            }
        }
        let counters = Arc::new(Counters::default());
        let (issues, _) = issues::queue(Arc::clone(&counters), b"");
        let tape = Tape {
            ordinal: ARCHIVE,
            orders,
            window: Window::new(drain),
            counters,
        };
        let mut spool = Spool::new(&std::env::temp_dir()).unwrap();
        spool.add(3, 1024, false, 512, &mut &[33; 512][..]).unwrap();
        Merge::new(Pages::none(), tape, spool, issues)
    }

    /// The bytes at a place: its first one; or why there are none.
    fn take(merge: &mut Merge, archive_ordinal: u32, number: u64) -> Result<u8, String> {
        let place = Place {
            archive_ordinal,
            tar_offset: number * 512,
        };
        let mut bytes = Vec::new();
        let read = match merge.member(place, 512) {
            Ok(mut source) => source.read_to_end(&mut bytes).map_err(|e| e.to_string()),
            Err(Missing::Damaged(why)) => Err(why),
            Err(Missing::Failed(error)) => Err(error.to_string()),
        };
        assert_eq!(read?, 512);
        assert!(bytes.iter().all(|byte| *byte == bytes[0]));
        Ok(bytes[0])
    }

    #[test]
    fn the_tape_is_read_forward_once_and_names_of_a_file_are_found_later() {
        let mut merge = merge();
        assert_eq!(take(&mut merge, ARCHIVE, 0), Ok(0));
        assert_eq!(take(&mut merge, ARCHIVE, 3), Ok(3));
        assert_eq!(take(&mut merge, 3, 2), Ok(33), "from the spool");
        assert_eq!(take(&mut merge, ARCHIVE, 2), Ok(2), "passed by");
        assert_eq!(take(&mut merge, ARCHIVE, 4), Err("no part has it".into()));
        assert_eq!(take(&mut merge, ARCHIVE, 7), Ok(7));
        assert_eq!(take(&mut merge, ARCHIVE, 1), Ok(1));
        assert_eq!(take(&mut merge, ARCHIVE, 5), Ok(5));
        assert!(take(&mut merge, ARCHIVE, 6).is_err(), "it has one name");
        assert!(take(&mut merge, 9, 0).is_err(), "nothing of it was read");
        assert!(!merge.ended());
    }

    #[test]
    fn a_transfer_that_breaks_is_no_damage_of_files() {
        let mut merge = merge();
        merge.tape.window = {
            let (feed, drain) =
                ordered::pool("test", 1, 8, || (), |(), delivery| delivery).unwrap();
            feed.put_blocking(segment(0, 0, &[0, 1, 2, 3])).unwrap();
            drop(feed);
            Window::new(drain)
        };
        assert_eq!(take(&mut merge, ARCHIVE, 0), Ok(0));
        assert!(take(&mut merge, ARCHIVE, 6).is_err());
        assert!(merge.ended());
    }
}
