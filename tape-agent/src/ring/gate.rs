//! When the drive may take: it is never started for a source that can't keep it streaming.
//!
//! Pure: time is told. A drive whose data come slower than its floor, the slowest speed at which it streams, stops, goes
//! back and starts again, each second or two, which wears it and the tape and takes longer than the data. So the gate is *shut*
//! while data are collected and *open* while the drive takes them, and it shuts again only when there is nothing left:
//!
//! ```text
//!            a part is complete · the ring is full to its mark · nothing more comes
//!            · the source outruns the floor · the first byte has waited long enough
//!        ┌──────────────────────────────────────────────────────────────────────────►┐
//!      shut                                                                         open
//!        └◄──────────────────────────────────────────────────────────────────────────┘
//!            there is nothing, and the source is slower than the floor (the drive starves)
//!            · a part ends, and the source is slower than the floor
//! ```
//! - *Full* is also when the source waits for room: whatever the sizes of ring, part and segment are, nobody waits for ever.
//! - *Outruns* is a quarter faster than the floor, measured from the first byte on, for [`PATIENCE`]. Each time that the drive starves the
//!   next proof has to last four times as long: a source that comes in bursts is seen through after a few stops, and from then on
//!   each stop takes a full ring.
//! - *Waited long enough* bounds how long a failing drive or medium goes unnoticed, and how much there is to lose in a ring. It
//!   saves no data earlier: only the end of a part commits.
//!
//! # In company
//! Several sources may have a part to write on the same volume, one after the other. Who has the turn holds up the others, so
//! a drive without a floor does not take what trickles, either: a part is collected, or a ringful if that is less. And who has
//! the turn and nothing to give while another one is ready *yields* it: the part ends there. That costs the filemark that the
//! drive's stop would have cost anyway.

use std::collections::VecDeque;
use std::time::Duration;

/// How fast a source is is measured over so long.
const WINDOW: Duration = Duration::from_secs(3);
/// And over at least so long, at its beginning.
const WINDOW_MIN: Duration = Duration::from_millis(250);
/// A source has to outrun the floor for so long, the first time.
const PATIENCE: Duration = Duration::from_secs(3);
/// A drive without a floor has starved when nothing came for so long.
const STALL: Duration = Duration::from_secs(5);
/// And gives way to another source after so long.
const LULL: Duration = Duration::from_millis(250);

/// What the gate goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Bytes a second at which the drive just streams; 0: it is never waited for.
    pub floor: u64,
    /// The first byte waits no longer than this.
    pub wait: Duration,
}

/// Who else writes on the volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Company {
    /// Nobody.
    #[default]
    Alone,
    /// Others do.
    Others,
    /// We have the turn, and another one is ready and waits for it.
    Awaited,
}

/// What is in the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Level {
    /// Bytes that the drive has not taken.
    pub available: u64,
    /// Bytes in all.
    pub held: u64,
    /// Bytes for which there is room.
    pub capacity: u64,
    /// The source waits for room.
    pub crowded: bool,
    /// Nothing more comes.
    pub ended: bool,
    /// Who else has something for the drive.
    pub company: Company,
}

/// What the drive may do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// Take what is next, or hear that there is no more.
    Take,
    /// Wait.
    Wait,
    /// There is nothing for now: bring the tape to a stop. Then it is to ask again.
    Starved,
    /// There is nothing for now, but another source has something: let that have the drive.
    Yield,
}

/// The gate of one transfer.
#[derive(Debug)]
pub struct Gate {
    terms: Terms,
    open: bool,
    /// Bytes that complete the part.
    need: u64,
    /// What came lately: when, bytes.
    recent: VecDeque<(Duration, u64)>,
    /// Since when the first byte waits behind the shut gate.
    waits_since: Option<Duration>,
    /// What came since then.
    collected: u64,
    patience: Duration,
    /// Since when there is nothing.
    empty_since: Option<Duration>,
    stopped_at: Option<Duration>,
    starved: u64,
    starved_for: Duration,
}

impl Gate {
    /// Shut, unless the drive has no floor.
    pub fn new(terms: Terms) -> Gate {
        Gate {
            terms,
            open: terms.floor == 0,
            need: u64::MAX,
            recent: VecDeque::new(),
            waits_since: None,
            collected: 0,
            patience: PATIENCE,
            empty_since: None,
            stopped_at: None,
            starved: 0,
            starved_for: Duration::ZERO,
        }
    }

    /// Another drive, or cartridge, has another floor.
    pub fn set_floor(&mut self, floor: u64) {
        self.terms.floor = floor;
    }

    /// Something came.
    pub fn arrived(&mut self, now: Duration, bytes: u64) {
        self.forget(now);
        self.recent.push_back((now, bytes));
        if !self.open {
            self.waits_since.get_or_insert(now);
            self.collected += bytes;
        }
    }

    fn forget(&mut self, now: Duration) {
        let old = |at: Duration| now.saturating_sub(at) > WINDOW;
        while self.recent.front().is_some_and(|(at, _)| old(*at)) {
            self.recent.pop_front();
        }
    }

    /// Bytes a second that came lately.
    pub fn rate(&mut self, now: Duration) -> u64 {
        self.forget(now);
        let Some((first, _)) = self.recent.front() else {
            return 0;
        };
        let bytes: u64 = self.recent.iter().map(|(_, bytes)| bytes).sum();
        per_second(bytes, now.saturating_sub(*first).max(WINDOW_MIN))
    }

    /// A part is to begin, which so many bytes complete. A source that keeps the drive streaming is not held up.
    pub fn part_begins(&mut self, now: Duration, need: u64, level: Level) {
        if self.terms.floor == 0 && level.company == Company::Alone {
            self.open = true;
        } else if self.terms.floor == 0 || self.rate(now) < self.terms.floor {
            self.shut(now, level);
        }
        self.need = need;
    }

    /// So many bytes complete the part that is open.
    pub fn part_needs(&mut self, need: u64) {
        self.need = need;
    }

    fn shut(&mut self, now: Duration, level: Level) {
        self.open = false;
        self.waits_since = (level.available > 0).then_some(now);
        self.collected = 0;
        self.empty_since = None;
    }

    /// What the drive may do.
    pub fn word(&mut self, now: Duration, level: Level) -> Word {
        if !self.open {
            if !(level.ended || level.available > 0 && self.opens(now, level)) {
                return match level.company {
                    Company::Awaited => Word::Yield,
                    _ => Word::Wait,
                };
            }
            self.open = true;
            self.waits_since = None;
            if let Some(stopped) = self.stopped_at.take() {
                self.starved_for += now.saturating_sub(stopped);
            }
        }
        if level.available > 0 || level.ended {
            self.empty_since = None;
            return Word::Take;
        }
        let empty = now.saturating_sub(*self.empty_since.get_or_insert(now));
        let awaited = level.company == Company::Awaited;
        let starved = match self.terms.floor {
            0 if awaited => empty >= LULL,
            0 => empty >= STALL,
            floor => self.rate(now) < floor,
        };
        if !starved {
            return Word::Wait;
        }
        self.shut(now, level);
        if awaited {
            return Word::Yield;
        }
        self.starved += 1;
        self.stopped_at = Some(now);
        self.patience = self.patience.saturating_mul(4);
        Word::Starved
    }

    fn opens(&self, now: Duration, level: Level) -> bool {
        let waited = now.saturating_sub(self.waits_since.unwrap_or(now));
        let floor = self.terms.floor;
        let outruns =
            waited >= self.patience && per_second(self.collected, waited) >= floor + floor / 4;
        let at_once = floor == 0 && level.company == Company::Alone;
        let outruns = outruns && floor > 0;
        at_once
            || level.crowded
            || level.held >= level.capacity - level.capacity / 8
            || level.available >= self.need
            || outruns
            || waited >= self.terms.wait
    }

    /// Whether the drive waits behind it.
    pub fn is_shut(&self) -> bool {
        !self.open
    }

    /// The slowest speed at which the drive streams.
    pub fn terms(&self) -> Terms {
        self.terms
    }

    /// How often the drive starved, and how long it has stood still for that.
    pub fn starved(&self, now: Duration) -> (u64, Duration) {
        let still = self
            .stopped_at
            .map_or(Duration::ZERO, |at| now.saturating_sub(at));
        (self.starved, self.starved_for + still)
    }
}

fn per_second(bytes: u64, time: Duration) -> u64 {
    (bytes as f64 / time.as_secs_f64().max(f64::MIN_POSITIVE)) as u64
}

#[cfg(test)]
mod tests;
