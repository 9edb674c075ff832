//! Which segments hold a range of an archive's tar stream, by the tables of its parts.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use taf_format::table::{Located, SegmentTable};
use taf_proto::agent::RecallPart;
use uuid::Uuid;

use crate::fault::{self, Error};

/// Most parts of a restore; a part has megabytes of table.
const PARTS_MAX: usize = 65_536;

/// A volume that holds parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its recording: 16 bytes.
    pub recording: Bytes,
    /// Its barcode, for people.
    pub barcode: String,
}

/// A tape file that holds segments.
#[derive(Debug, Clone)]
pub struct Part {
    /// Number of the volume.
    pub volume: usize,
    /// The archive.
    pub archive: Uuid,
    /// Tape file.
    pub tape_file: u64,
    /// Logical block of its block 0.
    pub first_block: u64,
    table: SegmentTable,
}

/// A segment and where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Ordinal of the archive.
    pub ordinal: u32,
    /// The archive.
    pub archive: Uuid,
    /// Number of the volume, in the order in which the bytes of the version need them.
    pub volume: usize,
    /// Tape file.
    pub tape_file: u64,
    /// Logical block of the tape file's block 0.
    pub first_block: u64,
    /// The segment.
    pub segment: Located,
}

/// All parts that a restore reads.
#[derive(Debug, Default)]
pub struct Parts {
    /// By ordinal of the archive and tar offset of the first byte.
    parts: BTreeMap<(u32, u64), Part>,
    /// In the order in which they came.
    volumes: Vec<Volume>,
}

impl Parts {
    /// Adds a part.
    ///
    /// # Errors
    /// A table or uuid that makes no sense.
    pub fn add(&mut self, part: &RecallPart) -> Result<(), Error> {
        let bad = |what: &str| {
            fault::protocol(format!(
                "part {} of archive {} {what}",
                part.part_number, part.archive_ordinal
            ))
        };
        if self.parts.len() >= PARTS_MAX {
            return Err(bad("is one part too many"));
        }
        let table = SegmentTable::decode(&part.segment_table)
            .map_err(|error| bad(&format!("has no usable segment table: {error}")))?;
        let archive = Uuid::from_slice(&part.archive_uuid)
            .map_err(|_| bad("has an archive uuid that is not 16 bytes"))?;
        let Some(first) = table.segments().first() else {
            return Ok(());
        };
        let key = (part.archive_ordinal, first.tar_offset);
        let known = self
            .volumes
            .iter()
            .position(|volume| volume.recording == part.recording_uuid);
        let volume = known.unwrap_or_else(|| {
            self.volumes.push(Volume {
                recording: part.recording_uuid.clone(),
                barcode: part.barcode.clone(),
            });
            self.volumes.len() - 1
        });
        self.parts.insert(
            key,
            Part {
                volume,
                archive,
                tape_file: part.tape_file,
                first_block: part.first_block,
                table,
            },
        );
        Ok(())
    }

    /// The volumes, each once, in the order of the version's bytes.
    pub fn volumes(&self) -> &[Volume] {
        &self.volumes
    }

    /// The segments that hold `tar`, in order, without gaps.
    ///
    /// # Errors
    /// The first byte that no part has.
    pub fn segments(&self, ordinal: u32, tar: Range<u64>) -> Result<Vec<Wanted>, u64> {
        let mut wanted = Vec::new();
        let mut at = tar.start;
        while at < tar.end {
            let found = self.parts.range((ordinal, 0)..=(ordinal, at)).next_back();
            let (_, part) = found.ok_or(at)?;
            let begin = at;
            for &segment in part.table.covering(at..tar.end) {
                if segment.tar_offset > at {
                    return Err(at);
                }
                wanted.push(Wanted {
                    ordinal,
                    archive: part.archive,
                    volume: part.volume,
                    tape_file: part.tape_file,
                    first_block: part.first_block,
                    segment,
                });
                at = segment.tar_end();
            }
            if at == begin {
                return Err(at);
            }
        }
        Ok(wanted)
    }
}
