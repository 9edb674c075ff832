//! Names of a directory that are too many for memory: sorted runs in files without a name, merged into one.
//!
//! A file is a sequence of records in catalog order; of every 64th its offset is kept in memory, eight bytes each. The files go with
//! us, however we end.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Mode, OFlags};
use taf_format::entry::Kind;

/// Records between two offsets in memory.
const STRIDE: usize = 64;
/// Bytes before a name: its length and its kind.
const HEAD: usize = 3;

const KINDS: [Kind; 6] = [
    Kind::File,
    Kind::Directory,
    Kind::Symlink,
    Kind::Fifo,
    Kind::CharDevice,
    Kind::BlockDevice,
];

/// In the order of the catalog: what is no directory first, then by bytes.
type Record = (bool, Vec<u8>, usize);

fn unnamed(folder: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(
        folder,
        flags,
        Mode::RUSR | Mode::WUSR,
    )?))
}

fn damaged() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the list of names on disk is damaged",
    )
}

fn number_of(kind: Kind) -> usize {
    KINDS
        .iter()
        .position(|known| *known == kind)
        .unwrap_or_default()
}

/// Takes the first record of some bytes; none at their end.
fn take<'a>(bytes: &mut &'a [u8]) -> io::Result<Option<(&'a [u8], Kind)>> {
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() else {
        return if bytes.is_empty() {
            Ok(None)
        } else {
            Err(damaged())
        };
    };
    let length = usize::from(u16::from_le_bytes([head[0], head[1]]));
    let kind = KINDS.get(usize::from(head[2])).ok_or_else(damaged)?;
    let (name, rest) = rest.split_at_checked(length).ok_or_else(damaged)?;
    *bytes = rest;
    Ok(Some((name, *kind)))
}

/// Writes records one after another.
struct Writer {
    out: BufWriter<File>,
    length: u64,
    sparse: Vec<u64>,
    count: usize,
    files: usize,
}

impl Writer {
    fn new(folder: &Path) -> io::Result<Self> {
        Ok(Self {
            out: BufWriter::with_capacity(1 << 18, unnamed(folder)?),
            length: 0,
            sparse: Vec::new(),
            count: 0,
            files: 0,
        })
    }

    fn put(&mut self, name: &[u8], kind: Kind) -> io::Result<()> {
        let length = u16::try_from(name.len()).map_err(|_| damaged())?;
        if self.count.is_multiple_of(STRIDE) {
            self.sparse.push(self.length);
        }
        self.out.write_all(&length.to_le_bytes())?;
        self.out.write_all(&[number_of(kind) as u8])?;
        self.out.write_all(name)?;
        self.length += (HEAD + name.len()) as u64;
        self.count += 1;
        self.files += usize::from(kind != Kind::Directory);
        Ok(())
    }

    fn finish(self) -> io::Result<Spilled> {
        let file = self
            .out
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        Ok(Spilled {
            file,
            length: self.length,
            sparse: self.sparse,
            count: self.count,
            files: self.files,
            block: Mutex::new((usize::MAX, Vec::new())),
        })
    }
}

/// Writes a run of names that are in order.
pub(super) fn run<'a>(
    folder: &Path,
    names: impl Iterator<Item = (&'a [u8], Kind)>,
) -> io::Result<Spilled> {
    let mut writer = Writer::new(folder)?;
    for (name, kind) in names {
        writer.put(name, kind)?;
    }
    writer.finish()
}

/// Merges runs into one.
pub(super) fn merge(folder: &Path, runs: Vec<Spilled>) -> io::Result<Spilled> {
    let mut readers = Vec::with_capacity(runs.len());
    for run in runs {
        let mut file = run.file;
        file.seek(SeekFrom::Start(0))?;
        readers.push(BufReader::with_capacity(1 << 16, file));
    }
    let mut heap: BinaryHeap<Reverse<(Record, usize)>> = BinaryHeap::new();
    for (index, reader) in readers.iter_mut().enumerate() {
        heap.extend(next(reader)?.map(|record| Reverse((record, index))));
    }
    let mut writer = Writer::new(folder)?;
    while let Some(Reverse(((_, name, kind), index))) = heap.pop() {
        writer.put(&name, KINDS[kind])?;
        heap.extend(next(&mut readers[index])?.map(|record| Reverse((record, index))));
    }
    writer.finish()
}

/// The next record of a run.
fn next(reader: &mut impl Read) -> io::Result<Option<Record>> {
    let mut head = [0; HEAD];
    match reader.read(&mut head[..1])? {
        0 => return Ok(None),
        _ => reader.read_exact(&mut head[1..])?,
    }
    let mut name = vec![0; usize::from(u16::from_le_bytes([head[0], head[1]]))];
    reader.read_exact(&mut name)?;
    let kind = usize::from(head[2]);
    let known = KINDS.get(kind).ok_or_else(damaged)?;
    Ok(Some((*known == Kind::Directory, name, kind)))
}

/// A sorted list on disk.
#[derive(Debug)]
pub(super) struct Spilled {
    file: File,
    length: u64,
    sparse: Vec<u64>,
    count: usize,
    files: usize,
    /// The block that was read last, by its number.
    block: Mutex<(usize, Vec<u8>)>,
}

impl Spilled {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// How many are no directories.
    pub(super) fn files(&self) -> usize {
        self.files
    }

    /// The one at `index`, if there are so many.
    pub(super) fn get(&self, index: usize) -> io::Result<Option<(Vec<u8>, Kind)>> {
        if index >= self.count {
            return Ok(None);
        }
        self.with_block(index / STRIDE, |mut bytes| {
            for _ in 0..index % STRIDE {
                take(&mut bytes)?;
            }
            let (name, kind) = take(&mut bytes)?.ok_or_else(damaged)?;
            Ok(Some((name.to_vec(), kind)))
        })
    }

    /// Index and kind of a name, among the directories or all others.
    pub(super) fn find(&self, name: &[u8], directory: bool) -> io::Result<Option<(usize, Kind)>> {
        let wanted = (directory, name);
        // The last block that does not begin behind it.
        let (mut low, mut high) = (0, self.sparse.len());
        while low < high {
            let middle = low.midpoint(high);
            let behind = self.with_block(middle, |mut bytes| {
                let (first, kind) = take(&mut bytes)?.ok_or_else(damaged)?;
                Ok((kind == Kind::Directory, first) > wanted)
            })?;
            if behind {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        let Some(block) = low.checked_sub(1) else {
            return Ok(None);
        };
        self.with_block(block, |mut bytes| {
            let mut index = block * STRIDE;
            while let Some((found, kind)) = take(&mut bytes)? {
                if (kind == Kind::Directory, found) == wanted {
                    return Ok(Some((index, kind)));
                }
                index += 1;
            }
            Ok(None)
        })
    }

    fn with_block<T>(
        &self,
        number: usize,
        read: impl FnOnce(&[u8]) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut block = self.block.lock().unwrap_or_else(PoisonError::into_inner);
        if block.0 != number {
            let begin = *self.sparse.get(number).ok_or_else(damaged)?;
            let end = self.sparse.get(number + 1).copied().unwrap_or(self.length);
            let length = usize::try_from(end - begin).map_err(|_| damaged())?;
            // Until it is read it is nobody's.
            block.0 = usize::MAX;
            block.1.resize(length, 0);
            self.file.read_exact_at(&mut block.1, begin)?;
            block.0 = number;
        }
        read(&block.1)
    }
}
