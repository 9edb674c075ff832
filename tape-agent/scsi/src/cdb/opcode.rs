//! Operation codes, byte 0 of a command.

/// TEST UNIT READY (SPC).
pub const TEST_UNIT_READY: u8 = 0x00;
/// REWIND (SSC).
pub const REWIND: u8 = 0x01;
/// REQUEST SENSE (SPC).
pub const REQUEST_SENSE: u8 = 0x03;
/// FORMAT MEDIUM (SSC).
pub const FORMAT_MEDIUM: u8 = 0x04;
/// READ BLOCK LIMITS (SSC).
pub const READ_BLOCK_LIMITS: u8 = 0x05;
/// INITIALIZE ELEMENT STATUS (SMC).
pub const INITIALIZE_ELEMENT_STATUS: u8 = 0x07;
/// READ(6) (SSC).
pub const READ_6: u8 = 0x08;
/// WRITE(6) (SSC).
pub const WRITE_6: u8 = 0x0a;
/// WRITE FILEMARKS(6) (SSC).
pub const WRITE_FILEMARKS_6: u8 = 0x10;
/// SPACE(6) (SSC).
pub const SPACE_6: u8 = 0x11;
/// INQUIRY (SPC).
pub const INQUIRY: u8 = 0x12;
/// MODE SELECT(6) (SPC).
pub const MODE_SELECT_6: u8 = 0x15;
/// RESERVE(6) (SPC-2).
pub const RESERVE_6: u8 = 0x16;
/// RELEASE(6) (SPC-2).
pub const RELEASE_6: u8 = 0x17;
/// ERASE(6) (SSC).
pub const ERASE_6: u8 = 0x19;
/// MODE SENSE(6) (SPC).
pub const MODE_SENSE_6: u8 = 0x1a;
/// LOAD UNLOAD (SSC).
pub const LOAD_UNLOAD: u8 = 0x1b;
/// SEND DIAGNOSTIC (SPC).
pub const SEND_DIAGNOSTIC: u8 = 0x1d;
/// PREVENT ALLOW MEDIUM REMOVAL (SPC).
pub const PREVENT_ALLOW_MEDIUM_REMOVAL: u8 = 0x1e;
/// LOCATE(10) (SSC).
pub const LOCATE_10: u8 = 0x2b;
/// READ POSITION (SSC).
pub const READ_POSITION: u8 = 0x34;
/// INITIALIZE ELEMENT STATUS WITH RANGE (SMC).
pub const INITIALIZE_ELEMENT_STATUS_WITH_RANGE: u8 = 0x37;
/// REPORT DENSITY SUPPORT (SSC).
pub const REPORT_DENSITY_SUPPORT: u8 = 0x44;
/// LOG SELECT (SPC).
pub const LOG_SELECT: u8 = 0x4c;
/// LOG SENSE (SPC).
pub const LOG_SENSE: u8 = 0x4d;
/// MODE SELECT(10) (SPC).
pub const MODE_SELECT_10: u8 = 0x55;
/// MODE SENSE(10) (SPC).
pub const MODE_SENSE_10: u8 = 0x5a;
/// PERSISTENT RESERVE IN (SPC).
pub const PERSISTENT_RESERVE_IN: u8 = 0x5e;
/// PERSISTENT RESERVE OUT (SPC).
pub const PERSISTENT_RESERVE_OUT: u8 = 0x5f;
/// WRITE FILEMARKS(16) (SSC).
pub const WRITE_FILEMARKS_16: u8 = 0x80;
/// ALLOW OVERWRITE (SSC).
pub const ALLOW_OVERWRITE: u8 = 0x82;
/// READ ATTRIBUTE (SPC).
pub const READ_ATTRIBUTE: u8 = 0x8c;
/// WRITE ATTRIBUTE (SPC).
pub const WRITE_ATTRIBUTE: u8 = 0x8d;
/// SPACE(16) (SSC).
pub const SPACE_16: u8 = 0x91;
/// LOCATE(16) (SSC).
pub const LOCATE_16: u8 = 0x92;
/// REPORT LUNS (SPC).
pub const REPORT_LUNS: u8 = 0xa0;
/// SECURITY PROTOCOL IN (SPC).
pub const SECURITY_PROTOCOL_IN: u8 = 0xa2;
/// MAINTENANCE IN (SPC); its service action is byte 1, bits 4 to 0.
pub const MAINTENANCE_IN: u8 = 0xa3;
/// MOVE MEDIUM (SMC).
pub const MOVE_MEDIUM: u8 = 0xa5;
/// SECURITY PROTOCOL OUT (SPC).
pub const SECURITY_PROTOCOL_OUT: u8 = 0xb5;
/// READ ELEMENT STATUS (SMC).
pub const READ_ELEMENT_STATUS: u8 = 0xb8;

/// Service action of MAINTENANCE IN: REPORT SUPPORTED OPERATION CODES.
pub const SERVICE_REPORT_SUPPORTED_OPCODES: u8 = 0x0c;
