//! Command descriptor blocks: operation codes and builders.
//!
//! Owns the layout of the commands that TAF sends (SPC-5, SSC-5, SMC-3). Builders take values that fit the
//! command's fields; what doesn't fit is cut by the field's width, so callers check limits first (the driver
//! does, against READ BLOCK LIMITS and the transport).

pub mod opcode;

mod changer;
mod primary;
mod reservation;
mod stream;

pub use changer::{
    ElementType, initialize_element_status, move_medium, prevent_allow_medium_removal,
    read_element_status,
};
pub use primary::{
    PageControl, inquiry, inquiry_vpd, log_sense, mode_select_6, mode_select_10, mode_sense_6,
    mode_sense_10, report_luns, report_supported_opcodes, request_sense, test_unit_ready,
};
pub use reservation::{ReserveIn, ReserveOut, persistent_reserve_in, persistent_reserve_out};
pub use stream::{
    Format, LocateTo, PositionForm, SpaceOver, allow_format, allow_overwrite, erase, format_medium,
    load_unload, locate_10, locate_16, locate_partition, read_6, read_attribute,
    read_attribute_list, read_block_limits, read_position, report_density_support, rewind, space_6,
    space_16, write_6, write_attribute, write_filemarks_6, write_filemarks_16,
};

/// The most a 24-bit transfer length can say: READ(6), WRITE(6).
pub const TRANSFER_LENGTH_MAX: usize = 0x00ff_ffff;

/// The length in bytes of a command, by its group code (SPC-5 4.2.5.1); `None` for variable and vendor groups.
pub fn length(operation: u8) -> Option<usize> {
    match operation >> 5 {
        0 => Some(6),
        1 | 2 => Some(10),
        4 => Some(16),
        5 => Some(12),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
