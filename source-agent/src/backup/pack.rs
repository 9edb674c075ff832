//! Packing: the steps of a walk become tar, records and pages, cut into segments.
//!
//! Owns what an archive holds and in which order, and that it is right whatever happens to the files meanwhile. Knows
//! neither compression nor network; memory does not grow with the tree but for files with several names. Of a backup with
//! several streams each has a packer of its own, on a thread of its own; they share nothing but the table of those files.

use bytes::Bytes;
use taf_format::entry::{Extent, Kind, Metadata, Time};
use taf_format::page::{self, Encoder, Place};
use taf_format::record::{self, Record};
use taf_format::segment::{Cutter, Identity, RawSegment};
use taf_format::tar::{self, END_OF_ARCHIVE, encode};
use taf_tree::walk::{Directory, Item};
use taf_tree::{Digest, Issue, IssueKind, OpenFile, path};
use tokio_util::sync::CancellationToken;

use super::ahead::{Content, Found, Step, extents};
use super::links::{Carried, Carrier, Links, Met};
use super::listing::OpenListing;
use crate::ordered::Closed;
use crate::progress::Counters;

/// Bytes read from a large file at a time.
const BUFFER: usize = 256 << 10;
/// Most bytes given to the cutter at once.
const PUSH: usize = 1 << 20;
/// Times this near to the time of reading prove nothing, seconds.
const RACY_SECONDS: i64 = 2;

/// Why an archive was not finished.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Asked to stop, or nobody takes the segments any more.
    #[error("packing was stopped")]
    Stopped,
    /// The walk died.
    #[error("the walk ended before it was done; see the log")]
    WalkLost,
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
}

/// Where a packer's results go.
pub struct Outlets<'a> {
    /// Takes segments in order; waits while there are too many.
    pub segments: &'a mut dyn FnMut(RawSegment) -> Result<(), Closed>,
    /// Takes issues.
    pub issues: &'a mut dyn FnMut(Issue),
    /// Shows how far it is.
    pub counters: &'a Counters,
    /// Ends it.
    pub stop: &'a CancellationToken,
}

/// Packs `steps` into the archive `identity`. `links` are the backup's.
pub fn pack<'a>(
    steps: impl Iterator<Item = Step>,
    identity: Identity,
    links: &'a Links,
    outlets: Outlets<'a>,
) -> Result<Totals, Error> {
    let ordinal = identity.archive_ordinal;
    let mut packer = Packer {
        out: outlets,
        cutter: Cutter::new(identity),
        encoder: Encoder::new(None)?,
        ordinal,
        links,
        open: Vec::new(),
        totals: Totals::default(),
        buffer: Vec::new(),
    };
    for step in steps {
        if packer.out.stop.is_cancelled() {
            return Err(Error::Stopped);
        }
        match step {
            Step::Enter(directory) => packer.enter(&directory)?,
            Step::Entry(found) => packer.entry(found)?,
            Step::Leave { complete } => packer.leave(complete)?,
            Step::Issue(issue) => (packer.out.issues)(issue),
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

struct Packer<'a> {
    out: Outlets<'a>,
    cutter: Cutter,
    encoder: Encoder,
    ordinal: u32,
    links: &'a Links,
    /// The directories entered and not yet left; `None` when the page is written, or can't be.
    open: Vec<Option<OpenListing>>,
    totals: Totals,
    buffer: Vec<u8>,
}

impl Packer<'_> {
    fn enter(&mut self, directory: &Directory) -> Result<(), Error> {
        self.end_page(true)?;
        let Directory {
            path,
            meta,
            listing,
            names,
            ..
        } = directory;
        let mut place = None;
        if !path.is_empty() {
            self.out.counters.path(path);
            let mut meta = meta.clone();
            let Some(header) = self.header(path, &mut meta, encode::Content::Data) else {
                self.open.push(None);
                return Ok(());
            };
            let at = self.begin(header.len() as u64)?;
            self.push(&header)?;
            place = Some((at, header.len() as u64));
            self.record(entry_record(path, &meta, at, header.len() as u64, None))?;
            self.totals.directories += 1;
            Counters::add(&self.out.counters.directories, 1);
        }
        let page = OpenListing::new(path, meta, place, *listing, names.clone());
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
        Ok(())
    }

    fn entry(&mut self, found: Found) -> Result<(), Error> {
        let Found {
            item,
            content,
            seen,
        } = found;
        if item.meta.links > 1 {
            match self.links.meet(self.ordinal, item.device, &item.meta) {
                Met::New => {}
                Met::Again { here, listed } => {
                    return self.further_name(&item, &here, &listed, seen);
                }
                Met::Different => self.is_different(&item.path),
            }
        }
        let Item {
            path,
            mut meta,
            device,
            file,
        } = item;
        self.out.counters.path(&path);
        let mut source = match (content, file) {
            (Some(content), _) => Source::Ready(content),
            (None, Some(file)) => {
                let extents = extents(&file);
                Source::Open(file, extents)
            }
            (None, None) => Source::Nothing,
        };
        let what = source
            .extents()
            .map_or(encode::Content::Data, encode::Content::Sparse);
        let Some(header) = self.header(&path, &mut meta, what) else {
            return self.list(&path, &meta, None, seen);
        };
        let data = encode::data_length(&meta, what);
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
        let carrier = Carrier {
            path: path.clone(),
            place,
            tar_length,
            hash,
            changed,
        };
        self.record(entry_record(&path, &meta, place, tar_length, hash))?;
        self.count_file();
        if meta.links > 1 {
            match self.links.carry(device, &meta, &carrier) {
                Carried::First => {}
                Carried::Again(first) => return self.list(&path, &meta, Some(&first), seen),
                Carried::Different => self.is_different(&path),
            }
        }
        self.totals.bytes += meta.size;
        self.list(&path, &meta, Some(&carrier), seen)
    }

    fn is_different(&mut self, path: &[u8]) {
        self.issue(
            path,
            IssueKind::Changed,
            "was changed between two of its names, and is stored again",
        );
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

    /// A name of what this archive has already: `here` in the tar stream, `listed` in the page.
    fn further_name(
        &mut self,
        item: &Item,
        here: &Carrier,
        listed: &Carrier,
        seen: Time,
    ) -> Result<(), Error> {
        let mut meta = item.meta.clone();
        let what = encode::Content::HardLink(&here.path);
        let Some(header) = self.header(&item.path, &mut meta, what) else {
            return self.list(&item.path, &meta, None, seen);
        };
        self.begin(header.len() as u64)?;
        self.push(&header)?;
        let mut entry = entry_record(&item.path, &meta, here.place, here.tar_length, here.hash);
        entry.hard_link_to = Bytes::copy_from_slice(&here.path);
        self.record(entry)?;
        self.list(&item.path, &meta, Some(listed), seen)?;
        self.count_file();
        Ok(())
    }

    fn count_file(&mut self) {
        self.totals.files += 1;
        Counters::add(&self.out.counters.files, 1);
    }

    /// Adds an entry to its directory's page. Without a carrier nothing of it is stored, and an issue said so.
    fn list(
        &mut self,
        path: &[u8],
        meta: &Metadata,
        carrier: Option<&Carrier>,
        seen: Time,
    ) -> Result<(), Error> {
        let name = path::split(path).map_or(&[][..], |(_, name)| name);
        let mut entry = page::Entry::new(name.to_vec(), meta);
        if let Some(carrier) = carrier {
            entry.place = Some(carrier.place);
            entry.tar_length = carrier.tar_length;
            entry.hash = carrier.hash.and_then(|hash| hash.first_chunk().copied());
            entry.changed_while_read = carrier.changed;
        }
        let newest = meta.ctime.max(meta.mtime);
        let limit = Time {
            seconds: seen.seconds - RACY_SECONDS,
            ..seen
        };
        entry.racy = newest >= limit || entry.changed_while_read;
        let Some(Some(open)) = self.open.last_mut() else {
            return Ok(());
        };
        match open.push(entry) {
            Ok(pages) => {
                for page in pages {
                    self.page(&page)?;
                }
            }
            Err(error) => self.issue(path, IssueKind::Unsupported, error.to_string()),
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
        self.cutter.entry_starts(tar_length)?;
        Ok(place)
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), Error> {
        for piece in bytes.chunks(PUSH) {
            self.cutter.push_tar(piece);
            self.hand_on()?;
        }
        Ok(())
    }

    fn record(&mut self, entry: record::Entry) -> Result<(), Error> {
        self.put(&record::entry(entry))
    }

    fn page(&mut self, page: &page::Page) -> Result<(), Error> {
        let encoded = self.encoder.encode(page)?;
        self.put(&record::page(record::Page {
            chunk: encoded.chunk.into(),
            body: encoded.body.into(),
            hashes: encoded.hashes.into(),
        }))
    }

    fn put(&mut self, record: &Record) -> Result<(), Error> {
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
