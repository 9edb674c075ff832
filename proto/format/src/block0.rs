//! Block 0: the first block of every part. Text, for whoever holds the tape and has no TAF; and lines that TAF
//! reads back when the catalog is gone.
//!
//! It is a skippable frame of exactly one block, so `zstd` steps over it and tape files concatenate as they are.
//! It stays clear when a part is encrypted, and so holds no file names.

mod words;

use uuid::Uuid;

use crate::segment::Method;
use crate::{frame, limits, text};

/// The first line: what a reader recognises.
const TITLE: &str = "TAF PART, FORMAT 1\n";
/// The lines for TAF stand between this line and the checksum.
const FIELDS: &str = "\nFIELDS\n";
const CHECKSUM: &str = "CRC32C: ";

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
    /// When it was begun, nanoseconds since 1970-01-01 UTC.
    pub created_at_unix_nanos: i64,
}

/// Whether a block begins like a block 0.
pub(crate) fn looks_like(block: &[u8]) -> bool {
    frame::payload_length(block).is_some() && block[frame::PREFIX..].starts_with(TITLE.as_bytes())
}

impl Block0 {
    /// The block, exactly `block_size` bytes.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        self.check()?;
        let mut out = Vec::with_capacity(self.block_size as usize);
        out.extend_from_slice(&frame::prefix(self.block_size - frame::PREFIX as u32));
        out.extend_from_slice(TITLE.as_bytes());
        out.extend_from_slice(self.prose().as_bytes());
        out.extend_from_slice(FIELDS.as_bytes());
        for (key, value) in self.fields() {
            out.extend_from_slice(format!("{key}: {value}\n").as_bytes());
        }
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(format!("{CHECKSUM}{crc:08x}\n").as_bytes());
        if out.len() > self.block_size as usize {
            return Err(Error::TooLarge {
                needed: out.len(),
                block_size: self.block_size,
            });
        }
        out.resize(self.block_size as usize, 0);
        Ok(out)
    }

    /// Reads a block 0.
    pub fn decode(block: &[u8]) -> Result<Self, Error> {
        if !looks_like(block) {
            return Err(Error::NotBlock0);
        }
        let length = u32::try_from(block.len()).unwrap_or(u32::MAX);
        if !limits::is_block_size(length)
            || frame::payload_length(block) != Some(length - frame::PREFIX as u32)
        {
            return Err(Error::Damaged("its length differs"));
        }
        let end = block[frame::PREFIX..]
            .iter()
            .position(|&b| b == 0)
            .map_or(block.len(), |at| frame::PREFIX + at);
        if block[end..].iter().any(|&b| b != 0) {
            return Err(Error::Damaged("its padding is not zeros"));
        }
        let text = std::str::from_utf8(&block[frame::PREFIX..end])
            .map_err(|_| Error::Damaged("its text is not UTF-8"))?;
        let (before, checksum) = text
            .rsplit_once(CHECKSUM)
            .ok_or(Error::Damaged("its checksum is missing"))?;
        let crc = crc32c::crc32c(&block[..frame::PREFIX + before.len()]);
        if checksum != format!("{crc:08x}\n") {
            return Err(Error::Damaged("its checksum differs"));
        }
        let (_, fields) = before
            .split_once(FIELDS)
            .ok_or(Error::Damaged("its fields are missing"))?;
        let block0 = Self::from_fields(&Fields(fields))?;
        if block0.block_size != length {
            return Err(Error::Damaged("its length differs from its block size"));
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
            ("Filter", Self::filter()),
        ];
        if let Some(skip) = self.skip {
            fields.push(("Skip", skip.to_string()));
        }
        if let Some(alone) = self.filter_alone() {
            fields.push(("Filter-alone", alone));
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

    fn from_fields(fields: &Fields<'_>) -> Result<Self, Error> {
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
            created_at_unix_nanos: text::parse_time(fields.need("Created")?)
                .ok_or(Error::Line("Created"))?,
        })
    }
}

/// The lines `Key: value`, of which later formats may have more.
struct Fields<'a>(&'a str);

impl<'a> Fields<'a> {
    fn get(&self, key: &str) -> Option<&'a str> {
        self.0
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))
    }

    fn need(&self, key: &'static str) -> Result<&'a str, Error> {
        self.get(key).ok_or(Error::Line(key))
    }

    fn number<T: std::str::FromStr>(&self, key: &'static str) -> Result<T, Error> {
        self.need(key)?.parse().map_err(|_| Error::Line(key))
    }

    fn optional<T: std::str::FromStr>(&self, key: &'static str) -> Result<Option<T>, Error> {
        self.get(key)
            .map(|value| value.parse().map_err(|_| Error::Line(key)))
            .transpose()
    }

    fn name(&self, key: &'static str) -> Result<String, Error> {
        text::unescape(self.need(key)?).ok_or(Error::Line(key))
    }
}
