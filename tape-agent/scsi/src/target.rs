//! The device's side of a command: what an emulator implements and a transport calls.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What a logical unit answers to one command.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Response {
    /// SAM status byte: 00h GOOD, 02h CHECK CONDITION, 08h BUSY, 18h RESERVATION CONFLICT.
    pub status: u8,
    /// Sense data (SPC), empty unless the status is CHECK CONDITION; at most 252 bytes.
    pub sense: Vec<u8>,
    /// Data-in bytes, never more than the initiator's capacity.
    pub data_in: Vec<u8>,
}

/// One initiator's connection to a logical unit (an `I_T` nexus): who registers, who is told of unit attentions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Nexus(u64);

impl Nexus {
    /// Whoever calls a target without a transport between.
    pub const DIRECT: Self = Self(0);

    /// A nexus that nobody had before in this process.
    #[allow(clippy::new_without_default)] // each is another one, so there is no default
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// What becomes of a command that reached a logical unit.
#[derive(Debug)]
pub enum Delivery {
    /// It is answered.
    Answer(Response),
    /// The answer takes its time, in which the unit may serve others.
    After {
        /// How long.
        time: Duration,
        /// The answer that comes then; `None`: the command could not run yet and is delivered again.
        answer: Option<Response>,
    },
    /// The connection breaks, and the initiator never learns whether the command ran.
    Disconnect,
    /// No answer comes until the gate opens.
    Hang {
        /// What it waits for.
        gate: Gate,
        /// The answer that comes then; `None`: the command did not run yet and is delivered again.
        answer: Option<Response>,
    },
}

/// Shut until somebody opens it; clones are the same gate.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    /// Lets through whoever waits or will wait.
    pub fn open(&self) {
        let (open, changed) = &*self.0;
        *open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        changed.notify_all();
    }

    /// Waits at most `limit`; whether the gate is open.
    pub fn wait(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let (open, changed) = &*self.0;
        let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
        while !*open {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            (open, _) = changed
                .wait_timeout(open, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
        true
    }
}

/// One logical unit, seen from the wire.
///
/// Commands come one at a time, as the standards' simple task model for tape demands.
pub trait Target: Send {
    /// Runs one command. `data_out` is what the initiator sends, `capacity_in` the most it takes back.
    fn execute(&mut self, cdb: &[u8], data_out: &[u8], capacity_in: usize) -> Response;

    /// Runs one command of this initiator. A unit that knows no initiators apart treats them as one.
    fn deliver(
        &mut self,
        _nexus: Nexus,
        cdb: &[u8],
        data_out: &[u8],
        capacity_in: usize,
    ) -> Delivery {
        Delivery::Answer(self.execute(cdb, data_out, capacity_in))
    }

    /// An initiator of its own port is there, of which the unit is told apart from all others: `again` if it was there
    /// before and had gone.
    fn connected(&mut self, _nexus: Nexus, _again: bool) {}

    /// The initiator is gone, its command (if one hangs) with it.
    fn disconnected(&mut self, _nexus: Nexus) {}

    /// The initiator gives up its command, if one hangs.
    fn aborted(&mut self, _nexus: Nexus) {}

    /// The unit is reset by an initiator.
    fn reset(&mut self) {}
}

/// How often it is looked whether anybody still waits for a command that takes its time.
pub const PULSE: Duration = Duration::from_millis(20);

/// Runs one command of an initiator to its end, however long that takes; `None` if there is to be no answer: the
/// connection breaks, or `given_up` says that nobody waits for it any more.
pub fn carry_out<T: Target + ?Sized, E>(
    target: &Mutex<T>,
    nexus: Nexus,
    (cdb, data_out, capacity_in): (&[u8], &[u8], usize),
    given_up: &mut dyn FnMut() -> Result<bool, E>,
) -> Result<Option<Response>, E> {
    loop {
        // The target is let go of before anything waits, so that a hanging command holds up nobody else.
        let delivered = target
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .deliver(nexus, cdb, data_out, capacity_in);
        let answer = match delivered {
            Delivery::Answer(response) => return Ok(Some(response)),
            Delivery::Disconnect => return Ok(None),
            Delivery::After { time, answer } => {
                let until = Instant::now() + time;
                loop {
                    let left = until.saturating_duration_since(Instant::now());
                    thread::sleep(left.min(PULSE));
                    if left <= PULSE {
                        break;
                    }
                    if given_up()? {
                        return Ok(None);
                    }
                }
                answer
            }
            Delivery::Hang { gate, answer } => {
                while !gate.wait(PULSE) {
                    if given_up()? {
                        return Ok(None);
                    }
                }
                answer
            }
        };
        if answer.is_some() {
            return Ok(answer);
        }
        // It did not run yet, and is not to if nobody wants it any more.
        if given_up()? {
            return Ok(None);
        }
    }
}
