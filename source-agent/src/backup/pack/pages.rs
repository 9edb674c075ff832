//! Chunks against the base's rows: what becomes a record, and what is buried or carried.

use taf_format::entry::Kind;
use taf_format::page::{self, Page};
use taf_format::record;

use super::{Error, Packer};
use crate::backup::merge::{Carry, Row};

impl Packer<'_, '_> {
    /// A chunk of the directory entered last: written if the base has not the same. What the base has between it and the one
    /// before is gone.
    pub(super) fn page(&mut self, page: &Page) -> Result<(), Error> {
        if self.rows.is_empty() {
            return self.write_page(page);
        }
        let chunk = page.chunk();
        let mut takes = true;
        while let Some(row) = self.rows.pop_front() {
            if row.key == chunk {
                takes = row.takes(page, self.mode.against);
                break;
            }
            if row.begins_behind(page) {
                self.rows.push_front(row);
                break;
            }
            self.gone(&row)?;
        }
        if takes {
            self.write_page(page)?;
        }
        Ok(())
    }

    pub(super) fn gone(&mut self, row: &Row) -> Result<(), Error> {
        if row.buries() {
            self.put(&record::tombstone(row.key.clone()))?;
        }
        Ok(())
    }

    pub(super) fn carried(&mut self, row: &Row) -> Result<(), Error> {
        if let Some(head) = &row.head {
            self.count_carried(&head.page);
        }
        match row.carry(self.mode.against) {
            Carry::Nothing => Ok(()),
            Carry::Tombstone => self.put(&record::tombstone(row.key.clone())),
            Carry::Page(known) => self.put_page(record::Page {
                chunk: row.key.clone().into(),
                body: known.body.clone(),
                hashes: known.hashes.clone(),
            }),
        }
    }

    pub(super) fn carried_page(&mut self, page: &Page, row: &Row) -> Result<(), Error> {
        self.end_page(true)?;
        self.count_carried(page);
        if row.takes(page, self.mode.against) {
            self.write_page(page)?;
        }
        Ok(())
    }

    /// Of carried files with several names each counts for itself.
    fn count_carried(&mut self, page: &Page) {
        let directory = page.header.is_some() && !page.directory.is_empty();
        self.totals.directories += u64::from(directory);
        let files = page.entries.iter();
        for entry in files.filter(|entry| entry.kind != Kind::Directory) {
            self.totals.files += 1;
            self.totals.bytes += entry.size;
        }
    }

    pub(super) fn write_page(&mut self, page: &Page) -> Result<(), Error> {
        let encoded = self.encoder.encode(page)?;
        self.put_page(record::Page {
            chunk: encoded.chunk.into(),
            body: encoded.body.into(),
            hashes: encoded.hashes.into(),
        })?;
        Ok(self.dictionaries.follow(&mut self.encoder)?)
    }

    fn put_page(&mut self, page: record::Page) -> Result<(), Error> {
        let id = page::dictionary_of(&page.body)?;
        let (tar, length) = (
            self.cutter.tar_offset(),
            page.body.len() + page.hashes.len(),
        );
        if let Some(dictionary) = self.dictionaries.before(id, tar, length) {
            self.put(&dictionary)?;
        }
        self.put(&record::page(page))
    }
}
