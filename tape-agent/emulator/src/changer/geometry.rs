//! Which element has which address.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use taf_scsi::cdb::ElementType;

/// The picker's address.
pub const TRANSPORT: u16 = 1;
/// Address of the first mail slot.
pub const MAIL_SLOTS_AT: u16 = 16;
/// Address of the first drive.
pub const DRIVES_AT: u16 = 256;
/// Address of the first slot.
pub const SLOTS_AT: u16 = 1024;

/// Kinds in the order of their addresses.
const KINDS: [ElementType; 4] = [
    ElementType::Transport,
    ElementType::ImportExport,
    ElementType::DataTransfer,
    ElementType::Storage,
];

/// How many elements of each kind there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Geometry {
    /// Drives, 1 to 64.
    pub drives: u16,
    /// Slots, 1 to 10,000.
    pub slots: u16,
    /// Mail slots, 0 to 64.
    pub mail_slots: u16,
}

impl Geometry {
    /// Whether the counts fit the addresses.
    pub fn valid(self) -> bool {
        (1..=64).contains(&self.drives)
            && (1..=10_000).contains(&self.slots)
            && self.mail_slots <= 64
    }

    /// The addresses of a kind; `All` has none of its own.
    pub fn range(self, kind: ElementType) -> Range<u16> {
        let (start, count) = match kind {
            ElementType::All => (0, 0),
            ElementType::Transport => (TRANSPORT, 1),
            ElementType::ImportExport => (MAIL_SLOTS_AT, self.mail_slots),
            ElementType::DataTransfer => (DRIVES_AT, self.drives),
            ElementType::Storage => (SLOTS_AT, self.slots),
        };
        start..start + count
    }

    /// All addresses, ascending, each with its kind.
    pub fn addresses(self) -> impl Iterator<Item = (u16, ElementType)> {
        KINDS
            .into_iter()
            .flat_map(move |kind| self.range(kind).map(move |address| (address, kind)))
    }

    /// What lies at `address`.
    pub fn kind(self, address: u16) -> Option<ElementType> {
        KINDS
            .into_iter()
            .find(|&kind| self.range(kind).contains(&address))
    }
}
