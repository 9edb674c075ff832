//! What has come from the source and is not safe on tape: a queue with a memory.
//!
//! The receiver puts segments in and waits while there is no room: that is the backpressure. The drive's thread takes them out in
//! order, and they *stay*, since the drive may say later that it lost what it had taken: the thread then goes back and takes
//! them again, on another volume. Only what is [released](Outlet::release) makes room.
//!
//! It is memory and, behind that, a [file on a local disk](disk) if there is one: a segment that finds no room in memory goes
//! to the disk, whatever lies before and behind it. What comes back from the disk is proved, by its checksum and as the very
//! segment that was put there. A disk that can't be written is not used any more, which is said once, and what it has is still read;
//! what can't be read, or comes back changed, ends the transfer: nothing else has those bytes.
//!
//! When the drive may take is the [gate's](gate) matter.
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
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use taf_format::segment::{self, Header};
use taf_proto::v1::{DriveFlow, Fault};
use tokio::sync::Notify;

use self::disk::{Disk, Stretch, Used};
use self::gate::{Company, Gate, Level, Terms, Word};
use crate::fault::fault;

pub mod disk;
pub mod gate;

/// What stopping and starting anew costs a drive, in seconds: it goes back and comes up to speed again.
const STOP_SECONDS: f64 = 3.0;
/// What a drive writes in a second, for an estimate: LTO-8.
const RATE: f64 = 360e6;
/// A drive that waits looks at its gate so often.
const LOOK: Duration = Duration::from_millis(250);

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

/// What comes out.
#[derive(Debug)]
pub enum Next {
    /// The next segment.
    Segment(Segment),
    /// Nothing for longer than the drive can go on: it is to be brought to a stop. Then ask again.
    Starved,
    /// Nothing, and another source waits for the drive: the part is to end.
    Yield,
    /// There is no more.
    Ended,
}

/// What comes of waiting for a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// The drive may begin it.
    Part,
    /// There is no more.
    Ended,
    /// It is not waited for any longer.
    GivenUp,
}

/// Who else writes on the volume, whenever it is asked.
pub type Around = Arc<dyn Fn() -> Company + Send + Sync>;

/// What a ring is made of.
pub struct Plan {
    /// Bytes of memory.
    pub memory: u64,
    /// And a file behind it.
    pub disk: Option<Disk>,
    /// When the drive may take.
    pub terms: Terms,
    /// The time since some moment.
    pub clock: Clock,
}

/// The time since some moment.
pub type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// The host's clock.
pub fn clock() -> Clock {
    let start = Instant::now();
    Arc::new(move || start.elapsed())
}

/// A segment that is kept.
struct Kept {
    header: Header,
    length: u64,
    place: Place,
}

#[derive(Clone)]
enum Place {
    Memory(Bytes),
    /// With its first bytes as they were put there: the checksum in them is of those that follow.
    Disk(Stretch, Bytes),
}

#[allow(clippy::struct_excessive_bools)] // independent facts
struct State {
    /// Bytes of memory that it may take.
    limit: u64,
    /// Who else writes on the volume; nobody if not said.
    company: Option<Around>,
    /// What is not released, in order.
    kept: VecDeque<Kept>,
    /// Bytes of these.
    kept_bytes: u64,
    /// Of these so many were taken out.
    taken: usize,
    /// Bytes of these.
    taken_bytes: u64,
    /// Bytes of `kept` in memory.
    in_memory: u64,
    /// What of the disk is used, also by what is being written there.
    used: Used,
    /// Nothing more goes to the disk.
    disk_failed: bool,
    gate: Gate,
    /// The inlet waits for room.
    crowded: bool,
    /// Sequence of the segment behind the last one that came.
    next_sequence: u64,
    /// How often the drive says that it stopped and went back.
    repositions: Option<u64>,
    /// Nothing more comes.
    ended: bool,
    /// Nobody takes anything any more.
    closed: bool,
    /// The work is to end, whatever is still there.
    halted: bool,
}

struct Shared {
    disk: Option<Disk>,
    clock: Clock,
    state: Mutex<State>,
    /// Something came, or nothing more comes.
    came: Condvar,
    /// There is room, or the outlet is gone.
    room: Notify,
}

/// Where a segment can go.
enum Room {
    Memory,
    Disk(Disk, Stretch),
    None,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Whole after every statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        (self.clock)()
    }

    fn capacity(&self, state: &State) -> u64 {
        let disk = self.disk.as_ref().filter(|_| !state.disk_failed);
        state.limit.saturating_add(disk.map_or(0, Disk::size))
    }

    fn level(&self, state: &State) -> Level {
        Level {
            available: state.kept_bytes - state.taken_bytes,
            held: state.in_memory + state.used.bytes(),
            capacity: self.capacity(state),
            crowded: state.crowded,
            ended: state.ended,
            company: state.company.as_ref().map_or(Company::Alone, |ask| ask()),
        }
    }

    /// Finds room. What goes to the disk has it from now on.
    fn room(&self, state: &mut State, length: u64) -> Room {
        if state.in_memory + length <= state.limit {
            return Room::Memory;
        }
        if let Some(disk) = self.disk.as_ref().filter(|_| !state.disk_failed)
            && let Some(stretch) = state.used.take(length)
        {
            return Room::Disk(disk.clone(), stretch);
        }
        // The drive may need the next segment to let go of those that it has: their ends wait for a block to fill.
        if state.taken == state.kept.len() {
            return Room::Memory;
        }
        Room::None
    }

    fn keep(&self, state: &mut State, header: Header, length: u64, place: Place) {
        if let Place::Memory(_) = place {
            state.in_memory += length;
        }
        state.kept_bytes += length;
        state.crowded = false;
        state.next_sequence = header.sequence + 1;
        state.gate.arrived(self.now(), length);
        state.kept.push_back(Kept {
            header,
            length,
            place,
        });
        self.came.notify_one();
    }
}

/// Where segments go in. Dropping it ends the archive.
pub struct Inlet(Arc<Shared>);

/// Where they come out.
pub struct Outlet(Arc<Shared>);

/// A ring by plan. It keeps more than it may only if a single segment is larger.
pub fn ring(plan: Plan) -> (Inlet, Outlet) {
    let size = plan.disk.as_ref().map_or(0, Disk::size);
    let shared = Arc::new(Shared {
        disk: plan.disk,
        clock: plan.clock,
        state: Mutex::new(State {
            limit: plan.memory,
            company: None,
            kept: VecDeque::new(),
            kept_bytes: 0,
            taken: 0,
            taken_bytes: 0,
            in_memory: 0,
            used: Used::new(size),
            disk_failed: false,
            gate: Gate::new(plan.terms),
            crowded: false,
            next_sequence: 0,
            repositions: None,
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
    /// Whether there is room for so many bytes; as a put that waits if there is none.
    #[cfg(test)]
    pub fn has_room(&self, length: u64) -> bool {
        let mut state = self.0.lock();
        let room = self.0.room(&mut state, length);
        if let Room::Disk(..) = room {
            state.used.give_back_newest();
        }
        state.crowded = matches!(room, Room::None);
        !state.crowded
    }

    /// Puts the next segment in, as soon as there is room.
    pub async fn put(&self, segment: Segment) -> Result<(), Closed> {
        let length = segment.bytes.len() as u64;
        loop {
            let room = self.0.room.notified();
            tokio::pin!(room);
            // From here on no notification is missed.
            room.as_mut().enable();
            let found = {
                let mut state = self.0.lock();
                if state.closed || state.halted {
                    return Err(Closed);
                }
                let found = self.0.room(&mut state, length);
                if let Room::Memory = found {
                    let place = Place::Memory(segment.bytes);
                    self.0.keep(&mut state, segment.header, length, place);
                    return Ok(());
                }
                if let Room::None = found {
                    state.crowded = true;
                    self.0.came.notify_one();
                }
                found
            };
            let Room::Disk(disk, stretch) = found else {
                room.await;
                continue;
            };
            let bytes = segment.bytes.clone();
            let writing = disk.clone();
            let written = tokio::task::spawn_blocking(move || writing.write(stretch, &bytes)).await;
            let mut state = self.0.lock();
            match written.unwrap_or_else(|died| Err(std::io::Error::other(died))) {
                Ok(()) => {
                    let head = segment.bytes.len().min(segment.header.length());
                    let head = Bytes::copy_from_slice(&segment.bytes[..head]);
                    let place = Place::Disk(stretch, head);
                    self.0.keep(&mut state, segment.header, length, place);
                    return Ok(());
                }
                Err(error) => {
                    state.used.give_back_newest();
                    state.disk_failed = true;
                    tracing::error!(
                        file = %disk.path().display(),
                        %error,
                        "the spool can't be written; this archive goes on with memory alone: see that its disk is whole and has room"
                    );
                }
            }
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
    /// What is next, when the drive may have it. Segments stay in the ring.
    pub fn next_blocking(&mut self) -> Result<Next, Fault> {
        let mut state = self.0.lock();
        loop {
            match self.0.word(&mut state) {
                Word::Take => break,
                Word::Starved => return Ok(Next::Starved),
                Word::Yield => return Ok(Next::Yield),
                Word::Wait => {
                    let waited = self.0.came.wait_timeout(state, LOOK);
                    state = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
        self.take(state)
    }

    /// What is next, if the drive may have it now.
    #[cfg(test)]
    pub fn next_now(&mut self) -> Result<Option<Next>, Fault> {
        let mut state = self.0.lock();
        match self.0.word(&mut state) {
            Word::Take => self.take(state).map(Some),
            Word::Starved => Ok(Some(Next::Starved)),
            Word::Yield => Ok(Some(Next::Yield)),
            Word::Wait => Ok(None),
        }
    }

    /// Waits until the drive may begin a part, and takes nothing. `give_up` is asked now and then.
    pub fn ready_blocking(&mut self, give_up: impl Fn() -> bool) -> Ready {
        let mut state = self.0.lock();
        loop {
            if give_up() {
                return Ready::GivenUp;
            }
            match self.0.word(&mut state) {
                Word::Take if state.halted || state.taken == state.kept.len() => {
                    return Ready::Ended;
                }
                Word::Take => return Ready::Part,
                // No part is open, so nothing is to be done about it.
                Word::Starved | Word::Yield => {}
                Word::Wait => {
                    let waited = self.0.came.wait_timeout(state, LOOK);
                    state = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }

    /// From now on there is company at the volume.
    pub fn keep_company(&mut self, company: Option<Around>) {
        self.0.lock().company = company;
    }

    /// Whether the taking was ended from elsewhere.
    pub fn is_halted(&self) -> bool {
        self.0.lock().halted
    }

    /// Something that changes how much memory it may take.
    pub fn limit(&self) -> Limit {
        Limit(Arc::downgrade(&self.0))
    }

    fn take(&self, mut state: MutexGuard<'_, State>) -> Result<Next, Fault> {
        let Some(kept) = state.kept.get(state.taken).filter(|_| !state.halted) else {
            return Ok(Next::Ended);
        };
        let (header, length, place) = (kept.header.clone(), kept.length, kept.place.clone());
        state.taken += 1;
        state.taken_bytes += length;
        let all = state.taken == state.kept.len();
        drop(state);
        if all {
            // The last room of all: see `Shared::room`.
            self.0.room.notify_one();
        }
        let bytes = match (place, &self.0.disk) {
            (Place::Memory(bytes), _) => bytes,
            // It is not released meanwhile: only this thread does that.
            (Place::Disk(stretch, head), Some(disk)) => from_disk(disk, stretch, &head)?,
            (Place::Disk(..), None) => return Err(damaged("nowhere", "it has no file")),
        };
        Ok(Next::Segment(Segment { header, bytes }))
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
            if let Some(kept) = state.kept.pop_front() {
                match kept.place {
                    Place::Memory(_) => state.in_memory -= kept.length,
                    Place::Disk(..) => state.used.give_back_oldest(),
                }
                state.taken -= 1;
                state.taken_bytes -= kept.length;
                state.kept_bytes -= kept.length;
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
                let taken = state.kept.iter().take(back);
                state.taken_bytes = taken.map(|kept| kept.length).sum();
                Ok(())
            }
            None => Err(Released { first_kept }),
        }
    }

    /// The drive streams from so many bytes a second on; 0: it is never waited for.
    pub fn set_floor(&mut self, floor: u64) {
        self.0.lock().gate.set_floor(floor);
    }

    /// A part is to begin, which so many bytes complete.
    pub fn part_begins(&mut self, need: u64) {
        let mut state = self.0.lock();
        let level = self.0.level(&state);
        state.gate.part_begins(self.0.now(), need, level);
    }

    /// So many bytes complete the part that is open.
    pub fn part_needs(&mut self, need: u64) {
        self.0.lock().gate.part_needs(need);
    }

    /// The drive says that it stopped and went back so often more.
    pub fn repositioned(&mut self, times: u64) {
        *self.0.lock().repositions.get_or_insert(0) += times;
    }

    /// Bytes that were taken out and not released.
    pub fn unreleased(&self) -> u64 {
        self.0.lock().taken_bytes
    }

    /// Bytes that it holds at most, on the disk too.
    pub fn capacity(&self) -> u64 {
        self.0.capacity(&self.0.lock())
    }

    /// Bytes that it holds at most in memory.
    pub fn memory(&self) -> u64 {
        self.0.lock().limit
    }

    /// Something that ends the taking from elsewhere.
    pub fn halt(&self) -> Halt {
        Halt(Arc::clone(&self.0))
    }

    /// Something that shows how things are, from elsewhere.
    pub fn meter(&self) -> Meter {
        Meter(Arc::clone(&self.0))
    }
}

impl Shared {
    fn word(&self, state: &mut State) -> Word {
        if state.halted {
            return Word::Take;
        }
        let level = self.level(state);
        state.gate.word(self.now(), level)
    }
}

/// Reads a segment and proves that it is the one that was put there.
fn from_disk(disk: &Disk, stretch: Stretch, head: &[u8]) -> Result<Bytes, Fault> {
    let file = disk.path().display().to_string();
    let bytes = disk.read(stretch).map_err(|e| damaged(&file, e))?;
    segment::verify(&bytes).map_err(|e| damaged(&file, e))?;
    if !bytes.starts_with(head) {
        return Err(damaged(&file, "another segment lies there"));
    }
    Ok(bytes.into())
}

fn damaged(file: &str, what: impl std::fmt::Display) -> Fault {
    fault(
        "SPOOL_DAMAGED",
        format!("the spool {file} does not give back what was written into it: {what}"),
        "have its disk looked at, or take `spool` out of the tape agent's configuration, and run again",
    )
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

/// How much memory a ring may take.
#[derive(Clone)]
pub struct Limit(Weak<Shared>);

impl Limit {
    /// So many bytes from now on. What is in it already stays.
    pub fn set(&self, bytes: u64) {
        if let Some(shared) = self.0.upgrade() {
            shared.lock().limit = bytes;
            shared.room.notify_one();
        }
    }
}

impl std::fmt::Debug for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Limit")
    }
}

/// How full it is, and how the drive fares with it.
pub struct Meter(Arc<Shared>);

impl Meter {
    /// See [`Meter`].
    pub fn read(&self) -> DriveFlow {
        let mut state = self.0.lock();
        let now = self.0.now();
        let (starved_count, starved) = state.gate.starved(now);
        DriveFlow {
            ring_byte_count: state.in_memory,
            ring_size: state.limit,
            spool_byte_count: state.used.bytes(),
            spool_size: self.0.capacity(&state) - state.limit,
            source_bytes_per_second: state.gate.rate(now),
            floor_bytes_per_second: state.gate.terms().floor,
            collecting: state.gate.is_shut() && !state.ended,
            starved_count,
            starved_duration: prost_types::Duration::try_from(starved).ok(),
            reposition_count: state.repositions,
            ..DriveFlow::default()
        }
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.closed = true;
        state.kept.clear();
        state.kept_bytes = 0;
        state.in_memory = 0;
        state.used = Used::default();
        state.taken = 0;
        state.taken_bytes = 0;
        drop(state);
        self.0.room.notify_one();
    }
}

#[cfg(test)]
mod tests;
