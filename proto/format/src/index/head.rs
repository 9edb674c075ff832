//! The first block of a volume index: text for people, and lines for us. Built as a part's is.

use uuid::Uuid;

use super::Error;
use crate::segment::Method;
use crate::text_block::{self, Fields, Unusable};
use crate::{limits, text};

/// The first line: what a reader recognises.
const TITLE: &str = "TAF INDEX, FORMAT 1\n";

/// Whether a block begins like that of an index.
pub(crate) fn looks_like(block: &[u8]) -> bool {
    text_block::looks_like(block, TITLE)
}

/// What the first block of an index says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The index: all of its pieces have it, no other's.
    pub index_uuid: Uuid,
    /// The installation that wrote it.
    pub installation_uuid: Uuid,
    /// The recording it lies on.
    pub recording_uuid: Uuid,
    /// Barcode of its cartridge.
    pub volume: String,
    /// Its tape file, counted from 0 (the label).
    pub tape_file: u64,
    /// Bytes of a block; also the length of this one.
    pub block_size: u32,
    /// How it is encrypted; 0 is not at all, others are reserved.
    pub suite: u8,
    /// The index before it on this recording: tape file and first logical block.
    pub earlier: Option<(u64, u64)>,
    /// When it was begun, nanoseconds since 1970-01-01 UTC.
    pub created_at_unix_nanos: i64,
}

impl From<Unusable> for Error {
    fn from(line: Unusable) -> Self {
        Self::Line(line.0)
    }
}

impl Head {
    /// The block, exactly `block_size` bytes.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        self.check()?;
        let (prose, fields) = (self.prose(), self.fields());
        text_block::encode(Method::Zstd, TITLE, &prose, &fields, self.block_size).map_err(
            |needed| Error::TooLarge {
                needed,
                block_size: self.block_size,
            },
        )
    }

    /// Reads the first block of an index.
    pub fn decode(block: &[u8]) -> Result<Self, Error> {
        if !looks_like(block) {
            return Err(Error::NotIndex);
        }
        let fields = text_block::decode(block, TITLE).map_err(Error::Damaged)?;
        if fields.method != Method::Zstd {
            return Err(Error::Damaged("it is not a zstd skippable frame"));
        }
        let head = Self::from_fields(&fields)?;
        if head.block_size as usize != block.len() {
            return Err(Error::Damaged("its length differs from its block size"));
        }
        head.check()?;
        Ok(head)
    }

    fn check(&self) -> Result<(), Error> {
        if !limits::is_block_size(self.block_size) {
            return Err(Error::Field("block size"));
        }
        if !limits::is_barcode(&self.volume) {
            return Err(Error::Field("barcode"));
        }
        if self.tape_file == 0 {
            return Err(Error::Field("tape file"));
        }
        if self.suite != 0 {
            return Err(Error::Field("suite"));
        }
        if self
            .earlier
            .is_some_and(|(tape_file, _)| tape_file == 0 || tape_file >= self.tape_file)
        {
            return Err(Error::Field("earlier index"));
        }
        Ok(())
    }

    /// The command that gives the index's bytes.
    pub fn read_command(&self) -> String {
        format!(
            "mt -f /dev/nst0 rewind && mt -f /dev/nst0 fsf {} && dd if=/dev/nst0 bs={}",
            self.tape_file, self.block_size
        )
    }

    fn prose(&self) -> String {
        let created = text::time(self.created_at_unix_nanos);
        let (volume, tape_file) = (&self.volume, self.tape_file);
        let read = self.read_command();
        format!(
            "
This tape file is an index of cartridge {volume}, made by TAF, begun {created}.
It is tape file {tape_file}; the label is tape file 0.

It says again what the parts before it say of themselves: names, times and places, but no file's content. TAF finds
by it what is on the cartridge without reading the parts. Who unpacks parts without TAF does not need it: leave it
out, or leave it in; zstd steps over all of it. What it tells of, in short:

    mt -f /dev/nst0 setblk 0
    {read} | strings -n 8 | grep -o 'INDEX: .*'
"
        )
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = vec![
            ("Format", "1".to_owned()),
            ("Index", self.index_uuid.to_string()),
            ("Installation", self.installation_uuid.to_string()),
            ("Recording", self.recording_uuid.to_string()),
            ("Volume", self.volume.clone()),
            ("Tape-file", self.tape_file.to_string()),
            ("Block-size", self.block_size.to_string()),
            ("Suite", self.suite.to_string()),
            ("Created", text::time(self.created_at_unix_nanos)),
            ("Read", self.read_command()),
        ];
        if let Some((tape_file, block)) = self.earlier {
            fields.push(("Earlier-tape-file", tape_file.to_string()));
            fields.push(("Earlier-block", block.to_string()));
        }
        fields
    }

    fn from_fields(fields: &Fields) -> Result<Self, Error> {
        if fields.number::<u32>("Format")? != 1 {
            return Err(Error::Line("Format"));
        }
        let earlier = match fields.optional("Earlier-tape-file")? {
            None => None,
            Some(tape_file) => Some((tape_file, fields.number("Earlier-block")?)),
        };
        Ok(Self {
            index_uuid: fields.number("Index")?,
            installation_uuid: fields.number("Installation")?,
            recording_uuid: fields.number("Recording")?,
            volume: fields.need("Volume")?.to_owned(),
            tape_file: fields.number("Tape-file")?,
            block_size: fields.number("Block-size")?,
            suite: fields.number("Suite")?,
            earlier,
            created_at_unix_nanos: fields.time("Created")?,
        })
    }
}
