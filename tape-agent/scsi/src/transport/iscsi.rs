//! A path over TCP to a logical unit of an iSCSI target (RFC 7143): virtual libraries, gateways to clouds, and the
//! emulator's own target.
//!
//! A path is one session of one connection, for one logical unit. After a timeout or a broken connection the outcome of
//! the command is unknown, so the path stays lost: it never connects again by itself. Between commands a thread answers
//! the target's pings and sends some, so that a path which is idle lives, and a dead one is noticed.
//!
//! Targets know initiators by name and session id (ISID). Both are the same for a host and a logical unit as long as the
//! host lives, or it would meet its own reservations. So a second session to the same unit would throw the first one out;
//! within a host a claim keeps it from that.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use super::{Completion, Data, Error, TRANSFER_MAX, Transport};

mod address;
pub mod chap;
mod discovery;
mod identity;
pub mod keys;
mod login;
pub mod pdu;
mod session;

pub use address::{Address, PORT, Portal};
pub use discovery::{Found, find_serial, scan};
pub use identity::{Settings, configure, configured};

use identity::Claim;
use login::{Purpose, log_in};
use session::{Failure, Session};

/// Between two looks at a connection that is idle.
const LOOK: Duration = Duration::from_secs(1);

/// See the module.
pub struct Iscsi {
    name: String,
    lun: u16,
    state: Arc<Mutex<State>>,
    /// Held, never used: when it goes, the thread that looks after the connection ends.
    _keeper: mpsc::Sender<()>,
    /// Held, never used.
    _claim: Claim,
}

/// The session, or why there is none any more.
type State = Result<Session, String>;

impl Iscsi {
    /// Logs in to the target of a logical unit.
    pub fn open(address: &Address<'_>, settings: &Settings) -> Result<Self, Error> {
        let name = address.to_string();
        let lost = |reason| Error::Lost {
            device: name.clone(),
            reason,
        };
        let claim = Claim::of(&settings.initiator, &name).map_err(lost)?;
        let purpose = Purpose::Unit {
            target: address.target,
            lun: address.lun,
        };
        let session = log_in(&address.portal, purpose, settings).map_err(lost)?;
        let state = Arc::new(Mutex::new(Ok(session)));
        let (keeper, ended) = mpsc::channel();
        let kept = Arc::downgrade(&state);
        thread::Builder::new()
            .name("iscsi-keeper".to_owned())
            .spawn(move || keep(&kept, &ended))
            .map_err(|error| lost(format!("can't start a thread: {error}")))?;
        Ok(Self {
            name,
            lun: address.lun,
            state,
            _keeper: keeper,
            _claim: claim,
        })
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks after a connection between commands, until its path is gone.
fn keep(state: &Weak<Mutex<State>>, ended: &mpsc::Receiver<()>) {
    while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(LOOK) {
        let Some(state) = state.upgrade() else { return };
        // Whoever holds it runs a command, and hears what the target says himself.
        let Ok(mut state) = state.try_lock() else {
            continue;
        };
        let looked = match &mut *state {
            Ok(session) => session.look(),
            Err(_) => return,
        };
        if let Err(reason) = looked {
            tracing::warn!(reason, "an idle connection to an iSCSI target is lost");
            *state = Err(reason);
        }
    }
}

impl Transport for Iscsi {
    fn execute(
        &mut self,
        cdb: &[u8],
        data: Data<'_>,
        timeout: Duration,
    ) -> Result<Completion, Error> {
        data.fits(&self.name, cdb)?;
        let mut state = lock(&self.state);
        let lost = |reason| Error::Lost {
            device: self.name.clone(),
            reason,
        };
        let session = match &mut *state {
            Ok(session) => session,
            Err(reason) => return Err(lost(reason.clone())),
        };
        let failure = match session.run(self.lun, cdb, data, timeout) {
            Ok(completion) => return Ok(completion),
            Err(failure) => failure,
        };
        // The connection goes with the session.
        *state = Err("an earlier command's outcome is unknown; open the device again".to_owned());
        Err(match failure {
            Failure::Lost(reason) => lost(reason),
            Failure::Timeout => Error::Timeout {
                device: self.name.clone(),
                seconds: timeout.as_secs(),
            },
        })
    }

    fn max_transfer(&self) -> usize {
        TRANSFER_MAX
    }

    fn name(&self) -> &str {
        &self.name
    }
}

/// Bytes that nobody can guess.
fn random<const N: usize>() -> std::io::Result<[u8; N]> {
    use std::io::Read as _;
    let mut bytes = [0; N];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
