//! Packing: the steps of a walk become tar, records and pages, cut into segments.
//!
//! Owns what an archive holds and in which order, and that it is right whatever happens to the files meanwhile. Knows
//! neither compression nor network; memory does not grow with the tree but for files with several names.
//!
//! Of a run with a base only what differs is written: entries whose bytes the base has take place from there, and a page
//! is held against the base's rows before it becomes a record. Where nothing differs at all there is no archive.
//! Of a backup with several streams each has a packer of its own, on a thread of its own; they share nothing but the table of
//! files with several names.

mod copies;
mod dictionaries;
mod names;
mod pages;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use taf_format::entry::{Extent, Kind, Metadata};
use taf_format::page::{self, Dictionaries, Encoder, HASH, Place};
use taf_format::record::{self, Record};
use taf_format::segment::{Cutter, Identity, RawSegment};
use taf_format::tar::{self, END_OF_ARCHIVE, encode};
use taf_tree::walk::Item;
use taf_tree::{Digest, Issue, IssueKind, OpenFile};
use tokio_util::sync::CancellationToken;

pub use self::copies::{Copies, Missing, copy};
use self::dictionaries::Needed;
use super::ahead::{compare, extents};
use super::links::{Carried, Carrier, Links, Met};
use super::listing::OpenListing;
use super::merge::{Against, Row, is_racy, kept};
use super::step::{Content, Entered, Found, Kept, Link, Step};
use crate::fault;
use crate::ordered::Closed;
use crate::progress::Counters;

/// Bytes read from a large file at a time.
const BUFFER: usize = 256 << 10;
/// Most bytes given to the cutter at once.
const PUSH: usize = 1 << 20;

/// Why an archive was not finished.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Asked to stop, or nobody takes the segments any more.
    #[error("packing was stopped")]
    Stopped,
    /// The walk died.
    #[error("the walk ended before it was done; see the log")]
    WalkLost,
    /// The base, or what is copied, can't be had.
    #[error("{0}")]
    Base(fault::Error),
    /// Files that are to be copied can't be read back.
    #[error("{0} files can't be read back")]
    Damaged(u64),
    /// A segment or record is impossible.
    #[error("a segment can't be made: {0}")]
    Segment(#[from] taf_format::segment::Error),
    /// A page is impossible.
    #[error("a page can't be made: {0}")]
    Page(#[from] page::Error),
}

impl From<Closed> for Error {
    fn from(_: Closed) -> Self {
        Self::Stopped
    }
}

/// What an archive holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Sequence of the last segment.
    pub last_sequence: u64,
    /// All but directories, further names included.
    pub files: u64,
    /// Directories, without the root.
    pub directories: u64,
    /// Apparent bytes, each inode once.
    pub bytes: u64,
    /// Length of the tar stream.
    pub tar_bytes: u64,
    /// Nothing differs from the base, and there is no archive.
    pub unchanged: bool,
}

/// Where a packer's results go.
pub struct Outlets<'a> {
    /// Told once, before the first byte: there will be an archive.
    pub begins: &'a mut dyn FnMut(),
    /// Takes segments in order; waits while there are too many.
    pub segments: &'a mut dyn FnMut(RawSegment) -> Result<(), Closed>,
    /// Takes issues.
    pub issues: &'a mut dyn FnMut(Issue),
    /// Shows how far it is.
    pub counters: &'a Counters,
    /// Ends it.
    pub stop: &'a CancellationToken,
}

/// What the archive is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode {
    /// What the rows are held against.
    pub against: Against,
    /// Whether there is an archive even if there is nothing to write: a full has one, also of nothing.
    pub always: bool,
}

impl Mode {
    /// A run without a base.
    pub const FULL: Self = Self {
        against: Against::Nothing,
        always: true,
    };
}

/// Packs `steps` into the archive `identity`. `links` are the backup's, `dictionaries` its line's.
pub fn pack(
    steps: impl Iterator<Item = Step>,
    identity: Identity,
    mode: Mode,
    links: &Links,
    dictionaries: Dictionaries,
    outlets: Outlets<'_>,
) -> Result<Totals, Error> {
    let mut packer = Packer::new(identity, mode, links, dictionaries, outlets)?;
    for step in steps {
        if packer.out.stop.is_cancelled() {
            return Err(Error::Stopped);
        }
        match step {
            Step::Enter(entered) => packer.enter(*entered)?,
            Step::Entry(found) => packer.entry(*found)?,
            Step::Kept(kept) => packer.kept(*kept)?,
            Step::Leave { complete } => packer.leave(complete)?,
            Step::Row(row) => packer.rows.push_back(row),
            Step::Gone(row) => packer.gone(&row)?,
            Step::Carried(row) => packer.carried(&row)?,
            Step::CarriedPage(page, row) => packer.carried_page(&page, &row)?,
            Step::Issue(issue) => (packer.out.issues)(issue),
            Step::Lost(error) => return Err(Error::Base(error)),
            Step::End => return packer.finish(),
        }
    }
    Err(if packer.out.stop.is_cancelled() {
        Error::Stopped
    } else {
        Error::WalkLost
    })
}

/// Where an entry's content comes from.
enum Source {
    Nothing,
    Ready(Content),
    Open(OpenFile, Option<Vec<Extent>>),
}

impl Source {
    fn extents(&self) -> Option<&[Extent]> {
        match self {
            Self::Nothing => None,
            Self::Ready(content) => content.extents.as_deref(),
            Self::Open(_, extents) => extents.as_deref(),
        }
    }
}

struct Packer<'a, 'l> {
    out: Outlets<'a>,
    cutter: Cutter,
    begun: bool,
    mode: Mode,
    encoder: Encoder,
    dictionaries: Needed,
    ordinal: u32,
    links: &'l Links,
    /// The directories entered and not yet left; `None` when the page is written, or can't be.
    open: Vec<Option<OpenListing>>,
    /// What the base has of the directory entered last, and no chunk was held against yet.
    rows: VecDeque<Arc<Row>>,
    totals: Totals,
    buffer: Vec<u8>,
    /// Entries that could not be copied. From the first one on nothing more is written: the others are only looked for.
    damaged: u64,
}

impl<'a, 'l> Packer<'a, 'l> {
    fn new(
        identity: Identity,
        mode: Mode,
        links: &'l Links,
        dictionaries: Dictionaries,
        out: Outlets<'a>,
    ) -> Result<Self, Error> {
        let ordinal = identity.archive_ordinal;
        let dictionaries = Needed::new(ordinal, dictionaries);
        Ok(Self {
            out,
            cutter: Cutter::new(identity),
            begun: false,
            mode,
            encoder: dictionaries.encoder()?,
            dictionaries,
            ordinal,
            links,
            open: Vec::new(),
            rows: VecDeque::new(),
            totals: Totals::default(),
            buffer: Vec::new(),
            damaged: 0,
        })
    }
}

impl Packer<'_, '_> {
    fn enter(&mut self, entered: Entered) -> Result<(), Error> {
        self.end_page(true)?;
        let Entered {
            directory,
            mut stat,
            kept,
        } = entered;
        let path = &directory.path;
        if !path.is_empty() {
            self.out.counters.path(path);
            self.totals.directories += 1;
            Counters::add(&self.out.counters.directories, 1);
        }
        if !kept && !path.is_empty() {
            let mut meta = directory.meta.clone();
            let Some(header) = self.header(path, &mut meta, encode::Content::Data) else {
                self.open.push(None);
                return Ok(());
            };
            let length = header.len() as u64;
            let place = self.begin(length)?;
            self.push(&header)?;
            self.record(entry_record(path, &meta, place, length, None))?;
            stat.place = Some(place);
            stat.tar_length = length;
        }
        let page = OpenListing::new(path, stat, directory.listing, directory.names);
        self.open.push(Some(page));
        Ok(())
    }

    fn leave(&mut self, complete: bool) -> Result<(), Error> {
        self.end_page(complete)?;
        self.open.pop();
        Ok(())
    }

    /// Ends the page of the directory entered last: all that is in it and no directory has been packed.
    fn end_page(&mut self, complete: bool) -> Result<(), Error> {
        if let Some(page) = self.open.last_mut().and_then(Option::take) {
            for page in page.finish(complete)? {
                self.page(&page)?;
            }
        }
        while let Some(row) = self.rows.pop_front() {
            self.gone(&row)?;
        }
        Ok(())
    }

    fn entry(&mut self, mut found: Found) -> Result<(), Error> {
        let link = Link::of(found.item.device, &found.item.meta);
        if let Some(link) = &link {
            match self.links.meet(self.ordinal, link) {
                Met::New => {}
                Met::Again { here, listed } => return self.further_name(&found, &here, &listed),
                Met::Different => self.is_different(&found.item.path),
            }
        }
        if self.has_same_content(&mut found, link.as_ref())
            && let Some(old) = &found.old
        {
            let entry = kept(old, &found.item.meta, found.seen, found.rules);
            return self.kept(Kept { entry, link });
        }
        let Item {
            path, meta, file, ..
        } = &mut found.item;
        self.out.counters.path(path);
        let mut source = match (found.content.take(), file.take()) {
            (Some(content), _) => Source::Ready(content),
            (None, Some(file)) => {
                let extents = extents(&file);
                Source::Open(file, extents)
            }
            (None, None) => Source::Nothing,
        };
        let path = path.clone();
        let what = source
            .extents()
            .map_or(encode::Content::Data, encode::Content::Sparse);
        let Some(header) = self.header(&path, meta, what) else {
            return self.list(&found, None);
        };
        let data = encode::data_length(meta, what);
        let padding = tar::padding(data);
        let tar_length = header.len() as u64 + data + padding as u64;
        let place = self.begin(tar_length)?;
        self.push(&header)?;
        let (hash, fault) = match &mut source {
            Source::Nothing => (None, None),
            Source::Ready(content) => {
                self.push(&content.bytes)?;
                Counters::add(&self.out.counters.bytes, content.bytes.len() as u64);
                (content.hash, content.fault.take())
            }
            Source::Open(..) => self.stream(source)?,
        };
        self.push(&[0; tar::BLOCK][..padding])?;
        let changed = fault.is_some();
        if let Some(fault) = fault {
            self.issue(&path, fault.kind, fault.reason);
        }
        self.record(entry_record(
            &path,
            &found.item.meta,
            place,
            tar_length,
            hash,
        ))?;
        self.count_file();
        let carrier = Carrier {
            path,
            place,
            tar_length,
            blake3: hash,
            hash: hash.and_then(|hash| hash.first_chunk().copied()),
            changed,
        };
        if let Some(link) = &link {
            match self.links.carry(link, &carrier) {
                Carried::First => {}
                Carried::Again(first) => return self.list(&found, Some(&first)),
                Carried::Different => self.is_different(&carrier.path),
            }
        }
        self.totals.bytes += found.item.meta.size;
        self.list(&found, Some(&carrier))
    }

    /// Whether the base has the content of an entry that differs in something else, or may.
    fn has_same_content(&self, found: &mut Found, link: Option<&Link>) -> bool {
        let Some(old) = &found.old else { return false };
        // Another name of it was found to be so.
        let place = link.and_then(|link| self.links.place(link));
        if place.is_some() && place == old.place {
            return true;
        }
        if let Some(content) = &found.content {
            let same =
                |hash: [u8; 32]| Some(&hash[..HASH]) == old.hash.as_ref().map(|old| &old[..]);
            return content.fault.is_none() && content.hash.is_some_and(same);
        }
        if found.compared.is_none() {
            compare(found, self.out.stop);
        }
        found.compared == Some(true)
    }

    /// Reads a file into the archive. Returns its hash and what happened to it meanwhile.
    fn stream(
        &mut self,
        source: Source,
    ) -> Result<(Option<[u8; 32]>, Option<taf_tree::content::Fault>), Error> {
        let Source::Open(file, extents) = source else {
            return Ok((None, None));
        };
        let mut digest = Digest::new(file.size(), extents.as_deref());
        let mut reader = file.into_reader(extents);
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(BUFFER, 0);
        loop {
            if self.out.stop.is_cancelled() {
                return Err(Error::Stopped);
            }
            let read = reader.read(&mut buffer);
            if read == 0 {
                break;
            }
            digest.update(&buffer[..read]);
            self.push(&buffer[..read])?;
            Counters::add(&self.out.counters.bytes, read as u64);
        }
        self.buffer = buffer;
        Ok((digest.finish(), reader.finish()))
    }

    fn count_file(&mut self) {
        self.totals.files += 1;
        Counters::add(&self.out.counters.files, 1);
    }

    /// Adds an entry to its directory's page. Without a carrier nothing of it is stored, and an issue said so.
    fn list(&mut self, found: &Found, carrier: Option<&Carrier>) -> Result<(), Error> {
        let meta = &found.item.meta;
        let mut entry = page::Entry::new(found.item.name().to_vec(), meta);
        if let Some(carrier) = carrier {
            entry.place = Some(carrier.place);
            entry.tar_length = carrier.tar_length;
            entry.hash = carrier.hash;
            entry.changed_while_read = carrier.changed;
        }
        entry.racy = is_racy(meta, found.seen, found.rules) || entry.changed_while_read;
        self.push_entry(entry)
    }

    fn push_entry(&mut self, entry: page::Entry) -> Result<(), Error> {
        let path = self.path_of(&entry.name);
        let Some(Some(open)) = self.open.last_mut() else {
            return Ok(());
        };
        match open.push(entry) {
            Ok(pages) => {
                for page in pages {
                    self.page(&page)?;
                }
            }
            Err(error) => self.issue(&path, IssueKind::Unsupported, error.to_string()),
        }
        Ok(())
    }

    /// The header of an entry, or an issue. What tar can't hold of its attributes is left out, with an issue.
    fn header(
        &mut self,
        path: &[u8],
        meta: &mut Metadata,
        what: encode::Content<'_>,
    ) -> Option<Vec<u8>> {
        let mut made = encode::header(path, meta, what);
        if let Err(error @ encode::Error::TooLarge { .. }) = &made {
            self.issue(path, IssueKind::XattrUnreadable, error.to_string());
            meta.xattrs.clear();
            made = encode::header(path, meta, what);
        }
        made.map_err(|error| self.issue(path, IssueKind::Unsupported, error.to_string()))
            .ok()
    }

    fn issue(&mut self, path: &[u8], kind: IssueKind, reason: impl Into<String>) {
        (self.out.issues)(Issue {
            path: path.to_vec(),
            kind,
            reason: reason.into(),
        });
    }

    /// The next tar byte begins an entry of this length.
    fn begin(&mut self, tar_length: u64) -> Result<Place, Error> {
        let place = Place {
            archive_ordinal: self.ordinal,
            tar_offset: self.cutter.tar_offset(),
        };
        if self.damaged == 0 {
            self.cutter.entry_starts(tar_length)?;
        }
        Ok(place)
    }

    /// There will be an archive.
    fn begins(&mut self) {
        if !self.begun {
            self.begun = true;
            (self.out.begins)();
        }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if self.damaged > 0 {
            return Ok(());
        }
        self.begins();
        for piece in bytes.chunks(PUSH) {
            self.cutter.push_tar(piece);
            self.hand_on()?;
        }
        Ok(())
    }

    fn record(&mut self, entry: record::Entry) -> Result<(), Error> {
        self.put(&record::entry(entry))
    }

    fn put(&mut self, record: &Record) -> Result<(), Error> {
        if self.damaged > 0 {
            return Ok(());
        }
        self.begins();
        self.cutter.push_record(record)?;
        self.hand_on()
    }

    fn hand_on(&mut self) -> Result<(), Error> {
        while let Some(segment) = self.cutter.ready() {
            (self.out.segments)(segment)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Totals, Error> {
        if self.damaged > 0 {
            return Err(Error::Damaged(self.damaged));
        }
        if !self.begun && !self.mode.always {
            self.totals.unchanged = true;
            return Ok(self.totals);
        }
        for dictionary in self.dictionaries.at_end(self.cutter.tar_offset()) {
            self.put(&dictionary)?;
        }
        self.push(&END_OF_ARCHIVE)?;
        let mut totals = self.totals;
        totals.tar_bytes = self.cutter.tar_offset();
        for segment in self.cutter.finish() {
            totals.last_sequence = segment.header.sequence;
            (self.out.segments)(segment)?;
        }
        Ok(totals)
    }
}

fn entry_record(
    path: &[u8],
    meta: &Metadata,
    place: Place,
    tar_length: u64,
    hash: Option<[u8; 32]>,
) -> record::Entry {
    let kind = match meta.kind {
        Kind::File => record::Kind::File,
        Kind::Directory => record::Kind::Directory,
        Kind::Symlink => record::Kind::Symlink,
        Kind::Fifo => record::Kind::Fifo,
        Kind::CharDevice => record::Kind::CharDevice,
        Kind::BlockDevice => record::Kind::BlockDevice,
    };
    record::Entry {
        path: Bytes::copy_from_slice(path),
        kind: kind.into(),
        size: meta.size,
        mtime_seconds: meta.mtime.seconds,
        mtime_nanos: meta.mtime.nanos,
        ctime_seconds: meta.ctime.seconds,
        ctime_nanos: meta.ctime.nanos,
        mode: meta.mode,
        uid: meta.uid,
        gid: meta.gid,
        blake3: hash.map_or_else(Bytes::new, |hash| Bytes::copy_from_slice(&hash)),
        tar_offset: place.tar_offset,
        tar_length,
        hard_link_to: Bytes::new(),
    }
}
