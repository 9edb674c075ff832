//! PERSISTENT RESERVE IN and OUT (SPC-5 6.16, 6.17).

use super::opcode;
use crate::page::reservation::{PARAMETERS_LENGTH, Type};

/// What PERSISTENT RESERVE IN asks for: byte 1, bits 4 to 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ReserveIn {
    /// The registered keys.
    Keys = 0x00,
    /// Who holds the reservation.
    Reservation = 0x01,
    /// What the device can.
    Capabilities = 0x02,
}

/// What PERSISTENT RESERVE OUT does: byte 1, bits 4 to 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ReserveOut {
    /// Registers, changes or removes the sender's key.
    Register = 0x00,
    /// Reserves.
    Reserve = 0x01,
    /// Releases.
    Release = 0x02,
    /// Removes the reservation and all registrations.
    Clear = 0x03,
    /// Removes another's registration, and takes over its reservation.
    Preempt = 0x04,
    /// The same, and aborts the other's commands.
    PreemptAndAbort = 0x05,
    /// Registers whatever key is registered now.
    RegisterAndIgnore = 0x06,
}

impl ReserveOut {
    /// The action with this code.
    pub fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0x00 => Self::Register,
            0x01 => Self::Reserve,
            0x02 => Self::Release,
            0x03 => Self::Clear,
            0x04 => Self::Preempt,
            0x05 => Self::PreemptAndAbort,
            0x06 => Self::RegisterAndIgnore,
            _ => return None,
        })
    }
}

/// PERSISTENT RESERVE IN.
pub fn persistent_reserve_in(what: ReserveIn, allocation: u16) -> [u8; 10] {
    let [high, low] = allocation.to_be_bytes();
    [
        opcode::PERSISTENT_RESERVE_IN,
        what as u8,
        0,
        0,
        0,
        0,
        0,
        high,
        low,
        0,
    ]
}

/// PERSISTENT RESERVE OUT for the whole unit, to be followed by
/// [`Parameters::build`](crate::page::reservation::Parameters::build); the type counts when reserving,
/// releasing and pre-empting.
pub fn persistent_reserve_out(action: ReserveOut, kind: Type) -> [u8; 10] {
    let mut cdb = [0; 10];
    cdb[0] = opcode::PERSISTENT_RESERVE_OUT;
    cdb[1] = action as u8;
    cdb[2] = kind as u8;
    cdb[5..9].copy_from_slice(&(PARAMETERS_LENGTH as u32).to_be_bytes());
    cdb
}
