//! The side of a connection that answers: who finishes first sends first, and the numbers stay in order.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError};

use taf_scsi::transport::iscsi::pdu::{Fault, Header, NO_TAG, Sender, at, op};

/// Commands that an initiator may have under way.
pub(super) const WINDOW: u32 = 16;

/// What goes out.
pub(super) struct Outlet {
    state: Mutex<State>,
    /// To break it also while somebody waits for the initiator to take something.
    stream: TcpStream,
}

struct State {
    tx: Sender,
    stat_sn: u32,
    exp_cmd_sn: u32,
    /// Commands that were taken and are not answered.
    open: u32,
}

/// Whether a PDU counts among those that bring a status.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Counts {
    Status,
    /// It ends a command besides.
    Command,
    No,
}

impl Outlet {
    pub(super) fn new(tx: Sender, stat_sn: u32, exp_cmd_sn: u32) -> io::Result<Self> {
        let stream = tx.stream().try_clone()?;
        let state = State {
            tx,
            stat_sn,
            exp_cmd_sn,
            open: 0,
        };
        Ok(Self {
            state: Mutex::new(state),
            stream,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends one PDU with the numbers of now.
    pub(super) fn send(&self, header: Header, data: &[u8], counts: Counts) -> Result<(), Fault> {
        let mut state = self.lock();
        if counts == Counts::Command {
            state.open = state.open.saturating_sub(1);
        }
        let room = WINDOW.saturating_sub(state.open);
        let header = header
            .with(at::STAT_SN, state.stat_sn)
            .with(at::EXP_CMD_SN, state.exp_cmd_sn)
            .with(
                at::MAX_CMD_SN,
                state.exp_cmd_sn.wrapping_add(room).wrapping_sub(1),
            );
        if counts != Counts::No {
            state.stat_sn = state.stat_sn.wrapping_add(1);
        }
        state.tx.send(header, data)
    }

    /// A request with this number came in its turn; a `command` is answered later. Whether there is room for it.
    pub(super) fn took(&self, exp_cmd_sn: u32, command: bool) -> bool {
        let mut state = self.lock();
        state.exp_cmd_sn = exp_cmd_sn;
        if command {
            state.open += 1;
        }
        state.open <= WINDOW
    }

    /// A command ended without an answer.
    pub(super) fn gave_up(&self) {
        let mut state = self.lock();
        state.open = state.open.saturating_sub(1);
    }

    /// Sets what was agreed on, from the next PDU on.
    pub(super) fn agree(&self, digests: taf_scsi::transport::iscsi::pdu::Digests) {
        self.lock().tx.digests = digests;
    }

    /// Says that the target drops all connections.
    pub(super) fn farewell(&self) {
        const DROPS_ALL: u8 = 3;
        let event = Header::new(op::ASYNC)
            .with(at::TASK_TAG, NO_TAG)
            .byte(36, DROPS_ALL);
        // Who takes nothing, or is gone already, is not told.
        if self.state.try_lock().is_ok() {
            let _ = self.send(event, &[], Counts::Status);
        }
    }

    /// Breaks the connection.
    pub(super) fn close(&self) {
        // It is an error only if it is broken already.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}
