//! Commands that every kind of device knows (SPC).

use super::opcode;

/// Which values MODE SENSE and LOG SENSE report: byte 2, bits 7 and 6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum PageControl {
    /// The values in use (for logs: threshold).
    Current = 0,
    /// A mask of what may be changed (for logs: cumulative).
    Changeable = 1,
    /// The device's defaults.
    Default = 2,
    /// What is kept over power loss.
    Saved = 3,
}

/// TEST UNIT READY.
pub fn test_unit_ready() -> [u8; 6] {
    [opcode::TEST_UNIT_READY, 0, 0, 0, 0, 0]
}

/// REQUEST SENSE, fixed format, at most `allocation` bytes.
pub fn request_sense(allocation: u8) -> [u8; 6] {
    [opcode::REQUEST_SENSE, 0, 0, 0, allocation, 0]
}

/// INQUIRY, standard data.
pub fn inquiry(allocation: u16) -> [u8; 6] {
    let [high, low] = allocation.to_be_bytes();
    [opcode::INQUIRY, 0, 0, high, low, 0]
}

/// INQUIRY of a vital product data page (80h: unit serial number, 83h: device identification).
pub fn inquiry_vpd(page: u8, allocation: u16) -> [u8; 6] {
    let [high, low] = allocation.to_be_bytes();
    [opcode::INQUIRY, 1, page, high, low, 0]
}

/// MODE SENSE(6). Page 00h asks for header and block descriptor alone.
pub fn mode_sense_6(control: PageControl, page: u8, subpage: u8, allocation: u8) -> [u8; 6] {
    let page = ((control as u8) << 6) | (page & 0x3f);
    [opcode::MODE_SENSE_6, 0, page, subpage, allocation, 0]
}

/// MODE SENSE(10).
pub fn mode_sense_10(control: PageControl, page: u8, subpage: u8, allocation: u16) -> [u8; 10] {
    let page = ((control as u8) << 6) | (page & 0x3f);
    let [high, low] = allocation.to_be_bytes();
    [
        opcode::MODE_SENSE_10,
        0,
        page,
        subpage,
        0,
        0,
        0,
        high,
        low,
        0,
    ]
}

/// MODE SELECT(6), page format, not saved.
pub fn mode_select_6(length: u8) -> [u8; 6] {
    [opcode::MODE_SELECT_6, 0x10, 0, 0, length, 0]
}

/// MODE SELECT(10), page format, not saved.
pub fn mode_select_10(length: u16) -> [u8; 10] {
    let [high, low] = length.to_be_bytes();
    [opcode::MODE_SELECT_10, 0x10, 0, 0, 0, 0, 0, high, low, 0]
}

/// LOG SENSE of the cumulative values of a page, from parameter 0.
pub fn log_sense(page: u8, subpage: u8, allocation: u16) -> [u8; 10] {
    let [high, low] = allocation.to_be_bytes();
    let page = ((PageControl::Changeable as u8) << 6) | (page & 0x3f);
    [opcode::LOG_SENSE, 0, page, subpage, 0, 0, 0, high, low, 0]
}

/// REPORT LUNS, all but well-known ones.
pub fn report_luns(allocation: u32) -> [u8; 12] {
    let [a, b, c, d] = allocation.to_be_bytes();
    [opcode::REPORT_LUNS, 0, 0, 0, 0, 0, a, b, c, d, 0, 0]
}

/// REPORT SUPPORTED OPERATION CODES, all of them; `timeouts` asks for timeout descriptors (RCTD).
pub fn report_supported_opcodes(timeouts: bool, allocation: u32) -> [u8; 12] {
    let [a, b, c, d] = allocation.to_be_bytes();
    [
        opcode::MAINTENANCE_IN,
        opcode::SERVICE_REPORT_SUPPORTED_OPCODES,
        u8::from(timeouts) << 7,
        0,
        0,
        0,
        a,
        b,
        c,
        d,
        0,
        0,
    ]
}
