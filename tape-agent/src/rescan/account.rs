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
}

impl Account {
    /// Begins it anew.
    pub fn create(path: &Path) -> io::Result<Account> {
        Ok(Account {
            path: path.to_owned(),
            file: BufWriter::new(File::create(path)?),
            length: 0,
        })
    }

    /// Adds a record.
    pub fn put(&mut self, body: Body) -> io::Result<()> {
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
        Ok(())
    }

    /// All is there. Gives the file.
    pub fn finish(mut self) -> io::Result<PathBuf> {
        self.file.flush()?;
        Ok(self.path)
    }
}

/// The records of a file, in order.
pub struct Records {
    file: BufReader<File>,
}

impl Records {
    /// Opens the file.
    pub fn open(path: &Path) -> io::Result<Records> {
        Ok(Records {
            file: BufReader::new(File::open(path)?),
        })
    }

    fn take(&mut self) -> io::Result<Option<IndexRecord>> {
        if self.file.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let mut length = [0; 4];
        self.file.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length) as usize;
        if length > limits::RECORD {
            return Err(bad("a record that is too long"));
        }
        let mut encoded = vec![0; length];
        self.file.read_exact(&mut encoded)?;
        let record = IndexRecord::decode(encoded.as_slice());
        record.map(Some).map_err(|_| bad("no record"))
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
