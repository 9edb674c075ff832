//! The device's side of a command: what an emulator implements and a transport calls.

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

/// One logical unit, seen from the wire.
///
/// Commands come one at a time, as the standards' simple task model for tape demands.
pub trait Target: Send {
    /// Runs one command. `data_out` is what the initiator sends, `capacity_in` the most it takes back.
    fn execute(&mut self, cdb: &[u8], data_out: &[u8], capacity_in: usize) -> Response;
}
