//! Planning: which segments each item needs, which ranges of tape that makes, and in which order everything goes.
//!
//! Ranges only go forward, over one volume after another: each volume is needed once in a pass. An item that lies behind what
//! was asked for already is put off to the next pass. Segments
//! are numbered in the order in which they come, and an item says which numbers it needs: the planner, the receiver
//! and the writer never have to agree on more.

use std::collections::HashSet;
use std::sync::Arc;

use taf_proto::agent::{ReadRange, RecallItem};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::parts::{Parts, Wanted};
use super::recall::Items;
use crate::fault::Error;

/// Bytes at which a range is not made longer.
const RANGE: u64 = 16 << 20;
/// Ranges asked for and not yet received.
pub(super) const RANGES_AHEAD: usize = 16;
/// Items put off to the next pass, at which this pass ends.
const LATE_MAX: usize = 1_000_000;

/// What an item needs of the tape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: a directory from the catalog, or a further name of what came before.
    Nothing,
    /// The segments with these numbers.
    Segments {
        /// First.
        first: u64,
        /// Last.
        last: u64,
    },
    /// What no part has.
    Missing(String),
}

/// An item on its way to the writer.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// The item.
    pub item: RecallItem,
    /// What it needs.
    pub needs: Needs,
}

/// A range asked for.
#[derive(Debug)]
pub struct Pending {
    /// What the worker is asked for.
    pub range: ReadRange,
    /// Number of the volume that it is on.
    pub volume: usize,
    /// Its segments in order, each with its number.
    pub segments: Vec<(u64, Wanted)>,
    /// Given back when the range has been received.
    #[allow(dead_code)]
    permit: OwnedSemaphorePermit,
}

/// Where the planner's results go.
#[derive(Debug)]
pub struct Outlets {
    /// To the writer.
    pub orders: mpsc::Sender<Order>,
    /// To the receiver, which asks the worker.
    pub pending: mpsc::UnboundedSender<Pending>,
}

/// What a pass left over.
#[derive(Debug, Default)]
pub struct Left {
    /// Items to be done in another pass.
    pub late: Vec<RecallItem>,
    /// Whether the stream of items came to its end.
    pub exhausted: bool,
}

struct Planner<'a> {
    parts: &'a Parts,
    out: Outlets,
    ahead: Arc<Semaphore>,
    next_id: u32,
    next_number: u64,
    /// The last segment that was given a number.
    last: Option<Wanted>,
    /// The range under construction.
    run: Vec<(u64, Wanted)>,
}

/// The other side has gone; it knows why.
struct Gone;

/// Plans items until there are no more of them, or too many must wait for the next pass. `linked` are the places of
/// files with several names that were met in this restore.
pub async fn plan(
    items: &mut Items,
    parts: &Parts,
    linked: &mut HashSet<(u32, u64)>,
    out: Outlets,
) -> Result<Left, Error> {
    let mut left = Left::default();
    let mut planner = Planner {
        parts,
        out,
        ahead: Arc::new(Semaphore::new(RANGES_AHEAD)),
        next_id: 1,
        next_number: 0,
        last: None,
        run: Vec::new(),
    };
    while left.late.len() < LATE_MAX {
        let Some(item) = items.next().await? else {
            left.exhausted = true;
            break;
        };
        match planner.item(item, linked).await {
            Ok(late) => left.late.extend(late),
            Err(Gone) => return Ok(left),
        }
    }
    // If this fails the receiver has ended, and says why.
    let _ = planner.flush().await;
    Ok(left)
}

impl Planner<'_> {
    /// Plans one item; gives it back if it is for the next pass.
    async fn item(
        &mut self,
        item: RecallItem,
        linked: &mut HashSet<(u32, u64)>,
    ) -> Result<Option<RecallItem>, Gone> {
        let place = (item.archive_ordinal, item.tar_offset);
        if item.ancestor.is_some() || (item.link_group != 0 && linked.contains(&place)) {
            self.order(item, Needs::Nothing).await?;
            return Ok(None);
        }
        let end = item.tar_offset.saturating_add(item.tar_length.max(1));
        let wanted = match self.parts.segments(place.0, item.tar_offset..end) {
            Ok(wanted) => wanted,
            Err(at) => {
                let reason = format!("no part has byte {at} of archive {}", place.0);
                self.order(item, Needs::Missing(reason)).await?;
                return Ok(None);
            }
        };
        let Some(first) = wanted.first() else {
            return Ok(Some(item));
        };
        let shares = self.last.is_some_and(|last| last == *first);
        if !shares
            && self
                .last
                .is_some_and(|last| position(&last) >= position(first))
        {
            return Ok(Some(item));
        }
        if item.link_group != 0 {
            linked.insert(place);
        }
        let first_number = self.next_number - u64::from(shares);
        let new = &wanted[usize::from(shares)..];
        let needs = Needs::Segments {
            first: first_number,
            last: first_number + wanted.len() as u64 - 1,
        };
        // The writer hears of the item first: so whatever is asked for has a taker.
        self.order(item, needs).await?;
        for &segment in new {
            self.extend(segment).await?;
        }
        Ok(None)
    }

    async fn order(&mut self, item: RecallItem, needs: Needs) -> Result<(), Gone> {
        match self.out.orders.try_send(Order { item, needs }) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Gone),
            Err(mpsc::error::TrySendError::Full(order)) => {
                // The writer may be waiting for what is not yet asked for. Whatever comes of that, it hears of the item.
                let flushed = self.flush().await;
                self.out.orders.send(order).await.map_err(|_| Gone)?;
                flushed
            }
        }
    }

    async fn extend(&mut self, segment: Wanted) -> Result<(), Gone> {
        let follows = self.run.last().is_some_and(|(_, last)| {
            (last.volume, last.tape_file) == (segment.volume, segment.tape_file)
                && last.archive == segment.archive
                && last.segment.byte_end() == segment.segment.byte_offset
        });
        let length: u64 = self.run.first().map_or(0, |(_, first)| {
            segment
                .segment
                .byte_end()
                .saturating_sub(first.segment.byte_offset)
        });
        if !self.run.is_empty() && (!follows || length > RANGE) {
            self.flush().await?;
        }
        self.run.push((self.next_number, segment));
        self.next_number += 1;
        self.last = Some(segment);
        Ok(())
    }

    /// Asks for the range under construction.
    async fn flush(&mut self) -> Result<(), Gone> {
        let (Some((_, first)), Some((_, last))) = (self.run.first(), self.run.last()) else {
            return Ok(());
        };
        let range = ReadRange {
            id: self.next_id,
            tape_file: first.tape_file,
            first_block: first.first_block,
            byte_offset: first.segment.byte_offset,
            length: last.segment.byte_end() - first.segment.byte_offset,
        };
        let volume = first.volume;
        let permit = Arc::clone(&self.ahead)
            .acquire_owned()
            .await
            .map_err(|_| Gone)?;
        let pending = Pending {
            range,
            volume,
            segments: std::mem::take(&mut self.run),
            permit,
        };
        self.next_id = self.next_id.wrapping_add(1);
        self.out.pending.send(pending).map_err(|_| Gone)
    }
}

/// Tape order: of volumes as the version needs them, on them by tape file, within it by byte.
fn position(wanted: &Wanted) -> (usize, u64, u64) {
    (wanted.volume, wanted.tape_file, wanted.segment.byte_offset)
}
