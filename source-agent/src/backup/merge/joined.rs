//! The base's streams as one: rows in the order of keys.

use std::sync::Arc;

use taf_format::page::{self, Decoder, Dictionaries, Page};
use taf_proto::agent::BasePage;
use taf_proto::path::display;

use super::row::{Known, Row, Staged};

/// Why pages of a base can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It does not decode.
    #[error("the base's page of {} can't be read: {source}", display(chunk))]
    Page {
        /// Its key.
        chunk: Vec<u8>,
        /// Why.
        source: page::Error,
    },
    /// They do not come in the order of their keys.
    #[error(
        "the base's pages are not in the order of their keys at {}",
        display(chunk)
    )]
    Order {
        /// The key that comes too late.
        chunk: Vec<u8>,
    },
    /// A page of a published version has no body.
    #[error("the base has a page without a body: {}", display(chunk))]
    Empty {
        /// Its key.
        chunk: Vec<u8>,
    },
}

/// Whose pages a stream has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// The head's.
    Head,
    /// The full's.
    Full,
    /// Of what earlier attempts committed.
    Staged,
}

/// Makes rows of pages.
#[derive(Debug)]
pub struct Joiner {
    decoder: Decoder,
}

impl Joiner {
    /// Of pages that use these dictionaries.
    pub fn new(dictionaries: Dictionaries) -> Self {
        Self {
            decoder: Decoder::new(dictionaries),
        }
    }

    /// Adds a page to the row of its key. Head and full mostly have the same page, which is then decoded once.
    ///
    /// # Errors
    /// A page that does not decode.
    pub fn add(&mut self, row: &mut Row, from: Layer, page: BasePage) -> Result<(), Error> {
        let chunk = page.chunk.to_vec();
        if page.body.is_empty() {
            if from != Layer::Staged {
                return Err(Error::Empty { chunk });
            }
            row.staged = Some(Staged::Tombstone);
            return Ok(());
        }
        let twin = [row.head.as_ref(), row.full.as_ref()]
            .into_iter()
            .flatten()
            .find(|known| known.body == page.body && known.hashes == page.hashes);
        let known = match twin {
            Some(known) => Arc::clone(known),
            None => Arc::new(Known {
                page: self.decode(&page)?,
                body: page.body,
                hashes: page.hashes,
            }),
        };
        match from {
            Layer::Head => row.head = Some(known),
            Layer::Full => row.full = Some(known),
            Layer::Staged => row.staged = Some(Staged::Page(known)),
        }
        Ok(())
    }

    fn decode(&mut self, page: &BasePage) -> Result<Page, Error> {
        self.decoder
            .decode(&page.chunk, &page.body, Some(&page.hashes))
            .map_err(|source| Error::Page {
                chunk: page.chunk.to_vec(),
                source,
            })
    }
}

/// Joins streams of pages, each in the order of its keys.
#[derive(Debug)]
pub struct Joined<I> {
    streams: Vec<(Layer, I)>,
    waiting: Vec<Option<BasePage>>,
    joiner: Joiner,
    last: Option<Vec<u8>>,
    begun: bool,
}

impl<I, E> Joined<I>
where
    I: Iterator<Item = Result<BasePage, E>>,
    E: From<Error>,
{
    /// Joins these, whose pages use these dictionaries.
    pub fn new(streams: Vec<(Layer, I)>, dictionaries: Dictionaries) -> Self {
        Self {
            waiting: vec![None; streams.len()],
            streams,
            joiner: Joiner::new(dictionaries),
            last: None,
            begun: false,
        }
    }

    fn refill(&mut self, index: usize) -> Result<(), E> {
        self.waiting[index] = self.streams[index].1.next().transpose()?;
        Ok(())
    }

    /// The next row.
    ///
    /// # Errors
    /// A stream's, and pages that can't be used.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Row>, E> {
        if !self.begun {
            self.begun = true;
            for index in 0..self.streams.len() {
                self.refill(index)?;
            }
        }
        let first = self.waiting.iter().flatten().map(|page| &page.chunk).min();
        let Some(key) = first.map(|key| key.to_vec()) else {
            return Ok(None);
        };
        if self.last.as_ref().is_some_and(|last| *last >= key) {
            return Err(Error::Order { chunk: key }.into());
        }
        let mut row = Row::default();
        for index in 0..self.streams.len() {
            if let Some(page) = self.waiting[index].take_if(|page| page.chunk == key) {
                self.joiner.add(&mut row, self.streams[index].0, page)?;
                self.refill(index)?;
            }
        }
        self.last = Some(key.clone());
        row.key = key;
        Ok(Some(row))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use taf_format::page::encode;

    fn page(path: &str, mode: u32) -> BasePage {
        let header = page::DirectoryStat {
            mode,
            ..page::DirectoryStat::default()
        };
        let encoded = encode(
            &Page {
                directory: path.into(),
                header: Some(header),
                ..Page::default()
            },
            None,
        )
        .unwrap();
        BasePage {
            chunk: encoded.chunk.into(),
            body: encoded.body.into(),
            hashes: encoded.hashes.into(),
        }
    }

    fn rows(streams: Vec<(Layer, Vec<BasePage>)>) -> Result<Vec<Row>, Error> {
        let streams = streams
            .into_iter()
            .map(|(from, pages)| (from, pages.into_iter().map(Ok)));
        let mut joined = Joined::new(streams.collect(), Dictionaries::new());
        let mut rows = Vec::new();
        while let Some(row) = joined.next()? {
            rows.push(row);
        }
        Ok(rows)
    }

    #[test]
    fn streams_become_rows_in_the_order_of_keys() {
        let tombstone = BasePage {
            body: bytes::Bytes::new(),
            ..page("b", 0)
        };
        let rows = rows(vec![
            (Layer::Head, vec![page("", 1), page("a", 1)]),
            (Layer::Full, vec![page("", 1), page("a/b", 1)]),
            (Layer::Staged, vec![page("a", 2), tombstone]),
        ])
        .unwrap();
        let keys: Vec<_> = rows.iter().map(|row| row.key.as_slice()).collect();
        assert_eq!(keys, [&b""[..], b"a", b"a\0b", b"b"]);
        assert!(Arc::ptr_eq(
            rows[0].head.as_ref().unwrap(),
            rows[0].full.as_ref().unwrap()
        ));
        assert!(rows[1].head.is_some() && rows[1].staged_page().is_some());
        assert!(rows[2].head.is_none() && rows[2].full.is_some());
        assert_eq!(rows[3].staged, Some(Staged::Tombstone));
    }

    #[test]
    fn pages_out_of_order_and_damaged_ones_are_refused() {
        let unsorted = rows(vec![(Layer::Head, vec![page("b", 1), page("a", 1)])]);
        assert!(matches!(unsorted, Err(Error::Order { .. })));
        let mut cut = page("a", 1);
        cut.body = cut.body.slice(..3);
        assert!(matches!(
            rows(vec![(Layer::Head, vec![cut])]),
            Err(Error::Page { .. })
        ));
    }
}
