//! Rows of a part on their way from a cartridge into the catalog.

use futures::Stream;
use taf_format::index::Body;
use taf_format::{key, limits};
use taf_proto::agent::ReportScanRequest;
use taf_proto::agent::report_scan_request::Message;
use taf_proto::tape::{Dictionary, IndexPartEnd};
use tonic::Status;

use super::next;
use super::part::Met;
use crate::catalog::Error;
use crate::store::pages::NewPage;
use crate::store::{Transaction, dictionaries, rebuilds, unclaimed};

/// Rows that are inserted at once.
const BATCH_ROWS: usize = 256;
/// Bytes at which a batch is inserted.
const BATCH_BYTES: usize = 2 << 20;
/// Bytes of the largest segment table.
const TABLE: usize = 64 << 20;

/// Where rows of a part are put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shelf {
    /// Where versions resolve to them.
    Pages,
    /// Aside, until a closing record claims the part.
    Aside,
    /// They are wanted by nobody.
    Nowhere,
}

/// Rows of a part on their way into the transaction.
pub(super) struct Rows {
    line: i64,
    version: i64,
    ordinal: i32,
    part: i32,
    pub(super) shelf: Shelf,
    pages: Vec<NewPage>,
    bytes: usize,
    pub(super) table: Vec<u8>,
    counts: IndexPartEnd,
}

impl Rows {
    pub(super) fn of(met: &Met, shelf: Shelf) -> Self {
        Self {
            line: met.line,
            version: met.version,
            ordinal: met.ordinal,
            part: met.number,
            shelf,
            pages: Vec::new(),
            bytes: 0,
            table: Vec::new(),
            counts: IndexPartEnd::default(),
        }
    }

    /// Takes all up to the end of the part.
    pub(super) async fn all<S>(
        &mut self,
        tx: &Transaction<'_>,
        messages: &mut S,
    ) -> Result<(), Error>
    where
        S: Stream<Item = Result<ReportScanRequest, Status>> + Unpin,
    {
        let end = loop {
            let Message::Record(record) = next(messages).await? else {
                return Err(Error::Invalid("a part without an end".into()));
            };
            match record.record {
                Some(Body::PartEnd(end)) => break end,
                Some(body) => self.take(tx, body).await?,
                None => {}
            }
        };
        self.insert_on(tx).await?;
        self.counts.table_byte_count = self.table.len() as u64;
        if end != self.counts {
            return Err(Error::Invalid(format!(
                "records of part {} of archive {} are missing",
                self.part, self.ordinal
            )));
        }
        Ok(())
    }

    async fn take(&mut self, tx: &Transaction<'_>, body: Body) -> Result<(), Error> {
        let page = match body {
            Body::Table(bytes) => {
                if self.table.len() + bytes.len() > TABLE {
                    return Err(Error::Invalid("a segment table is too large".into()));
                }
                self.table.extend_from_slice(&bytes);
                return Ok(());
            }
            Body::Dictionary(dictionary) => {
                self.counts.dictionary_count += 1;
                return self.dictionary(tx, dictionary).await;
            }
            Body::Page(page) => {
                self.counts.page_count += 1;
                NewPage {
                    chunk: page.chunk,
                    body: Some((page.body, page.hashes)),
                }
            }
            Body::Tombstone(tombstone) => {
                self.counts.tombstone_count += 1;
                NewPage {
                    chunk: tombstone.chunk,
                    body: None,
                }
            }
            _ => {
                return Err(Error::Invalid(
                    "a record within a part that is none of it".into(),
                ));
            }
        };
        if page.chunk.len() > key::SHORTENED {
            return Err(Error::Invalid("a listing's key is too long".into()));
        }
        let length = page
            .body
            .as_ref()
            .map_or(0, |(body, hashes)| body.len() + hashes.len());
        if length > limits::RECORD {
            return Err(Error::Invalid("a listing is too large".into()));
        }
        self.bytes += page.chunk.len() + length;
        self.pages.push(page);
        if self.pages.len() >= BATCH_ROWS || self.bytes >= BATCH_BYTES {
            self.insert_on(tx).await?;
        }
        Ok(())
    }

    /// A dictionary that the line does not have. Pages that use it may have come before.
    async fn dictionary(&self, tx: &Transaction<'_>, dictionary: Dictionary) -> Result<(), Error> {
        if self.shelf == Shelf::Nowhere {
            return Ok(());
        }
        let mut known = dictionaries::dictionaries(tx, self.line).await?;
        if known.get(dictionary.id).is_none() {
            known
                .insert(dictionary.id, &dictionary.body)
                .map_err(|cause| Error::Invalid(cause.to_string()))?;
            let (id, body) = (dictionary.id, &dictionary.body);
            dictionaries::dictionary_add_on(tx, self.line, id, body).await?;
        }
        Ok(())
    }

    async fn insert_on(&mut self, tx: &Transaction<'_>) -> Result<(), Error> {
        if !self.pages.is_empty() {
            let (line, version) = (self.line, self.version);
            let (part, rows) = ((self.ordinal, self.part), &self.pages);
            match self.shelf {
                Shelf::Pages => rebuilds::page_rebuild_on(tx, line, version, part, rows).await?,
                Shelf::Aside => unclaimed::page_put_aside_on(tx, line, version, part, rows).await?,
                Shelf::Nowhere => {}
            }
        }
        self.pages.clear();
        self.bytes = 0;
        Ok(())
    }
}
