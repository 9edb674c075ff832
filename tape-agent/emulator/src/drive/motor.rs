//! The drive's motor and buffer in time: what streaming, stopping and winding cost.
//!
//! Pure: the time is told, and how long to wait is answered. One engine serves both directions. Writing, the
//! medium owes what is in the buffer; reading, it owes what is still free in it. It pays at the drive's rate, or
//! slower, down to its floor, when it owes little (speed matching). When it owes nothing while it streams, the
//! tape has to stop and go back: a reposition, during which nothing is paid. It starts again when it owes half
//! the buffer, or at once when somebody waits.

use std::time::Duration;

/// How fast a drive and its tape are; zero is as fast as can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Speeds {
    /// Bytes a second to and from the medium.
    pub rate: u64,
    /// The slowest at which it streams; 0: it knows no other speed than `rate`.
    pub floor: u64,
    /// Time to stop, go back and start again.
    pub reposition: Duration,
    /// Time to thread a cartridge.
    pub load: Duration,
    /// Time to unthread it, besides rewinding.
    pub unload: Duration,
    /// Time that any LOCATE, SPACE or REWIND takes that moves, besides the way.
    pub locate: Duration,
    /// Time to wind the tape from one end to the other.
    pub wind: Duration,
    /// How often the tape runs from one end to the other until its capacity is written; 0 counts as 1.
    pub wraps: u32,
    /// Time that an LTO-9 cartridge takes at its first load, when it is optimised.
    pub initialise: Duration,
    /// Time that cleaning takes.
    pub clean: Duration,
}

impl Speeds {
    /// About those of a full-height drive of this LTO generation, 5 to 10.
    pub fn of_generation(number: u8) -> Self {
        const MB: u64 = 1_000_000;
        let (rate, floor, wraps) = match number {
            5 => (140, 47, 80),
            6 => (160, 54, 136),
            7 => (300, 101, 112),
            8 => (365, 112, 208),
            9 => (408, 177, 280),
            _ => (400, 180, 354),
        };
        Self {
            rate: rate * MB,
            floor: floor * MB,
            reposition: Duration::from_secs(4),
            load: Duration::from_secs(15),
            unload: Duration::from_secs(20),
            locate: Duration::from_secs(3),
            wind: Duration::from_secs(95),
            wraps,
            initialise: Duration::from_mins(40),
            clean: Duration::from_mins(2),
        }
    }

    /// Where along the tape a place lies, as a fraction: it runs to and fro.
    fn along(&self, place: u64, capacity: u64) -> f64 {
        let wraps = f64::from(self.wraps.max(1));
        let runs = place as f64 / capacity.max(1) as f64 * wraps;
        let rest = runs.fract();
        if (runs as u64).is_multiple_of(2) {
            rest
        } else {
            1.0 - rest
        }
    }

    /// How long the tape winds from one place to another; both are bytes from the beginning.
    pub fn way(&self, from: u64, to: u64, capacity: u64) -> Duration {
        if from == to {
            return Duration::ZERO;
        }
        let along = self.along(from, capacity) - self.along(to, capacity);
        self.locate + self.wind.mul_f64(along.abs().min(1.0))
    }
}

/// Which way the data go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Writing,
    Reading,
}

/// What the tape does.
#[derive(Debug, Default)]
pub(super) struct Motor {
    direction: Option<Direction>,
    /// Bytes that the medium owes.
    owed: u64,
    /// Whether it streams. If it starts in future, it does so at `from`.
    streaming: bool,
    /// Up to when all of this is reckoned, or the start in future.
    from: Duration,
    /// How often it had to stop and go back.
    pub repositions: u64,
}

impl Motor {
    /// Whether the medium has taken what it was given so far: what it still owes, while writing.
    pub fn unwritten(&self) -> u64 {
        match self.direction {
            Some(Direction::Writing) => self.owed,
            _ => 0,
        }
    }

    /// Reckons up to `now`.
    pub fn advance(&mut self, speeds: &Speeds, buffer: u64, now: Duration) {
        if speeds.rate == 0 {
            self.owed = 0;
            return;
        }
        if !self.streaming || now <= self.from {
            return;
        }
        let time = now.saturating_sub(self.from);
        let half = buffer / 2;
        let floor = if speeds.floor == 0 {
            speeds.rate
        } else {
            speeds.floor.min(speeds.rate)
        };
        // Full speed down to half of the buffer, then the floor.
        let fast = self.owed.saturating_sub(half);
        let fast_for = span(fast, speeds.rate);
        if time < fast_for {
            self.owed -= paid(time, speeds.rate).min(fast);
            self.from = now;
            return;
        }
        let slow = self.owed - fast;
        let slow_for = span(slow, floor);
        let rest = time.saturating_sub(fast_for);
        if rest < slow_for {
            self.owed = slow - paid(rest, floor).min(slow);
            self.from = now;
            return;
        }
        self.owed = 0;
        self.from += fast_for + slow_for;
        self.stop(speeds);
    }

    /// The tape stops and goes back.
    fn stop(&mut self, speeds: &Speeds) {
        self.streaming = false;
        self.repositions += 1;
        self.from += speeds.reposition;
    }

    fn start(&mut self, now: Duration) {
        if !self.streaming {
            self.streaming = true;
            self.from = self.from.max(now);
        }
    }

    /// `bytes` go to or from the buffer: how long the host waits for it.
    pub fn transfer(
        &mut self,
        speeds: &Speeds,
        buffer: u64,
        direction: Direction,
        bytes: u64,
        now: Duration,
    ) -> Duration {
        if speeds.rate == 0 {
            return Duration::ZERO;
        }
        let mut waited = Duration::ZERO;
        if self.direction != Some(direction) {
            waited = self.settle(speeds, buffer, now);
            self.direction = Some(direction);
            // Reading ahead, the medium owes a whole buffer from the start.
            self.owed = if direction == Direction::Reading {
                buffer.max(bytes)
            } else {
                0
            };
        }
        self.advance(speeds, buffer, now + waited);
        let room = buffer.saturating_sub(bytes);
        if self.owed >= buffer / 2 || self.owed > room {
            self.start(now + waited);
        }
        if self.owed > room {
            let until = self.from + span(self.owed - room, speeds.rate);
            waited = until.saturating_sub(now).max(waited);
            self.owed = room;
            self.from = until;
        }
        self.owed += bytes;
        waited
    }

    /// What is written goes to the medium, what was read ahead is forgotten, and the tape stops: how long that
    /// takes.
    pub fn settle(&mut self, speeds: &Speeds, buffer: u64, now: Duration) -> Duration {
        self.advance(speeds, buffer, now);
        let mut waited = Duration::ZERO;
        if self.unwritten() > 0 {
            self.start(now);
            self.from += span(self.owed, speeds.rate);
            waited = self.from.saturating_sub(now);
        }
        if self.streaming {
            self.from = self.from.max(now + waited);
            self.stop(speeds);
        }
        self.owed = 0;
        self.direction = None;
        waited
    }

    /// The tape is wound elsewhere, or let go: nothing is owed, and it stands still.
    pub fn rest(&mut self, now: Duration) {
        self.streaming = false;
        self.direction = None;
        self.owed = 0;
        self.from = now;
    }
}

fn span(bytes: u64, rate: u64) -> Duration {
    Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64)
}

fn paid(time: Duration, rate: u64) -> u64 {
    (time.as_secs_f64() * rate as f64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1_000_000;
    const BUFFER: u64 = 1000 * MB;

    fn speeds() -> Speeds {
        Speeds {
            rate: 400 * MB,
            floor: 100 * MB,
            reposition: Duration::from_secs(4),
            wind: Duration::from_secs(100),
            locate: Duration::from_secs(2),
            wraps: 10,
            ..Speeds::default()
        }
    }

    /// A host that gives or takes 10 MB at a time at `rate` for `seconds`: how long it waited in all, and how
    /// often the tape had to go back.
    fn host(direction: Direction, rate: u64, seconds: u64) -> (Duration, u64) {
        let mut motor = Motor::default();
        let mut now = Duration::ZERO;
        let mut waited = Duration::ZERO;
        while now < Duration::from_secs(seconds) {
            now += span(10 * MB, rate);
            let wait = motor.transfer(&speeds(), BUFFER, direction, 10 * MB, now);
            now += wait;
            waited += wait;
        }
        (waited, motor.repositions)
    }

    #[test]
    fn it_streams_between_its_floor_and_its_rate() {
        for direction in [Direction::Writing, Direction::Reading] {
            for rate in [110, 200, 390] {
                let (_, repositions) = host(direction, rate * MB, 600);
                assert_eq!(repositions, 0, "{direction:?} at {rate} MB/s");
            }
            // Below the floor it goes back again and again: half a buffer is gone in 500 / (100 - 50) s and
            // filled in 500 / 50 s.
            let (waited, repositions) = host(direction, 50 * MB, 600);
            assert!(
                (25..=32).contains(&repositions),
                "{direction:?}: {repositions}"
            );
            assert!(waited < Duration::from_secs(3), "{waited:?}");
        }
    }

    #[test]
    fn a_faster_host_waits_for_it() {
        for direction in [Direction::Writing, Direction::Reading] {
            let (waited, repositions) = host(direction, 800 * MB, 600);
            assert_eq!(repositions, 0);
            let share = waited.as_secs_f64() / 600.0;
            assert!((0.45..0.55).contains(&share), "half of the time: {share}");
        }
    }

    #[test]
    fn a_flush_waits_for_the_medium_and_stops_the_tape() {
        let (speeds, mut motor, mut now) = (speeds(), Motor::default(), Duration::ZERO);
        assert_eq!(motor.settle(&speeds, BUFFER, now), Duration::ZERO);
        motor.transfer(&speeds, BUFFER, Direction::Writing, 400 * MB, now);
        assert_eq!(motor.unwritten(), 400 * MB, "it has not started");
        let wait = motor.settle(&speeds, BUFFER, now);
        assert_eq!((wait, motor.repositions), (Duration::from_secs(1), 1));
        now += wait;
        // The next flush has to wait until the tape is back.
        motor.transfer(&speeds, BUFFER, Direction::Writing, 400 * MB, now);
        let wait = motor.settle(&speeds, BUFFER, now);
        assert_eq!(wait, Duration::from_secs(5));
    }

    #[test]
    fn a_stalled_source_costs_one_stop() {
        let (speeds, mut motor) = (speeds(), Motor::default());
        let minute = Duration::from_mins(1);
        for stall in 0..10 {
            let mut now = minute * stall;
            for _ in 0..60 {
                now += motor.transfer(&speeds, BUFFER, Direction::Writing, 10 * MB, now);
            }
            motor.advance(&speeds, BUFFER, minute * (stall + 1));
            assert_eq!(motor.unwritten(), 0);
            assert_eq!(motor.repositions, u64::from(stall) + 1);
        }
    }

    #[test]
    fn ways_are_along_the_tape_not_along_the_data() {
        let speeds = speeds();
        let way = |from, to| speeds.way(from, to, 10_000).as_secs();
        assert_eq!(way(0, 0), 0);
        assert_eq!(way(0, 500), 2 + 50);
        assert_eq!(way(0, 1000), 2 + 100, "the far end");
        assert_eq!(
            way(0, 2000),
            2,
            "to and fro, it is near the beginning again"
        );
        assert_eq!(way(500, 1500), 2, "side by side on neighbouring wraps");
        assert_eq!(way(1500, 0), 2 + 50);
    }
}
