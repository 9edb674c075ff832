//! Block 0: the first block of every part. Text, for whoever holds the tape and has no TAF; and lines that TAF
//! reads back when the catalog is gone.
//!
//! It is covered as segments of its method are, exactly one block, so that `zstd` or `gzip` step over it and tape files
//! concatenate as they are.
//! It stays clear when a part is encrypted, and so holds no file names.

mod words;

use uuid::Uuid;

use crate::segment::Method;
use crate::text_block::{self, Fields, Unusable};
use crate::{limits, text};

/// The first line: what a reader recognises.
const TITLE: &str = "TAF PART, FORMAT 1\n";

/// What can be wrong with a block 0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The block is not a block 0.
    #[error("this is not the first block of a TAF part")]
    NotBlock0,
    /// It differs from what was written.
    #[error("the first block of a part is damaged: {0}; the part's segments tell the same")]
    Damaged(&'static str),
    /// A line is missing.
    #[error(
        "the first block of a part has no usable line '{0}'; the part's segments tell the same"
    )]
    Line(&'static str),
    /// A field that the format does not allow.
    #[error("the first block of a part cannot have this {0}")]
    Field(&'static str),
    /// The text does not fit.
    #[error(
        "the text of a part's first block takes {needed} bytes, but a block has {block_size}; use larger blocks"
    )]
    TooLarge {
        /// Bytes it takes.
        needed: usize,
        /// Bytes there are.
        block_size: u32,
    },
}

impl From<Unusable> for Error {
    fn from(line: Unusable) -> Self {
        Self::Line(line.0)
    }
}

/// The part before this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Predecessor {
    /// Barcode of its cartridge.
    pub volume: String,
    /// Its tape file, counted from 0 (the label).
    pub tape_file: u32,
    /// Bytes of it that count, block 0 included, when it was ended by a write error; `None` when all do.
    pub bytes: Option<u64>,
}

/// What block 0 says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block0 {
    /// The installation that wrote it.
    pub installation_uuid: Uuid,
    /// The recording it lies on.
    pub recording_uuid: Uuid,
    /// Barcode of its cartridge.
    pub volume: String,
    /// The archive.
    pub archive_uuid: Uuid,
    /// The archive's ordinal on its line.
    pub archive_ordinal: u32,
    /// Name of the source.
    pub source: String,
    /// Name of the plan.
    pub plan: String,
    /// Name of the line.
    pub line: String,
    /// The version's number on its line.
    pub version: u64,
    /// The part's number in its archive, from 1.
    pub part: u32,
    /// Its tape file, counted from 0 (the label).
    pub tape_file: u32,
    /// Bytes of a block; also the length of this one.
    pub block_size: u32,
    /// Sequence of its first segment.
    pub first_sequence: u64,
    /// Offset in the archive's tar stream of its first tar byte.
    pub first_tar_offset: u64,
    /// Bytes of tar from there to its first entry header ([`crate::segment::Header::skip`] of its first segment):
    /// one less than the K of `tail -c +K`. `None` if that is not known.
    pub skip: Option<u64>,
    /// How its segments are stored.
    pub method: Method,
    /// How it is encrypted; 0 is not at all, others are reserved.
    pub suite: u8,
    /// The part before it; `None` exactly for part 1.
    pub predecessor: Option<Predecessor>,
    /// How often the part was copied from cartridge to cartridge, 0 for one as it was written first.
    pub copy: u32,
    /// When it was begun, nanoseconds since 1970-01-01 UTC.
    pub created_at_unix_nanos: i64,
}

/// Whether a block begins like a block 0.
pub(crate) fn looks_like(block: &[u8]) -> bool {
    text_block::looks_like(block, TITLE)
}

impl Block0 {
    /// The block, exactly `block_size` bytes.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        self.check()?;
        let (prose, fields) = (self.prose(), self.fields());
        text_block::encode(self.method, TITLE, &prose, &fields, self.block_size).map_err(|needed| {
            Error::TooLarge {
                needed,
                block_size: self.block_size,
            }
        })
    }

    /// Reads a block 0.
    pub fn decode(block: &[u8]) -> Result<Self, Error> {
        if !looks_like(block) {
            return Err(Error::NotBlock0);
        }
        let fields = text_block::decode(block, TITLE).map_err(Error::Damaged)?;
        let block0 = Self::from_fields(&fields)?;
        if block0.block_size as usize != block.len() {
            return Err(Error::Damaged("its length differs from its block size"));
        }
        if block0.method != fields.method {
            return Err(Error::Line("Method"));
        }
        block0.check()?;
        Ok(block0)
    }

    fn check(&self) -> Result<(), Error> {
        if !limits::is_block_size(self.block_size) {
            return Err(Error::Field("block size"));
        }
        if !limits::is_barcode(&self.volume)
            || self
                .predecessor
                .as_ref()
                .is_some_and(|p| !limits::is_barcode(&p.volume))
        {
            return Err(Error::Field("barcode"));
        }
        if [&self.source, &self.plan, &self.line]
            .iter()
            .any(|name| name.len() > limits::NAME)
        {
            return Err(Error::Field("name"));
        }
        if self.part == 0 || self.tape_file == 0 {
            return Err(Error::Field("part number"));
        }
        if (self.part == 1) != self.predecessor.is_none() {
            return Err(Error::Field("predecessor"));
        }
        if self.skip == Some(u64::MAX) {
            return Err(Error::Field("skip"));
        }
        Ok(())
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = vec![
            ("Format", "1".to_owned()),
            ("Installation", self.installation_uuid.to_string()),
            ("Recording", self.recording_uuid.to_string()),
            ("Volume", self.volume.clone()),
            ("Tape-file", self.tape_file.to_string()),
            ("Block-size", self.block_size.to_string()),
            ("Source", text::escape(&self.source)),
            ("Plan", text::escape(&self.plan)),
            ("Line", text::escape(&self.line)),
            ("Version", self.version.to_string()),
            ("Archive", self.archive_uuid.to_string()),
            ("Archive-ordinal", self.archive_ordinal.to_string()),
            ("Part", self.part.to_string()),
            ("First-sequence", self.first_sequence.to_string()),
            ("First-tar-offset", self.first_tar_offset.to_string()),
            ("Method", self.method.name().to_owned()),
            ("Suite", self.suite.to_string()),
            ("Created", text::time(self.created_at_unix_nanos)),
            ("Read", self.read_command()),
            ("Filter", self.filter()),
        ];
        if let Some(skip) = self.skip {
            fields.push(("Skip", skip.to_string()));
        }
        if let Some(alone) = self.filter_alone() {
            fields.push(("Filter-alone", alone));
        }
        if self.copy > 0 {
            fields.push(("Copy", self.copy.to_string()));
        }
        if let Some(before) = &self.predecessor {
            fields.push(("Predecessor-volume", before.volume.clone()));
            fields.push(("Predecessor-tape-file", before.tape_file.to_string()));
            if let Some(bytes) = before.bytes {
                fields.push(("Predecessor-bytes", bytes.to_string()));
            }
        }
        fields
    }

    fn from_fields(fields: &Fields) -> Result<Self, Error> {
        if fields.number::<u32>("Format")? != 1 {
            return Err(Error::Line("Format"));
        }
        let predecessor = match fields.get("Predecessor-volume") {
            None => None,
            Some(volume) => Some(Predecessor {
                volume: volume.to_owned(),
                tape_file: fields.number("Predecessor-tape-file")?,
                bytes: fields.optional("Predecessor-bytes")?,
            }),
        };
        Ok(Self {
            installation_uuid: fields.number("Installation")?,
            recording_uuid: fields.number("Recording")?,
            volume: fields.need("Volume")?.to_owned(),
            archive_uuid: fields.number("Archive")?,
            archive_ordinal: fields.number("Archive-ordinal")?,
            source: fields.name("Source")?,
            plan: fields.name("Plan")?,
            line: fields.name("Line")?,
            version: fields.number("Version")?,
            part: fields.number("Part")?,
            tape_file: fields.number("Tape-file")?,
            block_size: fields.number("Block-size")?,
            first_sequence: fields.number("First-sequence")?,
            first_tar_offset: fields.number("First-tar-offset")?,
            skip: fields.optional("Skip")?,
            method: Method::from_name(fields.need("Method")?).ok_or(Error::Line("Method"))?,
            suite: fields.number("Suite")?,
            predecessor,
            copy: fields.optional("Copy")?.unwrap_or_default(),
            created_at_unix_nanos: fields.time("Created")?,
        })
    }
}
