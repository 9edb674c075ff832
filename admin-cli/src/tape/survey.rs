//! What a tape holds, file by file: its label, and of each part what its first block says, or its segments where that
//! block can't be read. Reads a block or two of each tape file and no more.

use taf_format::block0::Block0;
use taf_format::index;
use taf_format::label::{self, Kind, Label};
use taf_format::resync::{Event, Expect, PartReader, Point};
use taf_format::segment::Header;
use taf_format::{limits, resync};
use uuid::Uuid;

use super::Error;
use super::medium::{Medium, Next};

/// Blocks that are searched for a segment where a part's first block can't be read.
const SEARCHED: u64 = 256;

/// See the module.
#[derive(Debug)]
pub struct Survey {
    /// The label, or why it can't be read.
    pub label: Result<Label, String>,
    /// Tape files from 1 on.
    pub files: Vec<TapeFile>,
}

/// A tape file.
#[derive(Debug)]
pub struct TapeFile {
    /// Its number.
    pub number: u64,
    /// Its first object on tape.
    pub first_block: u64,
    /// Blocks in it.
    pub blocks: u64,
    /// Bytes of its first block, if that could be read.
    pub first_length: Option<u64>,
    /// Whether a filemark ends it.
    pub closed: bool,
    /// What it is.
    pub content: Content,
}

impl TapeFile {
    /// Bytes in it at most: its last block may be shorter than its first. None if the first can't be read.
    pub fn bytes_at_most(&self) -> Option<u64> {
        Some(self.first_length?.saturating_mul(self.blocks))
    }
}

/// What a tape file is.
#[derive(Debug)]
pub enum Content {
    /// A part of an archive.
    Part(Box<Part>),
    /// A volume index.
    Index(Box<index::Head>),
    /// No block at all.
    Empty,
    /// None of ours, or of a kind that this version does not know.
    Other(Kind),
    /// Nothing of it could be read.
    Unreadable,
}

/// A part of an archive.
#[derive(Debug)]
pub struct Part {
    /// Its first block, if that could be read.
    pub block0: Option<Block0>,
    /// The archive.
    pub archive: Uuid,
    /// The archive's ordinal on its line.
    pub ordinal: u32,
    /// The version's number on its line.
    pub version: u64,
    /// Where it begins in the archive; of a part without a first block, the first segment that could be read.
    pub first: Point,
    /// Bytes of a block.
    pub block_size: u32,
}

/// Reads the label and looks at every tape file.
pub fn survey(medium: &mut Medium) -> Result<Survey, Error> {
    let label = read_label(medium)?;
    let block_size = label.as_ref().ok().map(|label| label.block_size);
    let files = files(medium, 1, block_size)?;
    Ok(Survey { label, files })
}

/// Looks at every tape file from here on, where tape file `first` begins. `block_size` is our label's, if there is one: only
/// then segments of ours are searched for where a first block can't be read.
pub fn files(
    medium: &mut Medium,
    first: u64,
    block_size: Option<u32>,
) -> Result<Vec<TapeFile>, Error> {
    let mut files = Vec::new();
    for number in first.. {
        let first_block = medium.at();
        let mut first_length = None;
        let mut content = match medium.read()? {
            Next::End => break,
            Next::Filemark => {
                files.push(TapeFile {
                    number,
                    first_block,
                    blocks: 0,
                    first_length,
                    closed: true,
                    content: Content::Empty,
                });
                continue;
            }
            Next::Block(block) => {
                first_length = Some(block.len() as u64);
                recognise(block)
            }
            Next::Unreadable => None,
        };
        if content.is_none() {
            content = by_segments(medium, block_size)?;
        }
        if !medium.locate(first_block)? {
            break;
        }
        let closed = medium.next_file()?;
        let end = medium.at();
        files.push(TapeFile {
            number,
            first_block,
            blocks: (end - first_block).saturating_sub(u64::from(closed)),
            first_length,
            closed,
            content: content.unwrap_or(Content::Unreadable),
        });
        if !closed {
            break;
        }
    }
    Ok(files)
}

/// Reads tape file 0 and goes behind it. A tape that is somebody else's is an error; a label of ours that can't be read is
/// not, for the parts say everything again.
pub fn read_label(medium: &mut Medium) -> Result<Result<Label, String>, Error> {
    medium.rewind()?;
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    let mut unreadable = false;
    let mut first = true;
    loop {
        match medium.read()? {
            Next::End if first => return Err(Error::Blank(medium.name().to_owned())),
            Next::End | Next::Filemark => break,
            Next::Unreadable => unreadable = true,
            Next::Block(block) => {
                let kind = label::identify(block);
                if first && !matches!(kind, Kind::Taf | Kind::TafPart | Kind::TafIndex) {
                    let device = medium.name().to_owned();
                    return Err(Error::Foreign { device, kind });
                }
                if block.len() <= limits::LABEL_BLOCK {
                    blocks.push(block.to_vec());
                }
                if blocks.len() > limits::LABEL_BLOCKS {
                    medium.next_file()?;
                    break;
                }
            }
        }
        first = false;
    }
    if unreadable {
        return Ok(Err("a block of the label can't be read".to_owned()));
    }
    Ok(label::decode(&blocks).map_err(|error| error.to_string()))
}

/// What a first block says; `None` if it is damaged.
fn recognise(block: &[u8]) -> Option<Content> {
    match label::identify(block) {
        Kind::TafPart => {}
        Kind::TafIndex => {
            let head = index::Head::decode(block).ok()?;
            return Some(Content::Index(Box::new(head)));
        }
        Kind::Unknown | Kind::Zeros | Kind::Empty => return None,
        other => return Some(Content::Other(other)),
    }
    let block0 = Block0::decode(block).ok()?;
    Some(Content::Part(Box::new(Part {
        archive: block0.archive_uuid,
        ordinal: block0.archive_ordinal,
        version: block0.version,
        first: Point {
            sequence: block0.first_sequence,
            tar_offset: block0.first_tar_offset,
        },
        block_size: block0.block_size,
        block0: Some(block0),
    })))
}

/// Looks for the first segment behind a first block that could not be read, or is none.
fn by_segments(medium: &mut Medium, block_size: Option<u32>) -> Result<Option<Content>, Error> {
    let mut reader = PartReader::new(Expect::default(), 0);
    let mut size = block_size;
    for _ in 0..SEARCHED {
        match medium.read()? {
            Next::Block(block) => {
                size = size.or(Some(block.len() as u32));
                reader.push_block(block);
            }
            Next::Unreadable => reader.lost_block(size.unwrap_or(limits::BLOCK_SIZE_MIN)),
            Next::Filemark | Next::End => {
                reader.finish();
                return Ok(first_segment(&mut reader, size).or(Some(Content::Other(Kind::Unknown))));
            }
        }
        if let Some(found) = first_segment(&mut reader, size) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn first_segment(reader: &mut PartReader, block_size: Option<u32>) -> Option<Content> {
    let header = segments(reader).next()?;
    Some(Content::Part(Box::new(Part {
        block0: None,
        archive: header.archive_uuid,
        ordinal: header.archive_ordinal,
        version: header.version,
        first: Point {
            sequence: header.sequence,
            tar_offset: header.tar_offset,
        },
        block_size: block_size?,
    })))
}

fn segments(reader: &mut PartReader) -> impl Iterator<Item = Header> {
    std::iter::from_fn(|| reader.next_event()).filter_map(|event| match event {
        Event::Segment(resync::Found { header, .. }) => Some(header),
        Event::Damaged(_) => None,
    })
}

impl Survey {
    /// The part that a tape file is.
    pub fn part(&self, index: usize) -> Option<&Part> {
        match &self.files.get(index)?.content {
            Content::Part(part) => Some(part),
            _ => None,
        }
    }

    /// Whether the last segments of a tape file's part hold the archive's last. Reads its end only.
    pub fn ends(&self, index: usize, archive: Uuid, medium: &mut Medium) -> Result<bool, Error> {
        let (file, Some(part)) = (&self.files[index], self.part(index)) else {
            return Ok(false);
        };
        let needed = (limits::SEGMENT_STORED as u64).div_ceil(u64::from(part.block_size)) + 1;
        let from = file.blocks.saturating_sub(needed).max(1);
        let mut reader = PartReader::new(
            Expect {
                archive_uuid: Some(archive),
                ..Expect::default()
            },
            0,
        );
        if !medium.locate(file.first_block + from)? {
            return Ok(false);
        }
        loop {
            match medium.read()? {
                Next::Block(block) => reader.push_block(block),
                Next::Unreadable => reader.lost_block(part.block_size),
                Next::Filemark | Next::End => break,
            }
        }
        reader.finish();
        Ok(segments(&mut reader).any(|header| header.last))
    }
}
