//! Receiving: the worker's bytes become segments again, proved and decompressed by several threads, in order. What is
//! damaged is handed on as damaged; only the entries in it are lost.

use std::collections::VecDeque;

use taf_format::segment;
use taf_proto::agent::{ReadResponse, read_response};
use tokio::sync::mpsc;
use tonic::Streaming;

use super::parts::Wanted;
use super::plan::Pending;
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
    pending: Pending,
    left: VecDeque<(u64, Wanted)>,
    bytes: Vec<u8>,
    /// What is wrong with the segment that is being received.
    damage: Option<String>,
    /// Bytes of that segment so far, lost ones included.
    position: u64,
}

/// Takes what the worker sends until the planner has ended and all its ranges are in.
///
/// # Errors
/// The worker's fault; `PEER_LOST`; answers that make no sense.
pub async fn receive(
    responses: &mut Streaming<ReadResponse>,
    mut pending: mpsc::UnboundedReceiver<Pending>,
    feed: Feed<Raw, Delivery>,
    counters: &Counters,
) -> Result<(), Error> {
    let mut current: Option<Current> = None;
    loop {
        let response = if current.is_some() {
            responses.message().await
        } else {
            tokio::select! {
                // In this order: a planner that is done ends the call, and only then does the worker.
                biased;
                next = pending.recv() => match next {
                    Some(next) => {
                        current = Some(Current::new(next));
                        continue;
                    }
                    None => return Ok(()),
                },
                response = responses.message() => response,
            }
        };
        let response = match response {
            Ok(Some(response)) => response.message,
            Ok(None) => {
                return Err(fault::peer_lost(
                    "the tape agent ended the transfer before everything was read",
                ));
            }
            Err(status) => {
                let what = "the connection to the tape agent broke";
                return Err(match taf_peer::faults::reason_of(&status) {
                    Some(_) => fault::from_status(&status, "PEER_LOST", what),
                    None => fault::peer_lost(format!("{what}: {}", fault::words(&status))),
                });
            }
        };
        let (id, piece, end) = match response {
            Some(read_response::Message::Fault(fault)) => return Err(Error::Fault(fault)),
            Some(read_response::Message::Chunk(chunk)) => {
                (chunk.id, Piece::Bytes(chunk.data), chunk.end)
            }
            Some(read_response::Message::Damaged(damaged)) => (
                damaged.id,
                Piece::Lost(damaged.length, damaged.reason),
                damaged.end,
            ),
            Some(read_response::Message::Ready(_)) | None => continue,
        };
        // It was announced before it was asked for.
        if current.is_none() {
            current = pending.try_recv().ok().map(Current::new);
        }
        let Some(range) = current.as_mut().filter(|range| range.pending.id == id) else {
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
            current = None;
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
            left: std::mem::take(&mut pending.segments).into(),
            pending,
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
