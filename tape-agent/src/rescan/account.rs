//! What is to be told of a cartridge, on disk until the controller has it: records of a volume index, one behind the other.

use std::fs::File;
use std::io::{
    self, BufRead as _, BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _,
};
use std::path::{Path, PathBuf};

use prost::Message as _;
use taf_format::index::{Body, IndexRecord};
use taf_format::limits;

/// The file while it is written. Each record is four bytes of length (little endian) and an encoded `IndexRecord`.
pub struct Account {
    path: PathBuf,
    file: BufWriter<File>,
    length: u64,
    closings: Vec<u64>,
}

/// The file when all is in it.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Where it is.
    pub path: PathBuf,
    /// Where its closing records begin.
    closings: Vec<u64>,
}

impl Account {
    /// Begins it anew.
    pub fn create(path: &Path) -> io::Result<Account> {
        Ok(Account {
            path: path.to_owned(),
            file: BufWriter::new(File::create(path)?),
            length: 0,
            closings: Vec::new(),
        })
    }

    /// Adds a record.
    pub fn put(&mut self, body: Body) -> io::Result<()> {
        if matches!(body, Body::Closing(_)) {
            self.closings.push(self.length);
        }
        let record = IndexRecord { record: Some(body) };
        let encoded = record.encode_to_vec();
        if encoded.len() > limits::RECORD {
            return Err(bad("a record that is too long"));
        }
        self.file.write_all(&(encoded.len() as u32).to_le_bytes())?;
        self.file.write_all(&encoded)?;
        self.length += 4 + encoded.len() as u64;
        Ok(())
    }

    /// Bytes so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Leaves the first `length` bytes: what came behind them is not to be told.
    pub fn cut(&mut self, length: u64) -> io::Result<()> {
        self.file.flush()?;
        let file = self.file.get_mut();
        file.set_len(length)?;
        file.seek(SeekFrom::Start(length))?;
        self.length = length;
        self.closings.retain(|at| *at < length);
        Ok(())
    }

    /// All is there.
    pub fn finish(mut self) -> io::Result<Kept> {
        self.file.flush()?;
        Ok(Kept {
            path: self.path,
            closings: self.closings,
        })
    }
}

/// The records of a file: closing records first, so that whoever is told knows which parts they name before these come.
pub struct Records {
    file: BufReader<File>,
    closings: Vec<u64>,
    /// How many of them were told, or passed over among the others.
    passed: usize,
    /// Where the next of the others is; none while closing records are told.
    at: Option<u64>,
}

impl Records {
    /// Opens the file.
    pub fn open(kept: &Kept) -> io::Result<Records> {
        Ok(Records {
            file: BufReader::new(File::open(&kept.path)?),
            closings: kept.closings.clone(),
            passed: 0,
            at: None,
        })
    }

    fn take(&mut self) -> io::Result<Option<IndexRecord>> {
        if let (None, Some(closing)) = (self.at, self.closings.get(self.passed)) {
            self.file.seek(SeekFrom::Start(*closing))?;
            self.passed += 1;
            let length = self.length()?;
            return self.record(length).map(Some);
        }
        let mut at = if let Some(at) = self.at {
            at
        } else {
            self.file.seek(SeekFrom::Start(0))?;
            self.passed = 0;
            0
        };
        while self.closings.get(self.passed) == Some(&at) {
            let length = self.length()?;
            self.file.seek_relative(length as i64)?;
            self.passed += 1;
            at += 4 + length as u64;
        }
        if self.file.fill_buf()?.is_empty() {
            self.at = Some(at);
            return Ok(None);
        }
        let length = self.length()?;
        self.at = Some(at + 4 + length as u64);
        self.record(length).map(Some)
    }

    fn length(&mut self) -> io::Result<usize> {
        let mut length = [0; 4];
        self.file.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length) as usize;
        if length > limits::RECORD {
            return Err(bad("a record that is too long"));
        }
        Ok(length)
    }

    fn record(&mut self, length: usize) -> io::Result<IndexRecord> {
        let mut encoded = vec![0; length];
        self.file.read_exact(&mut encoded)?;
        IndexRecord::decode(encoded.as_slice()).map_err(|_| bad("no record"))
    }
}

impl Iterator for Records {
    type Item = io::Result<IndexRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        self.take().transpose()
    }
}

fn bad(what: &str) -> io::Error {
    let what = format!("what was found on the cartridge is kept with {what}");
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use taf_proto::tape::Tombstone;

    #[test]
    fn closing_records_are_told_first_and_what_was_cut_off_is_not_told() {
        let folder = tempfile::tempdir().unwrap();
        let mut account = Account::create(&folder.path().join("account")).unwrap();
        let closing = |text: &'static str| Body::Closing(text.into());
        let other = |chunk: &'static str| {
            let chunk = chunk.into();
            Body::Tombstone(Tombstone { chunk })
        };
        account.put(other("1")).unwrap();
        account.put(closing("a")).unwrap();
        account.put(closing("b")).unwrap();
        account.put(other("2")).unwrap();
        let mark = account.length();
        account.put(closing("cut")).unwrap();
        account.put(other("cut")).unwrap();
        account.cut(mark).unwrap();
        account.put(other("3")).unwrap();
        account.put(closing("c")).unwrap();
        let kept = account.finish().unwrap();
        let told = Records::open(&kept)
            .unwrap()
            .map(|record| record.unwrap().record.unwrap());
        let expected = [
            closing("a"),
            closing("b"),
            closing("c"),
            other("1"),
            other("2"),
            other("3"),
        ];
        assert_eq!(told.collect::<Vec<_>>(), expected);
    }
}
