//! The dictionaries that an archive's pages need: each is a record before the first page that does, and comes again now and then,
//! so that a tape that begins or ends in the middle of the archive has it, too.

use std::collections::BTreeMap;

use bytes::Bytes;
use taf_format::page::{Dictionaries, Encoder, Error};
use taf_format::record::{self, Dictionary, Record};

/// Bytes of tar after which a dictionary comes again.
const TAR: u64 = 64 << 20;
/// Bytes of pages after which it does.
const PAGES: u64 = 4 << 20;
/// Numbers that an archive may give: those from 16 times its ordinal.
const OWN: u32 = 16;

/// See the module.
pub(super) struct Needed {
    ordinal: u32,
    known: Dictionaries,
    /// How many of its own it has given a number.
    made: u32,
    /// Where in tar and pages each was last put.
    put: BTreeMap<u32, (u64, u64)>,
    /// Bytes of pages so far.
    pages: u64,
}

impl Needed {
    /// For the archive with this ordinal, on a line that has these.
    pub(super) fn new(ordinal: u32, known: Dictionaries) -> Self {
        Self {
            ordinal,
            known,
            made: 0,
            put: BTreeMap::new(),
            pages: 0,
        }
    }

    /// What pages are encoded with: the line's newest dictionary, or one that is still to be learned.
    pub(super) fn encoder(&self) -> Result<Encoder, Error> {
        match self.known.newest() {
            Some(newest) => Encoder::new(Some(newest)),
            None => Encoder::learning(),
        }
    }

    /// Lets the encoder follow what it has learned, if it has.
    pub(super) fn follow(&mut self, encoder: &mut Encoder) -> Result<(), Error> {
        let Some(learned) = encoder.learned() else {
            return Ok(());
        };
        let number = self.ordinal.checked_mul(OWN).filter(|_| self.made < OWN);
        let Some(number) = number.map(|first| first + self.made) else {
            return Ok(());
        };
        self.made += 1;
        self.known.insert(number, &learned)?;
        encoder.follow(number, &learned)
    }

    /// The dictionary's record, if it is to come before a page of this length, `tar` bytes into the archive.
    pub(super) fn before(&mut self, id: Option<u32>, tar: u64, length: usize) -> Option<Record> {
        let due = id.filter(|id| {
            let put = self.put.get(id);
            put.is_none_or(|&(at, pages)| tar - at >= TAR || self.pages - pages >= PAGES)
        });
        let record = due.and_then(|id| self.record(id, tar));
        self.pages += length as u64;
        record
    }

    /// What comes again at the archive's end: a tape may have no other part of it.
    pub(super) fn at_end(&mut self, tar: u64) -> Vec<Record> {
        let ids: Vec<u32> = self.put.keys().copied().collect();
        ids.into_iter()
            .filter_map(|id| self.record(id, tar))
            .collect()
    }

    fn record(&mut self, id: u32, tar: u64) -> Option<Record> {
        let body = Bytes::copy_from_slice(self.known.get(id)?);
        self.put.insert(id, (tar, self.pages));
        Some(record::dictionary(Dictionary { id, body }))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn known() -> Dictionaries {
        let mut known = Dictionaries::new();
        known.insert(16, b"some text that pages have").unwrap();
        known.insert(48, b"some other text that they have").unwrap();
        known
    }

    fn id(record: Option<Record>) -> Option<u32> {
        match record?.record? {
            record::Body::Dictionary(dictionary) => Some(dictionary.id),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_dictionary_comes_before_its_first_page_and_again_now_and_then() {
        let mut needed = Needed::new(5, known());
        assert_eq!(id(needed.before(None, 0, 100)), None);
        assert_eq!(id(needed.before(Some(16), 0, 100)), Some(16));
        assert_eq!(id(needed.before(Some(16), TAR - 1, 100)), None);
        assert_eq!(id(needed.before(Some(48), TAR - 1, 100)), Some(48));
        assert_eq!(id(needed.before(Some(16), TAR, PAGES as usize)), Some(16));
        assert_eq!(id(needed.before(Some(16), TAR + 1, 1)), Some(16));
        assert_eq!(id(needed.before(Some(16), TAR + 1, 1)), None);
        let end: Vec<_> = needed.at_end(TAR + 2).into_iter().map(Some).collect();
        assert_eq!(
            end.into_iter().map(id).collect::<Vec<_>>(),
            [Some(16), Some(48)]
        );
    }

    #[test]
    fn a_line_without_one_learns_its_own_and_numbers_it_by_the_archive() {
        let mut needed = Needed::new(3, Dictionaries::new());
        let mut encoder = needed.encoder().unwrap();
        let mut number = None;
        for nth in 0..2_100_u32 {
            let page = taf_format::page::Page {
                directory: format!("srv/projects/customer-{nth:05}/letters").into_bytes(),
                header: Some(taf_format::page::DirectoryStat {
                    inode: u64::from(nth) * 77,
                    user: b"somebody".to_vec(),
                    group: b"everybody".to_vec(),
                    ..Default::default()
                }),
                ..Default::default()
            };
            let body = encoder.encode(&page).unwrap().body;
            number = taf_format::page::dictionary_of(&body).unwrap();
            needed.follow(&mut encoder).unwrap();
        }
        assert_eq!(number, Some(48));
        assert_eq!(id(needed.before(number, 0, 1)), Some(48));
    }
}
