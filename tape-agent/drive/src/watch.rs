//! Seeing that a command hangs.
//!
//! A command that never comes back can't be called back: its thread sits in the kernel, and to break it off would reset the
//! drive. But others can see it from outside, say since when, and give its work up. Of a path that was given up nothing more is
//! sent, whatever its command brings when it comes back after all: by then others have decided without it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use taf_scsi::cdb::opcode;
use taf_scsi::transport::{Completion, Data, Error, Transport};

/// Threading may calibrate a new cartridge for hours.
const LOAD: Duration = Duration::from_hours(3);
/// A long erase or a format writes the whole tape.
const ERASE: Duration = Duration::from_hours(24);

/// A command on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Command {
    /// Its operation code.
    pub opcode: u8,
    /// When it was sent.
    pub since: SystemTime,
    /// When it was sent, for measuring.
    pub begun: Instant,
}

impl Command {
    /// Its name in the standards.
    pub fn name(&self) -> &'static str {
        match self.opcode {
            opcode::TEST_UNIT_READY => "TEST UNIT READY",
            opcode::REWIND => "REWIND",
            opcode::READ_6 => "READ",
            opcode::WRITE_6 => "WRITE",
            opcode::WRITE_FILEMARKS_6 | opcode::WRITE_FILEMARKS_16 => "WRITE FILEMARKS",
            opcode::SPACE_6 | opcode::SPACE_16 => "SPACE",
            opcode::LOCATE_10 | opcode::LOCATE_16 => "LOCATE",
            opcode::READ_POSITION => "READ POSITION",
            opcode::LOAD_UNLOAD => "LOAD UNLOAD",
            opcode::ERASE_6 => "ERASE",
            opcode::FORMAT_MEDIUM => "FORMAT MEDIUM",
            opcode::INQUIRY => "INQUIRY",
            opcode::MODE_SENSE_6 | opcode::MODE_SENSE_10 => "MODE SENSE",
            opcode::MODE_SELECT_6 | opcode::MODE_SELECT_10 => "MODE SELECT",
            opcode::LOG_SENSE => "LOG SENSE",
            opcode::READ_ATTRIBUTE => "READ ATTRIBUTE",
            opcode::PREVENT_ALLOW_MEDIUM_REMOVAL => "PREVENT ALLOW MEDIUM REMOVAL",
            opcode::PERSISTENT_RESERVE_IN => "PERSISTENT RESERVE IN",
            opcode::PERSISTENT_RESERVE_OUT => "PERSISTENT RESERVE OUT",
            _ => "a command",
        }
    }

    /// Whether it takes longer than it should, if ordinary commands are given so long.
    pub fn hangs(&self, ordinary: Duration) -> bool {
        let limit = match self.opcode {
            opcode::LOAD_UNLOAD => LOAD.max(ordinary),
            opcode::ERASE_6 | opcode::FORMAT_MEDIUM => ERASE.max(ordinary),
            _ => ordinary,
        };
        self.begun.elapsed() > limit
    }
}

#[derive(Debug, Default)]
struct State {
    /// Paths are numbered; the newest one counts.
    path: u64,
    /// The newest path was given up.
    given_up: bool,
    running: Option<Command>,
}

/// A look at a device from outside. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Watch(Arc<Mutex<State>>);

impl Watch {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Plain values, whole after every statement.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The command that is on its way now.
    pub fn running(&self) -> Option<Command> {
        self.lock().running
    }

    /// Nothing more is sent on the path that is open now.
    pub fn give_up(&self) {
        self.lock().given_up = true;
    }

    /// A path that can be seen from here. It is open from now on, and older ones are closed.
    pub fn over(&self, path: Box<dyn Transport>) -> Box<dyn Transport> {
        Box::new(Watched {
            path,
            lane: self.lane(),
        })
    }

    /// The same for a way to a drive that is no transport.
    pub(crate) fn lane(&self) -> Lane {
        let mut state = self.lock();
        state.path += 1;
        state.given_up = false;
        state.running = None;
        Lane {
            number: state.path,
            watch: self.clone(),
        }
    }
}

/// What goes to a device on one path, one thing after another.
pub(crate) struct Lane {
    number: u64,
    watch: Watch,
}

impl Lane {
    /// Does what this operation code stands for. `None` if the path was given up before or meanwhile: nothing counts then.
    pub(crate) fn run<T>(&self, opcode: u8, command: impl FnOnce() -> T) -> Option<T> {
        if !self.begin(opcode) {
            return None;
        }
        let outcome = command();
        self.end().then_some(outcome)
    }

    fn begin(&self, opcode: u8) -> bool {
        let mut state = self.watch.lock();
        let open = state.path == self.number && !state.given_up;
        if open {
            state.running = Some(Command {
                opcode,
                since: SystemTime::now(),
                begun: Instant::now(),
            });
        }
        open
    }

    fn end(&self) -> bool {
        let mut state = self.watch.lock();
        if state.path != self.number {
            return false;
        }
        state.running = None;
        !state.given_up
    }
}

struct Watched {
    path: Box<dyn Transport>,
    lane: Lane,
}

/// What is said of a path that was given up.
pub(crate) fn given_up(device: &str) -> Error {
    Error::Lost {
        device: device.to_owned(),
        reason: "a command hung, and its work was given up".to_owned(),
    }
}

impl Transport for Watched {
    fn execute(
        &mut self,
        cdb: &[u8],
        data: Data<'_>,
        timeout: Duration,
    ) -> Result<Completion, Error> {
        let Self { path, lane } = self;
        let opcode = cdb.first().copied().unwrap_or_default();
        let outcome = lane.run(opcode, || path.execute(cdb, data, timeout));
        outcome.unwrap_or_else(|| Err(given_up(path.name())))
    }

    fn max_transfer(&self) -> usize {
        self.path.max_transfer()
    }

    fn measure(&mut self) -> Result<usize, Error> {
        let Self { path, lane } = self;
        let outcome = lane.run(opcode::INQUIRY, || path.measure());
        outcome.unwrap_or_else(|| Err(given_up(path.name())))
    }

    fn name(&self) -> &str {
        self.path.name()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::mpsc;
    use std::thread;

    use taf_scsi::cdb;

    use super::*;

    /// Answers when it is let.
    struct Slow(mpsc::Receiver<()>);

    impl Transport for Slow {
        fn execute(&mut self, _: &[u8], _: Data<'_>, _: Duration) -> Result<Completion, Error> {
            self.0.recv().unwrap();
            Ok(Completion {
                status: 0,
                sense: Vec::new(),
                transferred: 0,
            })
        }

        fn max_transfer(&self) -> usize {
            1 << 20
        }

        fn name(&self) -> &'static str {
            "slow"
        }
    }

    fn rewind(path: &mut dyn Transport) -> Result<Completion, Error> {
        path.execute(&cdb::rewind(), Data::None, Duration::MAX)
    }

    #[test]
    fn a_command_is_seen_while_it_runs_and_not_behind() {
        let watch = Watch::default();
        let (answer, slow) = mpsc::channel();
        let mut path = watch.over(Box::new(Slow(slow)));
        assert_eq!(watch.running(), None);
        let running = thread::spawn(move || {
            rewind(path.as_mut()).unwrap();
        });
        let command = loop {
            match watch.running() {
                Some(command) => break command,
                None => thread::yield_now(),
            }
        };
        assert_eq!(command.name(), "REWIND");
        assert!(command.hangs(Duration::ZERO) && !command.hangs(Duration::MAX));
        answer.send(()).unwrap();
        running.join().unwrap();
        assert_eq!(watch.running(), None);
    }

    #[test]
    fn a_path_that_was_given_up_sends_nothing_more_and_the_next_one_does() {
        let watch = Watch::default();
        let (answer, slow) = mpsc::channel();
        let mut first = watch.over(Box::new(Slow(slow)));
        let hanging = thread::spawn(move || {
            let outcome = rewind(first.as_mut());
            (first, outcome)
        });
        while watch.running().is_none() {
            thread::yield_now();
        }
        watch.give_up();
        answer.send(()).unwrap();
        let (mut first, outcome) = hanging.join().unwrap();
        // It came back, but nobody counts on it any more.
        assert!(matches!(outcome, Err(Error::Lost { .. })));
        assert!(matches!(rewind(first.as_mut()), Err(Error::Lost { .. })));
        let (answer, slow) = mpsc::channel();
        let mut second = watch.over(Box::new(Slow(slow)));
        answer.send(()).unwrap();
        rewind(second.as_mut()).unwrap();
        assert!(matches!(rewind(first.as_mut()), Err(Error::Lost { .. })));
    }
}
