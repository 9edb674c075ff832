//! What a volume index tells of its recording. Damage in it costs the parts that it touches: they are read themselves.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use taf_drive::{Drive, Error, Read};
use taf_format::index::{
    self, Body, Event, Head, IndexOrphan, IndexPart, IndexPartEnd, Item, Reader,
};
use taf_format::limits;
use taf_proto::agent::{Recording, ScanIndex};
use taf_proto::v1::Fault;
use tokio_util::sync::CancellationToken;

use super::account::Account;
use super::{kept, said};
use crate::fault::stopped;
use crate::gauge::Gauge;

/// After so many bad blocks one behind the other an index is not read on.
const BAD_IN_A_ROW: u32 = 8;

/// What is known of the recording so far.
#[derive(Debug, Default)]
pub struct Known {
    /// Where tape files begin, and where what follows them begins.
    pub files: BTreeMap<u64, u64>,
    /// By its first block, the number of a tape file.
    pub numbers: BTreeMap<u64, u64>,
    /// Parts that were told of, by tape file.
    pub told: BTreeSet<u64>,
    /// Parts that no index has, as one lists them, by tape file.
    pub uncovered: BTreeMap<u64, IndexPart>,
    /// Indexes that were read.
    pub indexes: Vec<ScanIndex>,
    /// Closing records that were told.
    pub closings: u64,
}

impl Known {
    /// A tape file is known.
    pub fn file(&mut self, number: u64, first_block: u64, next_block: u64) {
        self.files.insert(first_block, next_block);
        self.numbers.insert(first_block, number);
    }

    /// The first block behind `begin` of which nothing is known, if it lies before `end`; and what its tape file's number must be.
    pub fn gap(&self, begin: u64, end: u64) -> Option<(u64, u64)> {
        let (mut block, mut number) = (begin, 1);
        while block < end {
            match self.files.get(&block) {
                Some(next) if *next > block => {
                    number = self.numbers.get(&block).map_or(number, |n| *n) + 1;
                    block = *next;
                }
                _ => return Some((block, number)),
            }
        }
        None
    }
}

/// Reads the index that begins at `first_block`: what it tells of this recording goes to the account, and so do its closing records.
/// Gives its first block's words and the block behind its filemark, which is none if it could not be read that far; or why it is no
/// index.
pub fn read(
    drive: &mut dyn Drive,
    recording: &Recording,
    first_block: u64,
    (account, known): (&mut Account, &mut Known),
    gauge: &Gauge,
    stop: &CancellationToken,
) -> Result<Result<(Head, Option<u64>), String>, Fault> {
    let barcode = &recording.barcode;
    drive.locate(first_block).map_err(|e| said(&e, barcode))?;
    let mut buffer = vec![0; limits::BLOCK_SIZE_MAX as usize];
    let head = match drive.read_block(&mut buffer) {
        Ok(Read::Block(length)) => match Head::decode(&buffer[..length]) {
            Ok(head) if head.recording_uuid.as_bytes()[..] == recording.recording_uuid[..] => head,
            Ok(_) => return Ok(Err("it is of another recording".to_owned())),
            Err(error) => return Ok(Err(error.to_string())),
        },
        Ok(_) => return Ok(Err("there is none".to_owned())),
        Err(error) if is_damage(&error) => return Ok(Err(error.to_string())),
        Err(error) => return Err(said(&error, barcode)),
    };
    let mut telling = Telling {
        recording: &recording.recording_uuid,
        account,
        known,
        open: None,
    };
    let mut pieces = Reader::new(Some(head.index_uuid), u64::from(recording.block_size));
    let (mut blocks, mut bytes) = (1, u64::from(head.block_size));
    let (mut more, mut behind, mut bad) = (true, None, 0);
    while more {
        match drive.read_block(&mut buffer) {
            Ok(Read::Block(length)) => {
                bad = 0;
                blocks += 1;
                bytes += length as u64;
                gauge.flowed(length as u64);
                pieces.push_block(&buffer[..length]);
            }
            Ok(found) => {
                let marks = u64::from(found == Read::Filemark);
                behind = Some(first_block + blocks + marks);
                more = false;
            }
            // What lies behind a bad block is found again. Where blocks are bad in a row the index ends.
            Err(error) if is_damage(&error) => {
                tracing::warn!(volume = barcode, tape_file = head.tape_file, %error, "a block of a volume index can't be read");
                bad += 1;
                let next = first_block + blocks + 1;
                more = bad < BAD_IN_A_ROW && drive.locate(next).is_ok();
                if more {
                    blocks += 1;
                    bytes += u64::from(head.block_size);
                    pieces.lost_block(head.block_size);
                }
            }
            Err(error) => return Err(said(&error, barcode)),
        }
        if !more {
            pieces.finish();
        }
        while let Some(event) = pieces.next_event() {
            match event {
                Event::Piece(piece) => telling.piece(&piece.records)?,
                Event::Damaged(damage) => {
                    tracing::warn!(volume = barcode, tape_file = head.tape_file, reason = %damage.reason, "a volume index is damaged");
                }
            }
        }
        if stop.is_cancelled() {
            return Err(stopped());
        }
    }
    telling.give_up()?;
    known.indexes.push(ScanIndex {
        index_uuid: head.index_uuid.as_bytes().to_vec().into(),
        tape_file: head.tape_file,
        first_block,
        block_count: blocks,
        byte_count: bytes,
    });
    Ok(Ok((head, behind)))
}

fn is_damage(error: &Error) -> bool {
    matches!(
        error,
        Error::Medium(_) | Error::BlankCheck(_) | Error::BlockTooLarge { .. }
    )
}

/// A part of which not all has come.
struct Open {
    part: IndexPart,
    /// Length of the account before it.
    mark: u64,
    found: IndexPartEnd,
}

struct Telling<'a> {
    recording: &'a Bytes,
    account: &'a mut Account,
    known: &'a mut Known,
    open: Option<Open>,
}

impl Telling<'_> {
    fn piece(&mut self, records: &Bytes) -> Result<(), Fault> {
        for item in index::items(records) {
            match item {
                Ok(item) => self.item(item)?,
                Err(error) => {
                    tracing::warn!(%error, "records of a volume index can't be decoded");
                    self.give_up()?;
                }
            }
        }
        Ok(())
    }

    /// What came of a part whose end did not come is not told.
    fn give_up(&mut self) -> Result<(), Fault> {
        match self.open.take() {
            Some(open) => self.account.cut(open.mark).map_err(|e| kept(&e)),
            None => Ok(()),
        }
    }

    fn put(&mut self, body: Body) -> Result<(), Fault> {
        self.account.put(body).map_err(|e| kept(&e))
    }

    fn item(&mut self, item: Item) -> Result<(), Fault> {
        if let Body::Closing(record) = item.body {
            self.give_up()?;
            self.known.closings += 1;
            return self.put(Body::Closing(record));
        }
        let own = item
            .volume
            .is_some_and(|volume| volume.recording_uuid == *self.recording);
        match item.body {
            _ if !own => self.give_up(),
            Body::Part(part) => self.part(part),
            Body::Uncovered(part) => {
                self.give_up()?;
                self.known.uncovered.insert(part.tape_file, part);
                Ok(())
            }
            Body::Orphan(orphan) => self.orphan(orphan),
            Body::PartEnd(end) => self.end(end),
            body => self.further(body),
        }
    }

    fn part(&mut self, mut part: IndexPart) -> Result<(), Fault> {
        if part.next_block == 0 {
            part.next_tape_file = part.tape_file + 1;
            part.next_block = part.first_block + part.block_count + 1;
        }
        // A piece that goes on with it says so.
        if self.open.as_ref().is_some_and(|open| open.part == part) {
            return Ok(());
        }
        self.give_up()?;
        if self.known.told.contains(&part.tape_file) {
            return Ok(());
        }
        self.open = Some(Open {
            part: part.clone(),
            mark: self.account.length(),
            found: IndexPartEnd::default(),
        });
        self.put(Body::Part(part))
    }

    fn orphan(&mut self, orphan: IndexOrphan) -> Result<(), Fault> {
        self.give_up()?;
        let (number, first) = (orphan.tape_file, orphan.first_block);
        if orphan.next_block > first {
            self.known.file(number, first, orphan.next_block);
        }
        self.put(Body::Orphan(orphan))
    }

    fn further(&mut self, body: Body) -> Result<(), Fault> {
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        match &body {
            Body::Table(bytes) => open.found.table_byte_count += bytes.len() as u64,
            Body::Page(_) => open.found.page_count += 1,
            Body::Tombstone(_) => open.found.tombstone_count += 1,
            Body::Dictionary(_) => open.found.dictionary_count += 1,
            _ => return Ok(()),
        }
        self.put(body)
    }

    fn end(&mut self, end: IndexPartEnd) -> Result<(), Fault> {
        let Some(open) = self.open.take_if(|open| open.found == end) else {
            return self.give_up();
        };
        let part = open.part;
        self.known.told.insert(part.tape_file);
        self.known
            .file(part.tape_file, part.first_block, part.next_block);
        self.put(Body::PartEnd(end))
    }
}
