//! Records of committed parts, until a volume index on tape has them.
//!
//! One file for each part, `RECORDING/TAPEFILE.kept`: 32 bytes of digest, four of length (little endian), the encoded `PartHeader`,
//! then the part's records without its entries, which pages repeat. All drives of the host share the folder: a volume is in
//! one of them at a time, and may be in another the next day. It is bounded; what was dropped, or is on another host,
//! the index lists as uncovered, and a rebuild of the catalog then reads those parts themselves.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use prost::Message as _;
use taf_format::{limits, record};
use taf_proto::agent::PartHeader;
use uuid::Uuid;

/// A file that nobody has finished for so long was left by a process that died.
const ABANDONED: Duration = Duration::from_hours(24);
/// Bytes of a digest.
const DIGEST: usize = 32;
/// Bytes of the largest header: a segment table and little else.
const HEADER: usize = 64 << 20;

/// The folder. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Spool {
    folder: PathBuf,
    limit: u64,
}

/// A part that is kept.
pub struct Kept {
    /// What the controller got of it.
    pub header: PartHeader,
    records: BufReader<File>,
}

impl Spool {
    /// Opens the folder, which holds at most `limit` bytes. What was half written long ago goes; what is young another drive's worker
    /// may be writing.
    pub fn open(folder: PathBuf, limit: u64) -> io::Result<Spool> {
        fs::create_dir_all(&folder)?;
        for recording in fs::read_dir(&folder)? {
            let recording = recording?.path();
            if !recording.is_dir() {
                continue;
            }
            for file in fs::read_dir(&recording)? {
                let file = file?.path();
                let written = fs::metadata(&file).and_then(|metadata| metadata.modified());
                let old = written.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > ABANDONED));
                if old && file.extension().is_some_and(|e| e == "new") {
                    fs::remove_file(file)?;
                }
            }
        }
        Ok(Spool { folder, limit })
    }

    /// A file for what is fetched for an index; it is written anew each time.
    pub fn fetched(&self, recording: &[u8]) -> io::Result<PathBuf> {
        let folder = self.recording(recording);
        fs::create_dir_all(&folder)?;
        Ok(folder.join("fetched.new"))
    }

    /// A file for what a rescan finds; it is written anew each time.
    pub fn scanned(&self, recording: &[u8]) -> io::Result<PathBuf> {
        let folder = self.recording(recording);
        fs::create_dir_all(&folder)?;
        Ok(folder.join("scanned.new"))
    }

    /// Keeps a committed part.
    pub fn keep(
        &self,
        header: &PartHeader,
        digest: &[u8; DIGEST],
        records: &Path,
    ) -> io::Result<()> {
        let folder = self.recording(&header.recording_uuid);
        fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{}.kept", header.tape_file));
        let new = path.with_extension("new");
        let mut file = BufWriter::new(File::create(&new)?);
        let encoded = header.encode_to_vec();
        file.write_all(digest)?;
        file.write_all(&(encoded.len() as u32).to_le_bytes())?;
        file.write_all(&encoded)?;
        let mut source = BufReader::new(File::open(records)?);
        while let Some(bytes) = next(&mut source)? {
            if matches!(decode(bytes.clone())?, record::Body::Entry(_)) {
                continue;
            }
            let mut length = bytes.len();
            while length >= 0x80 {
                file.write_all(&[length as u8 | 0x80])?;
                length >>= 7;
            }
            file.write_all(&[length as u8])?;
            file.write_all(&bytes)?;
        }
        file.into_inner()?.sync_all()?;
        fs::rename(&new, &path)?;
        self.make_room(&path)
    }

    /// The part at this tape file, if it is kept and is the one with this digest.
    pub fn part(
        &self,
        recording: &[u8],
        tape_file: u64,
        digest: &[u8],
    ) -> io::Result<Option<Kept>> {
        let path = self.recording(recording).join(format!("{tape_file}.kept"));
        let mut file = match File::open(path) {
            Ok(file) => BufReader::new(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut head = [0; DIGEST + 4];
        file.read_exact(&mut head)?;
        let (found, length) = head.split_at(DIGEST);
        let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
        if found != digest {
            return Ok(None);
        }
        if length > HEADER {
            return Err(bad("a header that is too long"));
        }
        let mut header = vec![0; length];
        file.read_exact(&mut header)?;
        let header = PartHeader::decode(header.as_slice()).map_err(|_| bad("no header"))?;
        Ok(Some(Kept {
            header,
            records: file,
        }))
    }

    /// An index on tape has it.
    pub fn forget(&self, recording: &[u8], tape_file: u64) -> io::Result<()> {
        let folder = self.recording(recording);
        match fs::remove_file(folder.join(format!("{tape_file}.kept"))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // Only if it is empty now.
        let _ = fs::remove_dir(folder);
        Ok(())
    }

    fn recording(&self, recording: &[u8]) -> PathBuf {
        let uuid = Uuid::from_slice(recording).unwrap_or_default();
        self.folder.join(uuid.to_string())
    }

    /// Drops what was kept longest until the rest is within the limit. The newest part stays in any case.
    fn make_room(&self, newest: &Path) -> io::Result<()> {
        let mut files: Vec<(SystemTime, PathBuf, u64)> = Vec::new();
        for recording in fs::read_dir(&self.folder)? {
            let recording = recording?.path();
            if !recording.is_dir() {
                continue;
            }
            for file in fs::read_dir(&recording)? {
                let file = file?;
                // Another drive's worker may have just removed it.
                if let Ok(metadata) = file.metadata() {
                    files.push((metadata.modified()?, file.path(), metadata.len()));
                }
            }
        }
        let mut total: u64 = files.iter().map(|(_, _, length)| length).sum();
        files.sort();
        for (_, path, length) in files {
            if total <= self.limit {
                break;
            }
            if path == newest || path.extension().is_none_or(|e| e != "kept") {
                continue;
            }
            tracing::warn!(
                file = %path.display(),
                "the index spool is full: a part's records are dropped, and its volume index will not have them"
            );
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => total -= length,
            }
        }
        Ok(())
    }
}

impl Kept {
    /// The next record: a page, a tombstone or a dictionary.
    pub fn next_record(&mut self) -> io::Result<Option<record::Body>> {
        next(&mut self.records)?.map(decode).transpose()
    }
}

fn bad(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the index spool holds {what}"),
    )
}

fn decode(bytes: Bytes) -> io::Result<record::Body> {
    record::Record::decode(bytes)
        .ok()
        .and_then(|record| record.record)
        .ok_or_else(|| bad("no record"))
}

/// The bytes of the next length-delimited record.
fn next(source: &mut impl Read) -> io::Result<Option<Bytes>> {
    let mut length = 0_usize;
    for at in 0..5 {
        let mut byte = [0];
        if source.read(&mut byte)? == 0 {
            return if at == 0 {
                Ok(None)
            } else {
                Err(io::ErrorKind::UnexpectedEof.into())
            };
        }
        length |= usize::from(byte[0] & 0x7f) << (7 * at);
        if byte[0] & 0x80 == 0 {
            if length > limits::RECORD {
                break;
            }
            let mut bytes = vec![0; length];
            source.read_exact(&mut bytes)?;
            return Ok(Some(bytes.into()));
        }
    }
    Err(bad("a record that is too long"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const DIGESTS: [[u8; DIGEST]; 3] = [[1; DIGEST], [2; DIGEST], [3; DIGEST]];

    fn header(recording: u8, tape_file: u64) -> PartHeader {
        PartHeader {
            recording_uuid: vec![recording; 16].into(),
            tape_file,
            segment_table: (&b"table"[..]).into(),
            ..PartHeader::default()
        }
    }

    fn records(folder: &Path, length: usize) -> PathBuf {
        let mut bytes = Vec::new();
        for body in [
            record::entry(record::Entry {
                path: vec![7; 300].into(),
                ..record::Entry::default()
            }),
            record::page(record::Page {
                chunk: (&b"home"[..]).into(),
                body: vec![7; length].into(),
                hashes: Bytes::new(),
            }),
            record::tombstone(b"gone".to_vec()),
        ] {
            record::encode(&body, &mut bytes).unwrap();
        }
        let path = folder.join("records");
        fs::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn pages_and_tombstones_are_kept_until_an_index_has_them() {
        let folder = tempfile::tempdir().unwrap();
        let records = records(folder.path(), 300);
        let spool = Spool::open(folder.path().join("s"), 1 << 20).unwrap();
        spool.keep(&header(1, 4), &DIGESTS[0], &records).unwrap();
        let half = spool.recording(&[1; 16]).join("3.new");
        fs::write(&half, "").unwrap();
        let long_ago = SystemTime::now() - 2 * ABANDONED;
        File::options()
            .append(true)
            .open(&half)
            .unwrap()
            .set_modified(long_ago)
            .unwrap();

        // Also by the next process.
        let spool = Spool::open(folder.path().join("s"), 1 << 20).unwrap();
        assert!(!half.exists());
        assert!(spool.part(&[1; 16], 4, &DIGESTS[1]).unwrap().is_none());
        assert!(spool.part(&[1; 16], 5, &DIGESTS[0]).unwrap().is_none());
        assert!(spool.part(&[2; 16], 4, &DIGESTS[0]).unwrap().is_none());
        let mut kept = spool.part(&[1; 16], 4, &DIGESTS[0]).unwrap().unwrap();
        assert_eq!(kept.header, header(1, 4));
        assert!(
            matches!(kept.next_record().unwrap(), Some(record::Body::Page(page)) if page.body.len() == 300)
        );
        assert!(matches!(
            kept.next_record().unwrap(),
            Some(record::Body::Tombstone(_))
        ));
        assert_eq!(kept.next_record().unwrap(), None);
        spool.forget(&[1; 16], 4).unwrap();
        spool.forget(&[1; 16], 4).unwrap();
        assert!(spool.part(&[1; 16], 4, &DIGESTS[0]).unwrap().is_none());
    }

    #[test]
    fn what_was_kept_longest_goes_when_there_is_no_room() {
        let folder = tempfile::tempdir().unwrap();
        let records = records(folder.path(), 1000);
        let spool = Spool::open(folder.path().join("s"), 2500).unwrap();
        for (number, digest) in (1..).zip(&DIGESTS) {
            spool.keep(&header(number, 1), digest, &records).unwrap();
            let path = spool.recording(&[number; 16]).join("1.kept");
            let age = SystemTime::now() - std::time::Duration::from_secs(100 - u64::from(number));
            File::options()
                .append(true)
                .open(path)
                .unwrap()
                .set_modified(age)
                .unwrap();
        }
        let kept = |number: u8| {
            let digest = &DIGESTS[usize::from(number) - 1];
            spool.part(&[number; 16], 1, digest).unwrap().is_some()
        };
        assert_eq!([1, 2, 3].map(kept), [false, true, true]);
        // One that is too large for the spool alone is kept all the same.
        let small = Spool::open(folder.path().join("t"), 10).unwrap();
        small.keep(&header(1, 1), &DIGESTS[0], &records).unwrap();
        assert!(small.part(&[1; 16], 1, &DIGESTS[0]).unwrap().is_some());
    }
}
