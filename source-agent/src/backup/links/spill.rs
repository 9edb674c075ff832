//! Files with several names, beyond those that memory is to hold: in sorted runs on disk.
//!
//! A run is written once: bodies, and an index sorted by key of which every 64th key stays in memory, so that a look-up is one
//! read for each run. What is taken out is marked in the index and never found again. The file has no name and goes with us.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use taf_format::entry::{Kind, Time};
use taf_format::page::Place;

use super::{Carrier, Known};

/// Device and inode.
pub(super) type Key = (u64, u64);

/// Bytes of a record of the index: device, inode, offset of the body, its length, whether it is still there.
const RECORD: usize = 32;
/// Records between two keys in memory.
const STRIDE: usize = 64;

#[derive(Debug)]
pub(super) struct Run {
    file: File,
    /// Where the index begins.
    index: u64,
    count: usize,
    /// Key of each record whose number is a multiple of the stride.
    sparse: Vec<Key>,
}

impl Run {
    /// Writes what is given, in any order, to a file without a name in `folder`.
    pub(super) fn write<'a>(
        folder: &Path,
        all: impl Iterator<Item = (&'a Key, &'a Known)>,
    ) -> io::Result<Self> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR)?);
        let mut all: Vec<_> = all.collect();
        all.sort_by_key(|(key, _)| **key);
        let (mut bodies, mut index, mut sparse) = (Vec::new(), Vec::new(), Vec::new());
        for (number, (key, known)) in all.iter().enumerate() {
            if number % STRIDE == 0 {
                sparse.push(**key);
            }
            let begin = bodies.len();
            put(&mut bodies, known);
            let length = bodies.len() - begin;
            for part in [key.0, key.1, begin as u64] {
                index.extend_from_slice(&part.to_le_bytes());
            }
            index.extend_from_slice(&(length as u32).to_le_bytes());
            index.extend_from_slice(&1_u32.to_le_bytes());
        }
        file.write_all_at(&bodies, 0)?;
        file.write_all_at(&index, bodies.len() as u64)?;
        Ok(Self {
            file,
            index: bodies.len() as u64,
            count: all.len(),
            sparse,
        })
    }

    /// Takes out what is under the key.
    pub(super) fn take(&self, key: Key) -> io::Result<Option<Known>> {
        let Some(block) = self
            .sparse
            .partition_point(|first| *first <= key)
            .checked_sub(1)
        else {
            return Ok(None);
        };
        let first = block * STRIDE;
        let mut records = vec![0; RECORD * STRIDE.min(self.count - first)];
        let at = self.index + (first * RECORD) as u64;
        self.file.read_exact_at(&mut records, at)?;
        for (number, record) in records.chunks_exact(RECORD).enumerate() {
            let mut reader = Reader(record);
            let (device, inode) = (reader.number()?, reader.number()?);
            if (device, inode) != key {
                continue;
            }
            let (offset, length) = (reader.number()?, reader.small()?);
            if reader.small()? == 0 {
                return Ok(None);
            }
            let mark = at + (number * RECORD + RECORD - 4) as u64;
            self.file.write_all_at(&0_u32.to_le_bytes(), mark)?;
            let mut body = vec![0; length as usize];
            self.file.read_exact_at(&mut body, offset)?;
            return known(&mut Reader(&body)).map(Some);
        }
        Ok(None)
    }
}

const KINDS: [Kind; 6] = [
    Kind::File,
    Kind::Directory,
    Kind::Symlink,
    Kind::Fifo,
    Kind::CharDevice,
    Kind::BlockDevice,
];

fn put(out: &mut Vec<u8>, known: &Known) {
    let kind = KINDS.iter().position(|kind| *kind == known.kind);
    let numbers = [
        kind.unwrap_or_default() as u64,
        known.size,
        known.mtime.seconds.cast_unsigned(),
        u64::from(known.mtime.nanos),
        u64::from(known.left),
        known.carriers.len() as u64,
    ];
    put_numbers(out, &numbers);
    for carrier in &known.carriers {
        let numbers = [
            u64::from(carrier.place.archive_ordinal),
            carrier.place.tar_offset,
            carrier.tar_length,
            u64::from(carrier.changed),
            u64::from(carrier.blake3.is_some()),
            u64::from(carrier.hash.is_some()),
            carrier.path.len() as u64,
        ];
        put_numbers(out, &numbers);
        out.extend(carrier.blake3.iter().flatten());
        out.extend(carrier.hash.iter().flatten());
        out.extend_from_slice(&carrier.path);
    }
}

fn put_numbers(out: &mut Vec<u8>, numbers: &[u64]) {
    for number in numbers {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

/// What [`put`] wrote.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn bytes(&mut self, length: usize) -> io::Result<&[u8]> {
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }

    fn number(&mut self) -> io::Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn small(&mut self) -> io::Result<u32> {
        self.array().map(u32::from_le_bytes)
    }
}

fn known(reader: &mut Reader<'_>) -> io::Result<Known> {
    let kind = KINDS.get(reader.number()? as usize);
    let mut known = Known {
        kind: *kind.ok_or(io::ErrorKind::InvalidData)?,
        size: reader.number()?,
        mtime: Time {
            seconds: reader.number()?.cast_signed(),
            nanos: reader.number()? as u32,
        },
        left: reader.number()? as u32,
        carriers: Vec::new(),
    };
    for _ in 0..reader.number()? {
        let place = Place {
            archive_ordinal: reader.number()? as u32,
            tar_offset: reader.number()?,
        };
        let tar_length = reader.number()?;
        let changed = reader.number()? != 0;
        let (whole, half) = (reader.number()? != 0, reader.number()? != 0);
        let length = reader.number()? as usize;
        known.carriers.push(Carrier {
            place,
            tar_length,
            changed,
            blake3: whole.then(|| reader.array()).transpose()?,
            hash: half.then(|| reader.array()).transpose()?,
            path: reader.bytes(length)?.to_vec(),
        });
    }
    Ok(known)
}
