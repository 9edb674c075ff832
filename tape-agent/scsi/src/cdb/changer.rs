//! Commands of media changers (SMC), and the removal lock they share with drives.

use super::opcode;

/// Kinds of elements in a library.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum ElementType {
    /// All kinds; only in a request.
    All = 0,
    /// Medium transport: the picker.
    Transport = 1,
    /// Storage: a slot.
    Storage = 2,
    /// Import/export: a mail slot.
    ImportExport = 3,
    /// Data transfer: a drive.
    DataTransfer = 4,
}

impl ElementType {
    /// The kind that a code (bits 3 to 0) names.
    pub fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::All,
            1 => Self::Transport,
            2 => Self::Storage,
            3 => Self::ImportExport,
            4 => Self::DataTransfer,
            _ => return None,
        })
    }
}

/// INITIALIZE ELEMENT STATUS: the library looks at all its elements anew.
pub fn initialize_element_status() -> [u8; 6] {
    [opcode::INITIALIZE_ELEMENT_STATUS, 0, 0, 0, 0, 0]
}

/// READ ELEMENT STATUS of at most `count` elements from address `start` on. `tags` asks for volume tags,
/// `identify` for device identifiers (DVCID); some libraries refuse both at once.
pub fn read_element_status(
    kind: ElementType,
    start: u16,
    count: u16,
    tags: bool,
    identify: bool,
    allocation: u32,
) -> [u8; 12] {
    let [start_high, start_low] = start.to_be_bytes();
    let [count_high, count_low] = count.to_be_bytes();
    let [_, a, b, c] = allocation.to_be_bytes();
    [
        opcode::READ_ELEMENT_STATUS,
        (u8::from(tags) << 4) | kind as u8,
        start_high,
        start_low,
        count_high,
        count_low,
        u8::from(identify),
        a,
        b,
        c,
        0,
        0,
    ]
}

/// MOVE MEDIUM by the picker `transport` (0: the library's default).
pub fn move_medium(transport: u16, source: u16, destination: u16) -> [u8; 12] {
    let mut cdb = [0; 12];
    cdb[0] = opcode::MOVE_MEDIUM;
    cdb[2..4].copy_from_slice(&transport.to_be_bytes());
    cdb[4..6].copy_from_slice(&source.to_be_bytes());
    cdb[6..8].copy_from_slice(&destination.to_be_bytes());
    cdb
}

/// PREVENT (`true`) or ALLOW MEDIUM REMOVAL.
pub fn prevent_allow_medium_removal(prevent: bool) -> [u8; 6] {
    [
        opcode::PREVENT_ALLOW_MEDIUM_REMOVAL,
        0,
        0,
        0,
        u8::from(prevent),
        0,
    ]
}
