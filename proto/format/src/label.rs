//! The label: tape file 0 of every cartridge. It says whose the cartridge is and how to read on.
//!
//! Owns its three blocks (an 80-byte record in the manner of VOL1, a text for people, the data for us) and the
//! recognition of other people's first blocks. Decides nothing about what may be overwritten.

mod kind;

use prost::Message;
use taf_proto::tape;
use uuid::Uuid;

pub use kind::{Kind, identify};

use crate::{frame, limits, text};

/// First bytes of the block that holds the label's data.
const MAGIC: [u8; 8] = *b"TAFLABL1";
/// Bytes before the message: magic, length, CRC32C.
const HEAD: usize = 16;
const VERSION: u32 = 1;
/// Bytes of the VOL1 record.
const VOL1: usize = 80;

/// What can be wrong with a label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The first block is not ours.
    #[error("the cartridge begins with {0}, not with a TAF label")]
    NotTaf(Kind),
    /// The first block is ours but the label's data is not there.
    #[error("the cartridge's label is incomplete: {0}; treat the cartridge as holding data")]
    Incomplete(&'static str),
    /// The label's data differs from what was written.
    #[error("the cartridge's label is damaged: {0}; treat the cartridge as holding data")]
    Damaged(&'static str),
    /// A later format.
    #[error(
        "the cartridge's label has format {0}, which this version does not know; use a newer TAF"
    )]
    Version(u32),
    /// A field that the format does not allow.
    #[error("a label cannot have this {0}")]
    Field(&'static str),
}

/// What a label says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The installation that owns the cartridge.
    pub installation_uuid: Uuid,
    /// The cartridge, made at its first labelling.
    pub volume_uuid: Uuid,
    /// This recording: new whenever the cartridge is written from its beginning.
    pub recording_uuid: Uuid,
    /// Barcode, or the name of a cartridge without one ([`limits::is_barcode`]).
    pub barcode: String,
    /// The pool at the time of labelling.
    pub pool: String,
    /// Bytes of every block of every part on this recording ([`limits::is_block_size`]).
    pub block_size: u32,
    /// When it was labelled, nanoseconds since 1970-01-01 UTC.
    pub labelled_at_unix_nanos: i64,
    /// Program and version that wrote it.
    pub writer: String,
}

impl Label {
    fn check(&self) -> Result<(), Error> {
        let line = |name: &str, limit| name.len() <= limit && !name.contains(char::is_control);
        if !limits::is_barcode(&self.barcode) {
            return Err(Error::Field("barcode"));
        }
        if !line(&self.pool, limits::POOL) {
            return Err(Error::Field("pool"));
        }
        if !line(&self.writer, limits::WRITER) {
            return Err(Error::Field("writer"));
        }
        if !limits::is_block_size(self.block_size) {
            return Err(Error::Field("block size"));
        }
        if self.installation_uuid.is_nil()
            || self.volume_uuid.is_nil()
            || self.recording_uuid.is_nil()
        {
            return Err(Error::Field("uuid of all zeros"));
        }
        Ok(())
    }
}

/// The blocks of file 0, each at most [`limits::LABEL_BLOCK`] bytes; a filemark follows them on tape.
pub fn encode(label: &Label) -> Result<Vec<Vec<u8>>, Error> {
    label.check()?;
    Ok(vec![vol1(label), for_people(label), data(label)])
}

/// Reads a label from the blocks of file 0. A lost or damaged text is no error.
pub fn decode(blocks: &[Vec<u8>]) -> Result<Label, Error> {
    let first = blocks.first().map_or(&[][..], Vec::as_slice);
    let kind = identify(first);
    if kind != Kind::Taf {
        return Err(Error::NotTaf(kind));
    }
    if blocks.len() > limits::LABEL_BLOCKS || blocks.iter().any(|b| b.len() > limits::LABEL_BLOCK) {
        return Err(Error::Damaged("it is larger than any label"));
    }
    let block = blocks[1..]
        .iter()
        .find(|block| block.starts_with(&MAGIC))
        .ok_or(Error::Incomplete("its data block is missing"))?;
    if block.len() < HEAD {
        return Err(Error::Incomplete("its data block is cut short"));
    }
    let (head, message) = block.split_at(HEAD);
    if frame::u32_at(head, 8) as usize != message.len() {
        return Err(Error::Damaged("its length differs"));
    }
    if frame::u32_at(head, 12) != checksum(&head[..12], message) {
        return Err(Error::Damaged("its checksum differs"));
    }
    let message =
        tape::Label::decode(message).map_err(|_| Error::Damaged("its data is no message"))?;
    from_message(message)
}

fn from_message(message: tape::Label) -> Result<Label, Error> {
    if message.format_version != VERSION {
        return Err(Error::Version(message.format_version));
    }
    let uuid = |bytes: &[u8], name| Uuid::from_slice(bytes).map_err(|_| Error::Field(name));
    let label = Label {
        installation_uuid: uuid(&message.installation_uuid, "installation uuid")?,
        volume_uuid: uuid(&message.volume_uuid, "volume uuid")?,
        recording_uuid: uuid(&message.recording_uuid, "recording uuid")?,
        barcode: message.barcode,
        pool: message.pool,
        block_size: message.block_size,
        labelled_at_unix_nanos: message.labelled_at_unix_nanos,
        writer: message.writer,
    };
    label.check()?;
    Ok(label)
}

fn checksum(head: &[u8], message: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(head), message)
}

/// ANSI X3.27's volume label, with our name as the implementation and blanks for the owner.
fn vol1(label: &Label) -> Vec<u8> {
    let mut out = vec![b' '; VOL1];
    out[..4].copy_from_slice(b"VOL1");
    for (place, byte) in out[4..10].iter_mut().zip(label.barcode.bytes()) {
        *place = byte.to_ascii_uppercase();
    }
    out[24..27].copy_from_slice(b"TAF");
    out[79] = b'4';
    out
}

fn data(label: &Label) -> Vec<u8> {
    let message = tape::Label {
        format_version: VERSION,
        installation_uuid: label.installation_uuid.as_bytes().to_vec().into(),
        volume_uuid: label.volume_uuid.as_bytes().to_vec().into(),
        recording_uuid: label.recording_uuid.as_bytes().to_vec().into(),
        barcode: label.barcode.clone(),
        pool: label.pool.clone(),
        block_size: label.block_size,
        labelled_at_unix_nanos: label.labelled_at_unix_nanos,
        writer: label.writer.clone(),
    }
    .encode_to_vec();
    let mut out = Vec::with_capacity(HEAD + message.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&(message.len() as u32).to_le_bytes());
    let crc = checksum(&out, &message);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&message);
    out
}

fn for_people(label: &Label) -> Vec<u8> {
    let Label {
        installation_uuid,
        volume_uuid,
        recording_uuid,
        barcode,
        block_size,
        ..
    } = label;
    let (pool, writer) = (text::escape(&label.pool), text::escape(&label.writer));
    let labelled = text::time(label.labelled_at_unix_nanos);
    format!(
        "\
This is cartridge {barcode} of the backup system TAF.

Installation:  {installation_uuid}
Volume:        {volume_uuid}
Recording:     {recording_uuid}
Pool:          {pool}
Labelled:      {labelled}
Written by:    {writer}
Block size:    {block_size} bytes

HOW TO READ IT WITHOUT TAF

The cartridge is a sequence of tape files, each ended by a filemark. File 0 is this label. Each
further file is a part of an archive, or an index that only TAF needs. The first block of a part is
text: it says what the part is and gives the commands that unpack it. You need mt, dd, zstd and GNU
tar 1.27 or later.

1. Let the drive take blocks of any size:
     mt -f /dev/nst0 setblk 0
2. Look at the first block of tape file N, for N = 1, 2, 3 and so on, until there is none:
     mt -f /dev/nst0 rewind && mt -f /dev/nst0 fsf N && dd if=/dev/nst0 bs={block_size} count=1 | strings
3. Do what it says.
"
    )
    .into_bytes()
}
