//! Parts that are on tape and that the controller does not have yet.
//!
//! A part's records are collected in `ARCHIVE-NUMBER.records` while it is written. When the drive has confirmed the flush,
//! `ARCHIVE-NUMBER.part` is put beside it (32 bytes of digest, then the encoded `PartHeader`), by rename: from then on the part is
//! delivered, by this process or the next, until the controller has it; then its records go to the index spool. Records without a part are of a part that never
//! was; they go at the next start. A part that the controller refuses for good becomes `ARCHIVE-NUMBER.refused`, one that can't
//! be read `ARCHIVE-NUMBER.corrupt`; they and their records are kept for people. Losing the journal costs a rescan of the tape, never data.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use prost::Message as _;
use taf_proto::agent::PartHeader;
use uuid::Uuid;

use crate::spool::Spool;

/// Bytes of the largest `.part` file: a segment table and little else.
const PART_LIMIT: u64 = 64 << 20;
/// Bytes of a digest.
const DIGEST: usize = 32;

/// The folder of one drive.
#[derive(Debug, Clone)]
pub struct Journal {
    folder: PathBuf,
    spool: Spool,
}

/// A part to deliver.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What the controller gets.
    pub header: PartHeader,
    /// BLAKE3 over the records and the segment table.
    pub digest: [u8; DIGEST],
    /// File of the records.
    pub records: PathBuf,
    part: PathBuf,
    spool: Spool,
}

impl Journal {
    /// Opens the folder; files of parts that never were are removed.
    pub fn open(folder: PathBuf, spool: Spool) -> io::Result<Journal> {
        fs::create_dir_all(&folder)?;
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let orphaned = path.extension().is_some_and(|e| e == "records")
                && !path.with_extension("part").exists()
                && !path.with_extension("refused").exists()
                && !path.with_extension("corrupt").exists();
            if orphaned || path.extension().is_some_and(|e| e == "new") {
                fs::remove_file(&path)?;
            }
        }
        Ok(Journal { folder, spool })
    }

    /// Begins the records of a part.
    pub fn begin(&self, archive: Uuid, number: u32) -> io::Result<Records> {
        let path = self.folder.join(format!("{archive}-{number}.records"));
        let file = File::create(&path)?;
        Ok(Records {
            file: BufWriter::new(file),
            length: 0,
            hash: blake3::Hasher::new(),
            path,
            spool: self.spool.clone(),
        })
    }

    /// What is to be delivered, in the order in which it was written.
    pub fn pending(&self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let part = entry?.path();
            if part.extension().is_none_or(|e| e != "part") {
                continue;
            }
            match read(&part, &self.spool) {
                Ok(entry) => entries.push(entry),
                // It must not keep the drive from working: its tape file is found by the next mount.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    let kept = part.with_extension("corrupt");
                    tracing::error!(%error, kept = %kept.display(), "a part in the journal can't be read; its tape file will be an orphan");
                    fs::rename(&part, &kept)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(as_written(entries))
    }
}

/// Puts parts into the order in which they came to be on tape, as far as anybody needs it: the controller takes a volume's tape files
/// one behind the other, and an archive's parts, too, on whichever volumes they are.
fn as_written(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.sort_by_key(|e| (e.header.recording_uuid.clone(), e.header.tape_file));
    let mut volumes: Vec<VecDeque<Entry>> = Vec::new();
    for entry in entries {
        let recording = &entry.header.recording_uuid;
        match volumes.last_mut() {
            Some(v) if v[0].header.recording_uuid == *recording => v.push_back(entry),
            _ => volumes.push(VecDeque::from([entry])),
        }
    }
    let mut ordered = Vec::new();
    loop {
        let waits = |first: &Entry| {
            let (archive, number) = (&first.header.archive_uuid, first.header.part_number);
            let mut all = volumes.iter().flatten();
            all.any(|e| e.header.archive_uuid == *archive && e.header.part_number < number)
        };
        let next = (volumes.iter()).position(|v| v.front().is_some_and(|first| !waits(first)));
        // What a drive wrote has an order; if it seems to have none, the controller says what is wrong.
        let next = next.or_else(|| volumes.iter().position(|v| !v.is_empty()));
        let Some(entry) = next.and_then(|at| volumes[at].pop_front()) else {
            return ordered;
        };
        ordered.push(entry);
    }
}

fn read(part: &Path, spool: &Spool) -> io::Result<Entry> {
    let mut bytes = Vec::new();
    File::open(part)?.take(PART_LIMIT).read_to_end(&mut bytes)?;
    let bad = || {
        let what = format!("{} is no journal entry", part.display());
        io::Error::new(io::ErrorKind::InvalidData, what)
    };
    let (digest, header) = bytes.split_first_chunk::<DIGEST>().ok_or_else(bad)?;
    Ok(Entry {
        header: PartHeader::decode(header).map_err(|_| bad())?,
        digest: *digest,
        records: part.with_extension("records"),
        part: part.to_owned(),
        spool: spool.clone(),
    })
}

impl Entry {
    /// The controller has it; from now on it is kept for the volume's index.
    pub fn delivered(&self) -> io::Result<()> {
        if let Err(error) = self.spool.keep(&self.header, &self.digest, &self.records) {
            tracing::warn!(
                tape_file = self.header.tape_file, %error,
                "a part's records can't be kept for the volume's index, which will list it as uncovered"
            );
        }
        // The part first: records without it are removed at the next start.
        fs::remove_file(&self.part)?;
        fs::remove_file(&self.records)
    }

    /// The controller will never take it; it is kept for people under another name.
    pub fn refused(&self) -> io::Result<()> {
        fs::rename(&self.part, self.part.with_extension("refused"))
    }
}

/// The records of a part that is being written.
pub struct Records {
    file: BufWriter<File>,
    length: u64,
    hash: blake3::Hasher,
    path: PathBuf,
    spool: Spool,
}

impl Records {
    /// Adds the records of a segment.
    pub fn add(&mut self, records: &[u8]) -> io::Result<()> {
        self.hash.update(records);
        self.length += records.len() as u64;
        self.file.write_all(records)
    }

    /// Bytes so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Leaves the first `length` bytes.
    pub fn cut(&mut self, length: u64) -> io::Result<()> {
        self.file.flush()?;
        let file = self.file.get_mut();
        file.set_len(length)?;
        file.seek(SeekFrom::End(0))?;
        self.hash.reset();
        self.hash.update_reader(File::open(&self.path)?)?;
        self.length = length;
        Ok(())
    }

    /// The part is on tape: makes it durable.
    pub fn finish(self, header: PartHeader) -> io::Result<Entry> {
        let mut hash = self.hash;
        hash.update(&header.segment_table);
        let digest = *hash.finalize().as_bytes();
        self.file.into_inner()?.sync_all()?;
        let part = self.path.with_extension("part");
        let new = self.path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(&digest)?;
        file.write_all(&header.encode_to_vec())?;
        file.sync_all()?;
        fs::rename(&new, &part)?;
        if let Some(folder) = part.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(Entry {
            header,
            digest,
            records: self.path,
            part,
            spool: self.spool,
        })
    }

    /// The part was never ended.
    pub fn discard(self) -> io::Result<()> {
        let path = self.path;
        drop(self.file);
        fs::remove_file(path)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn open(folder: &Path, name: &str) -> io::Result<Journal> {
        let spool = Spool::open(folder.join("spool"), 1 << 20)?;
        Journal::open(folder.join(name), spool)
    }

    #[test]
    fn what_is_on_tape_is_delivered_after_a_restart_and_the_rest_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let archive = Uuid::new_v4();
        let journal = open(folder.path(), "j").unwrap();
        let mut done = journal.begin(archive, 1).unwrap();
        done.add(b"one").unwrap();
        done.add(b"too much").unwrap();
        done.cut(3).unwrap();
        done.add(b"two").unwrap();
        assert_eq!(done.length(), 6);
        let header = PartHeader {
            part_number: 1,
            segment_table: (&b"table"[..]).into(),
            ..PartHeader::default()
        };
        done.finish(header.clone()).unwrap();
        let mut cut = journal.begin(archive, 2).unwrap();
        cut.add(b"three").unwrap();
        drop(cut);

        let journal = open(folder.path(), "j").unwrap();
        let pending = journal.pending().unwrap();
        assert_eq!(pending.len(), 1);
        assert_eq!(pending[0].header, header);
        assert_eq!(pending[0].digest, *blake3::hash(b"onetwotable").as_bytes());
        assert_eq!(fs::read(&pending[0].records).unwrap(), b"onetwo");
        pending[0].delivered().unwrap();
        assert_eq!(fs::read_dir(folder.path().join("j")).unwrap().count(), 0);
    }

    #[test]
    fn an_archive_that_went_on_on_another_volume_is_delivered_from_its_first_part_on() {
        let folder = tempfile::tempdir().unwrap();
        let journal = open(folder.path(), "j").unwrap();
        // One archive began on a volume whose name sorts behind that of the next one, another one lies between.
        let (archive, other) = (Uuid::new_v4(), Uuid::new_v4());
        let written = [
            (archive, 1, b'z', 1),
            (archive, 2, b'z', 2),
            (archive, 3, b'a', 1),
            (other, 1, b'a', 2),
            (archive, 4, b'a', 3),
            (archive, 5, b'm', 1),
        ];
        for (archive, part_number, recording, tape_file) in written.into_iter().rev() {
            let records = journal.begin(archive, part_number).unwrap();
            let header = PartHeader {
                archive_uuid: archive.as_bytes().to_vec().into(),
                part_number,
                recording_uuid: vec![recording].into(),
                tape_file,
                ..PartHeader::default()
            };
            records.finish(header).unwrap();
        }
        let pending = journal.pending().unwrap();
        let places: Vec<_> = pending
            .iter()
            .map(|e| (e.header.recording_uuid[0], e.header.tape_file))
            .collect();
        assert_eq!(
            places,
            [
                (b'z', 1),
                (b'z', 2),
                (b'a', 1),
                (b'a', 2),
                (b'a', 3),
                (b'm', 1)
            ]
        );
    }

    #[test]
    fn an_entry_that_cannot_be_read_is_kept_aside_and_the_others_are_delivered() {
        let folder = tempfile::tempdir().unwrap();
        let (archive, path) = (Uuid::new_v4(), folder.path().join("j"));
        let journal = open(folder.path(), "j").unwrap();
        for number in [1, 2] {
            let mut records = journal.begin(archive, number).unwrap();
            records.add(b"r").unwrap();
            let part_number = number;
            let header = PartHeader {
                part_number,
                ..PartHeader::default()
            };
            records.finish(header).unwrap();
        }
        fs::write(path.join(format!("{archive}-1.part")), b"short").unwrap();
        let journal = open(folder.path(), "j").unwrap();
        let numbers = |journal: &Journal| -> Vec<u32> {
            let pending = journal.pending().unwrap();
            pending.iter().map(|e| e.header.part_number).collect()
        };
        assert_eq!(numbers(&journal), [2]);
        assert_eq!(numbers(&open(folder.path(), "j").unwrap()), [2]);
        assert!(path.join(format!("{archive}-1.corrupt")).exists());
        assert!(path.join(format!("{archive}-1.records")).exists());
    }
}
