//! How far an archive is on tape: what outlives its volumes.

use taf_format::block0::Predecessor;
use taf_format::segment::Header;
use taf_proto::agent::PartHeader;
use taf_proto::v1::Fault;
use uuid::Uuid;

use super::open::Part;
use crate::fault::protocol;

/// The parts of an archive that are on tape, and what comes behind them.
#[derive(Debug, Clone)]
pub struct Archive {
    uuid: Uuid,
    /// Parts on tape.
    number: u32,
    /// What the next part begins with.
    next_sequence: u64,
    next_tar_offset: u64,
    /// The last part.
    predecessor: Option<Predecessor>,
    /// Whether the last segment is in a part.
    whole: bool,
}

impl Archive {
    /// Nothing is on tape.
    pub fn new(uuid: Uuid) -> Archive {
        Archive {
            uuid,
            number: 0,
            next_sequence: 0,
            next_tar_offset: 0,
            predecessor: None,
            whole: false,
        }
    }

    /// Its name.
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// Parts that are on tape.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The last part.
    pub fn predecessor(&self) -> Option<Predecessor> {
        self.predecessor.clone()
    }

    /// Sequence of the first segment that is in no part on tape.
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Whether all of it is on tape.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// Refuses a segment that does not follow.
    pub(super) fn expect(&self, open: Option<&Part>, header: &Header) -> Result<(), Fault> {
        let (sequence, tar_offset) = open
            .and_then(Part::behind)
            .unwrap_or((self.next_sequence, self.next_tar_offset));
        if (header.sequence, header.tar_offset) == (sequence, tar_offset) && !self.whole {
            return Ok(());
        }
        Err(protocol(format!(
            "segment {} instead of {sequence}",
            header.sequence
        )))
    }

    pub(super) fn part_is_on_tape(&mut self, part: &PartHeader, as_predecessor: Predecessor) {
        self.number = part.part_number;
        self.next_sequence = part.last_sequence + 1;
        self.next_tar_offset = part.end_tar_offset;
        self.whole = part.last;
        self.predecessor = Some(as_predecessor);
    }
}
