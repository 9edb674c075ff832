//! What has come from the source and is not safe on tape: a queue with a memory.
//!
//! The receiver puts segments in and waits while there is no room: that is the backpressure. The drive's thread takes them out in
//! order, and they *stay*, since the drive may say later that it lost what it had taken: the thread then goes back and takes
//! them again, on another volume. Only what is [released](Outlet::release) makes room.
//!
//! # What may be released
//! A segment is released when it can't be needed again. There are two reasons for that, and they are not equally strong:
//!
//! 1. **It was flushed**: WRITE FILEMARKS with IMMED=0 came back behind it. It is on the medium, and if its part ends there it is
//!    committed. Only this commits.
//! 2. **READ POSITION said that its last block has passed from the drive's buffer to the medium.** This commits nothing. It is
//!    used for one thing: to decide that the bytes need not be kept for writing them *again after an early failure*. What the
//!    drive may still lose are the blocks in its buffer: by a failed write (a deferred error), a reset, a loss of power. Of a block
//!    that is on the medium none of these takes anything away, as long as nothing overwrites it, and nothing here does. So after
//!    such a failure the tape has every block up to there, and the ring has all that follows: nothing is missing. The claim that
//!    it *is* on tape is nevertheless made only when it is proved: by the filemark that ends the part or, after a failure, by
//!    reading back everything since the last flush (`parts::rescue`). Should both fail, the medium is worse than the drive said;
//!    then the attempt fails and says what is not on tape. Without this the ring would have to hold a whole part, 64 GiB of it.
//!
//! A drive that can't tell how much it has buffered is flushed whenever half the ring is unreleased; so is one whose own buffer
//! takes more than that. Each flush lets the tape stop, so the ring should be larger than the drive's buffer: see
//! [`flush_cost`].

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use taf_format::segment::Header;
use tokio::sync::Notify;

/// What stopping and starting anew costs a drive, in seconds: it goes back and comes up to speed again.
const STOP_SECONDS: f64 = 3.0;
/// What a drive writes in a second, for an estimate: LTO-8.
const RATE: f64 = 360e6;

/// A segment, proved.
#[derive(Debug, Clone)]
pub struct Segment {
    /// Its header.
    pub header: Header,
    /// All of it, as it goes to tape.
    pub bytes: Bytes,
}

/// The share of its time that a drive stands still if it is flushed after every half of a ring of so many bytes.
pub fn flush_cost(ring: u64) -> f64 {
    let writing = ring as f64 / 2.0 / RATE;
    STOP_SECONDS / (STOP_SECONDS + writing)
}

/// The outlet is gone: nobody takes segments any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed;

/// A segment was asked for again that has been released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Released {
    /// The first that is still there.
    pub first_kept: u64,
}

struct State {
    /// What is not released, in order.
    kept: VecDeque<Segment>,
    /// Of these so many were taken out.
    taken: usize,
    /// Bytes of `kept`.
    bytes: u64,
    /// Sequence of the segment behind the last one that came.
    next_sequence: u64,
    /// Nothing more comes.
    ended: bool,
    /// Nobody takes anything any more.
    closed: bool,
    /// The work is to end, whatever is still there.
    halted: bool,
}

struct Shared {
    capacity: u64,
    state: Mutex<State>,
    /// Something came, or nothing more comes.
    came: Condvar,
    /// There is room, or the outlet is gone.
    room: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Whole after every statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where segments go in. Dropping it ends the archive.
pub struct Inlet(Arc<Shared>);

/// Where they come out.
pub struct Outlet(Arc<Shared>);

/// A ring that keeps up to `capacity` bytes; more only if a single segment is larger.
pub fn ring(capacity: u64) -> (Inlet, Outlet) {
    let shared = Arc::new(Shared {
        capacity,
        state: Mutex::new(State {
            kept: VecDeque::new(),
            taken: 0,
            bytes: 0,
            next_sequence: 0,
            ended: false,
            closed: false,
            halted: false,
        }),
        came: Condvar::new(),
        room: Notify::new(),
    });
    (Inlet(Arc::clone(&shared)), Outlet(shared))
}

impl Inlet {
    /// Puts the next segment in, as soon as there is room.
    pub async fn put(&self, segment: Segment) -> Result<(), Closed> {
        let length = segment.bytes.len() as u64;
        loop {
            let room = self.0.room.notified();
            tokio::pin!(room);
            // From here on no notification is missed.
            room.as_mut().enable();
            {
                let mut state = self.0.lock();
                if state.closed || state.halted {
                    return Err(Closed);
                }
                if state.bytes == 0 || state.bytes + length <= self.0.capacity {
                    state.bytes += length;
                    state.next_sequence = segment.header.sequence + 1;
                    state.kept.push_back(segment);
                    self.0.came.notify_one();
                    return Ok(());
                }
            }
            room.await;
        }
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.came.notify_one();
    }
}

impl Outlet {
    /// The next segment, when it comes; none behind the last. It stays in the ring.
    pub fn next_blocking(&mut self) -> Option<Segment> {
        let mut state = self.0.lock();
        loop {
            if state.halted {
                return None;
            }
            if let Some(segment) = state.kept.get(state.taken) {
                let segment = segment.clone();
                state.taken += 1;
                return Some(segment);
            }
            if state.ended {
                return None;
            }
            state = self
                .0
                .came
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Segments up to this sequence are not needed again. What was not taken yet stays.
    pub fn release(&mut self, sequence: u64) {
        let mut state = self.0.lock();
        let mut freed = false;
        while state.taken > 0
            && state
                .kept
                .front()
                .is_some_and(|kept| kept.header.sequence <= sequence)
        {
            if let Some(segment) = state.kept.pop_front() {
                state.bytes -= segment.bytes.len() as u64;
                state.taken -= 1;
                freed = true;
            }
        }
        drop(state);
        if freed {
            self.0.room.notify_one();
        }
    }

    /// Goes back: the next segment is the one with this sequence, which must not be released.
    pub fn go_back(&mut self, sequence: u64) -> Result<(), Released> {
        let mut state = self.0.lock();
        let first_kept = state
            .kept
            .front()
            .map_or(state.next_sequence, |kept| kept.header.sequence);
        // Sequences have no gaps, which the writer sees to.
        let back = sequence.checked_sub(first_kept).map(|n| n as usize);
        match back.filter(|back| *back <= state.taken) {
            Some(back) => {
                state.taken = back;
                Ok(())
            }
            None => Err(Released { first_kept }),
        }
    }

    /// Bytes that were taken out and not released.
    pub fn unreleased(&self) -> u64 {
        let state = self.0.lock();
        let taken = state.kept.iter().take(state.taken);
        taken.map(|segment| segment.bytes.len() as u64).sum()
    }

    /// Bytes that it holds at most.
    pub fn capacity(&self) -> u64 {
        self.0.capacity
    }

    /// Something that ends the taking from elsewhere.
    pub fn halt(&self) -> Halt {
        Halt(Arc::clone(&self.0))
    }
}

/// Ends the taking: the outlet gives nothing more, and the inlet takes nothing.
pub struct Halt(Arc<Shared>);

impl Halt {
    /// See [`Halt`].
    pub fn now(&self) {
        self.0.lock().halted = true;
        self.0.came.notify_one();
        self.0.room.notify_one();
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.closed = true;
        state.kept.clear();
        state.bytes = 0;
        state.taken = 0;
        drop(state);
        self.0.room.notify_one();
    }
}

#[cfg(test)]
mod tests;
