//! Receiving: the worker's bytes become segments again, proved and decompressed by several threads, in order. What is
//! damaged is handed on as damaged; only the entries in it are lost.

use std::collections::VecDeque;

use taf_format::segment;
use taf_proto::agent::read_response;
use tokio::sync::mpsc;

use super::parts::Wanted;
use super::plan::Pending;
use super::tape::Tape;
use crate::fault::{self, Error};
use crate::ordered::Feed;
use crate::progress::Counters;

/// A segment as the tape gave it: its bytes, or why there are none.
pub type Raw = (u64, Wanted, Result<Vec<u8>, String>);

/// A segment for the writer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Its number.
    pub number: u64,
    /// Offset in the archive's tar stream of its first byte.
    pub tar_offset: u64,
    /// Its tar bytes, or why there are none.
    pub tar: Result<Vec<u8>, String>,
}

/// Proves and decompresses a segment.
pub fn open((number, wanted, bytes): Raw) -> Delivery {
    let tar = bytes.and_then(|bytes| {
        let opened = segment::open(&bytes).map_err(|error| error.to_string())?;
        let (header, expected) = (&opened.header, &wanted.segment);
        if header.archive_uuid != wanted.archive {
            return Err("a segment of another archive is in its place".to_owned());
        }
        if (header.sequence, header.tar_offset, header.tar_length)
            != (expected.sequence, expected.tar_offset, expected.tar_length)
        {
            return Err(format!(
                "segment {} is where segment {} should be",
                header.sequence, expected.sequence
            ));
        }
        Ok(opened.tar)
    });
    Delivery {
        number,
        tar_offset: wanted.segment.tar_offset,
        tar,
    }
}

/// A range that is being received.
struct Current {
    id: u32,
    /// Kept until the range is in: so many are under way at most.
    _pending: Pending,
    left: VecDeque<(u64, Wanted)>,
    bytes: Vec<u8>,
    /// What is wrong with the segment that is being received.
    damage: Option<String>,
    /// Bytes of that segment so far, lost ones included.
    position: u64,
}

/// Asks for the planner's ranges and takes what the worker sends, volume after volume, until the planner has ended and all its
/// ranges are in.
///
/// # Errors
/// The worker's fault; `PEER_LOST`; answers that make no sense.
pub async fn receive(
    tape: &mut Tape<'_>,
    mut pending: mpsc::UnboundedReceiver<Pending>,
    feed: Feed<Raw, Delivery>,
    counters: &Counters,
) -> Result<(), Error> {
    let mut asked: VecDeque<Current> = VecDeque::new();
    // Of another volume: its turn comes when everything of the present one is in.
    let mut held: Option<Pending> = None;
    let mut over = false;
    loop {
        if asked.is_empty()
            && let Some(next) = held.take()
        {
            counters.phase("mounting");
            tape.mount(next.volume).await?;
            counters.phase("reading");
            tape.ask(next.range).await;
            asked.push_back(Current::new(next));
        }
        if asked.is_empty() && over {
            return Ok(());
        }
        let response = tokio::select! {
            // In this order: what the planner says first decides whether the worker's end is too early.
            biased;
            next = pending.recv(), if held.is_none() && !over => {
                match next {
                    None => over = true,
                    Some(next) if tape.has(next.volume) => {
                        tape.ask(next.range).await;
                        asked.push_back(Current::new(next));
                    }
                    Some(next) => held = Some(next),
                }
                continue;
            }
            response = tape.hear() => response?,
        };
        let (id, piece, end) = match response {
            read_response::Message::Fault(fault) => return Err(Error::Fault(fault)),
            read_response::Message::Chunk(chunk) => (chunk.id, Piece::Bytes(chunk.data), chunk.end),
            read_response::Message::Damaged(damaged) => (
                damaged.id,
                Piece::Lost(damaged.length, damaged.reason),
                damaged.end,
            ),
            read_response::Message::Ready(_) => continue,
        };
        let Some(range) = asked.front_mut().filter(|range| range.id == id) else {
            return Err(fault::protocol(format!(
                "the tape agent sent range {id}, which was not asked for now"
            )));
        };
        if let Piece::Bytes(bytes) = &piece {
            Counters::add(&counters.stored, bytes.len() as u64);
        }
        let mut done = range.take(piece)?;
        if end {
            done.extend(range.give_up());
            asked.pop_front();
        }
        for raw in done {
            // The writer has ended and says why.
            if feed.put(raw).await.is_err() {
                return Ok(());
            }
        }
    }
}

enum Piece {
    Bytes(bytes::Bytes),
    Lost(u64, String),
}

impl Current {
    fn new(mut pending: Pending) -> Self {
        Self {
            id: pending.range.id,
            left: std::mem::take(&mut pending.segments).into(),
            _pending: pending,
            bytes: Vec::new(),
            damage: None,
            position: 0,
        }
    }

    /// Takes a piece; gives the segments that it completes.
    fn take(&mut self, piece: Piece) -> Result<Vec<Raw>, Error> {
        let (mut bytes, mut lost, reason) = match piece {
            Piece::Bytes(bytes) => (bytes, 0, None),
            Piece::Lost(length, reason) => (bytes::Bytes::new(), length, Some(reason)),
        };
        let mut done = Vec::new();
        while !bytes.is_empty() || lost > 0 {
            let Some((_, wanted)) = self.left.front() else {
                return Err(fault::protocol(
                    "the tape agent sent more than was asked for",
                ));
            };
            let room = u64::from(wanted.segment.stored_length) - self.position;
            if let Some(reason) = &reason {
                let now = lost.min(room);
                lost -= now;
                self.position += now;
                self.damage = Some(format!("could not be read from tape: {reason}"));
            } else {
                let now = bytes.split_to(bytes.len().min(room as usize));
                self.position += now.len() as u64;
                if self.bytes.capacity() == 0 {
                    self.bytes
                        .reserve_exact(wanted.segment.stored_length as usize);
                }
                self.bytes.extend_from_slice(&now);
            }
            if self.position == u64::from(wanted.segment.stored_length) {
                done.extend(self.complete());
            }
        }
        Ok(done)
    }

    fn complete(&mut self) -> Option<Raw> {
        let (number, wanted) = self.left.pop_front()?;
        let bytes = std::mem::take(&mut self.bytes);
        self.position = 0;
        Some((number, wanted, self.damage.take().map_or(Ok(bytes), Err)))
    }

    /// The range has ended; what did not come is lost.
    fn give_up(&mut self) -> Vec<Raw> {
        let mut done = Vec::new();
        while !self.left.is_empty() {
            self.damage
                .get_or_insert_with(|| "the tape agent did not send it".into());
            done.extend(self.complete());
        }
        done
    }
}
