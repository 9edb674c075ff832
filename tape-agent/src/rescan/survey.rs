//! Which tape files there are: where each begins and ends, and what its first block says it is. Nothing is written.

use taf_drive::{Drive, Error, Read};
use taf_format::block0::Block0;
use taf_format::index::Head;
use taf_format::label;
use taf_format::limits;
use taf_proto::agent::Recording;

/// What a tape file is, by its first block.
#[derive(Debug, Clone)]
pub enum What {
    /// A volume index.
    Index(Box<Head>),
    /// A part.
    Part(Box<Block0>),
    /// Nothing of this recording: in words.
    Other(String),
    /// Its first block can't be read: why.
    Unreadable(String),
}

/// A tape file.
#[derive(Debug, Clone)]
pub struct TapeFile {
    /// Its number, if anything tells it.
    pub number: Option<u64>,
    /// Its first logical block.
    pub first_block: u64,
    /// Blocks in it.
    pub blocks: u64,
    /// Logical block behind its filemark; behind its last block if it has none.
    pub next_block: u64,
    /// What it is.
    pub what: What,
}

impl TapeFile {
    /// Whether a filemark ends it.
    pub fn is_closed(&self) -> bool {
        self.first_block + self.blocks < self.next_block
    }
}

/// The tape file that ends right before block `behind`.
pub fn before(
    drive: &mut dyn Drive,
    recording: &Recording,
    behind: u64,
) -> Result<TapeFile, Error> {
    drive.locate(behind)?;
    drive.space_filemarks(-1)?;
    let mark = drive.position()?.block;
    let closed = mark + 1 == behind;
    let (first_block, blocks) = if closed {
        // Before the filemark of the tape file before this one, which the label has at least.
        drive.space_filemarks(-1)?;
        let first = drive.position()?.block + 1;
        (first, mark.saturating_sub(first))
    } else {
        (mark + 1, behind - mark - 1)
    };
    look(drive, recording, (first_block, blocks, behind))
}

/// The tape file that begins at block `first`; the data end at block `end`.
pub fn at(
    drive: &mut dyn Drive,
    recording: &Recording,
    first: u64,
    end: u64,
) -> Result<TapeFile, Error> {
    drive.locate(first)?;
    let behind = match drive.space_filemarks(1) {
        Ok(taf_drive::Spaced::All) => drive.position()?.block,
        Ok(_) | Err(Error::Medium(_) | Error::BlankCheck(_)) => end + 1,
        Err(error) => return Err(error),
    };
    if behind <= end {
        look(drive, recording, (first, behind - 1 - first, behind))
    } else {
        look(drive, recording, (first, end - first, end))
    }
}

fn look(
    drive: &mut dyn Drive,
    recording: &Recording,
    (first_block, blocks, next_block): (u64, u64, u64),
) -> Result<TapeFile, Error> {
    drive.locate(first_block)?;
    let number = drive.position()?.file;
    let mut buffer = vec![0; limits::BLOCK_SIZE_MAX as usize];
    let what = match drive.read_block(&mut buffer) {
        Ok(Read::Block(length)) => identify(&buffer[..length], recording),
        Ok(_) => What::Other("an empty tape file".to_owned()),
        Err(error @ (Error::Medium(_) | Error::BlankCheck(_) | Error::BlockTooLarge { .. })) => {
            What::Unreadable(error.to_string())
        }
        // All else may hide a reset or another cartridge.
        Err(error) => return Err(error),
    };
    let said = match &what {
        What::Index(head) => Some(head.tape_file),
        What::Part(block0) => Some(u64::from(block0.tape_file)),
        What::Other(_) | What::Unreadable(_) => None,
    };
    Ok(TapeFile {
        number: number.or(said),
        first_block,
        blocks,
        next_block,
        what,
    })
}

fn identify(block: &[u8], recording: &Recording) -> What {
    let ours = |uuid: uuid::Uuid| uuid.as_bytes()[..] == recording.recording_uuid[..];
    if let Ok(block0) = Block0::decode(block) {
        return if ours(block0.recording_uuid) && block0.block_size == recording.block_size {
            What::Part(Box::new(block0))
        } else {
            What::Other("a part of another recording".to_owned())
        };
    }
    match Head::decode(block) {
        Ok(head) if ours(head.recording_uuid) && head.block_size == recording.block_size => {
            What::Index(Box::new(head))
        }
        Ok(_) => What::Other("a volume index of another recording".to_owned()),
        Err(_) => match label::identify(block) {
            label::Kind::TafPart | label::Kind::TafIndex => {
                What::Unreadable("its first block is damaged".to_owned())
            }
            kind => What::Other(kind.to_string()),
        },
    }
}
