//! Commands of sequential-access devices (SSC).

use super::opcode;

/// What SPACE counts: byte 1, bits 3 to 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum SpaceOver {
    /// Logical blocks; stops at a filemark.
    Blocks = 0,
    /// Filemarks.
    Filemarks = 1,
    /// To end of data; the count is ignored.
    EndOfData = 3,
}

/// Where LOCATE(16) goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocateTo {
    /// A logical object (block or filemark), counted from the partition's beginning.
    Object(u64),
    /// A logical file: just behind the n-th filemark by the standard, before it on some drives.
    File(u64),
    /// End of data.
    EndOfData,
}

/// Which answer READ POSITION gives: byte 1, bits 4 to 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum PositionForm {
    /// 20 bytes, 32-bit locations, buffer counts.
    Short = 0x00,
    /// 32 bytes, 64-bit locations, file number.
    Long = 0x06,
    /// 32 bytes, 64-bit locations, buffer counts.
    Extended = 0x08,
}

/// READ BLOCK LIMITS.
pub fn read_block_limits() -> [u8; 6] {
    [opcode::READ_BLOCK_LIMITS, 0, 0, 0, 0, 0]
}

/// READ(6) of one block of at most `length` bytes (24 bits). `suppress` is SILI: no report of a shorter block.
pub fn read_6(length: u32, suppress: bool) -> [u8; 6] {
    let [_, a, b, c] = length.to_be_bytes();
    [opcode::READ_6, u8::from(suppress) << 1, a, b, c, 0]
}

/// WRITE(6) of one block of `length` bytes (24 bits).
pub fn write_6(length: u32) -> [u8; 6] {
    let [_, a, b, c] = length.to_be_bytes();
    [opcode::WRITE_6, 0, a, b, c, 0]
}

/// WRITE FILEMARKS(6); with `immediate` the answer comes before they are on the medium.
pub fn write_filemarks_6(count: u32, immediate: bool) -> [u8; 6] {
    let [_, a, b, c] = count.to_be_bytes();
    [opcode::WRITE_FILEMARKS_6, u8::from(immediate), a, b, c, 0]
}

/// WRITE FILEMARKS(16) at the current position (FCS and LCS zero).
pub fn write_filemarks_16(count: u32, immediate: bool) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = opcode::WRITE_FILEMARKS_16;
    cdb[1] = u8::from(immediate);
    cdb[12..15].copy_from_slice(&count.to_be_bytes()[1..]);
    cdb
}

/// SPACE(6), a signed 24-bit count.
pub fn space_6(over: SpaceOver, count: i32) -> [u8; 6] {
    let [_, a, b, c] = count.to_be_bytes();
    [opcode::SPACE_6, over as u8, a, b, c, 0]
}

/// SPACE(16), a signed 64-bit count.
pub fn space_16(over: SpaceOver, count: i64) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = opcode::SPACE_16;
    cdb[1] = over as u8;
    cdb[4..12].copy_from_slice(&count.to_be_bytes());
    cdb
}

/// LOCATE(10) to a logical object of the current partition.
pub fn locate_10(object: u32) -> [u8; 10] {
    let [a, b, c, d] = object.to_be_bytes();
    [opcode::LOCATE_10, 0, 0, a, b, c, d, 0, 0, 0]
}

/// LOCATE(16) within the current partition.
pub fn locate_16(to: LocateTo) -> [u8; 16] {
    let (kind, number) = match to {
        LocateTo::Object(object) => (0, object),
        LocateTo::File(file) => (1, file),
        LocateTo::EndOfData => (3, 0),
    };
    let mut cdb = [0; 16];
    cdb[0] = opcode::LOCATE_16;
    cdb[1] = kind << 3;
    cdb[4..12].copy_from_slice(&number.to_be_bytes());
    cdb
}

/// READ POSITION. The allocation length is used by the extended form only; the others must say zero.
pub fn read_position(form: PositionForm) -> [u8; 10] {
    let allocation = if form == PositionForm::Extended {
        32
    } else {
        0
    };
    [
        opcode::READ_POSITION,
        form as u8,
        0,
        0,
        0,
        0,
        0,
        0,
        allocation,
        0,
    ]
}

/// REWIND; answers when the tape is at its beginning (IMMED=0).
pub fn rewind() -> [u8; 6] {
    [opcode::REWIND, 0, 0, 0, 0, 0]
}

/// LOAD (`true`) or UNLOAD; answers when done (IMMED=0).
pub fn load_unload(load: bool) -> [u8; 6] {
    [opcode::LOAD_UNLOAD, 0, 0, 0, u8::from(load), 0]
}

/// ERASE(6) from the current position; `long` wears down the whole rest of the tape and takes hours.
/// With `immediate` the drive answers at once and is *becoming ready* until done.
pub fn erase(long: bool, immediate: bool) -> [u8; 6] {
    let flags = (u8::from(immediate) << 1) | u8::from(long);
    [opcode::ERASE_6, flags, 0, 0, 0, 0]
}

/// ALLOW OVERWRITE at one position of partition 0 (mode 1), for drives in append-only mode.
pub fn allow_overwrite(object: u64) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = opcode::ALLOW_OVERWRITE;
    cdb[2] = 1;
    cdb[4..12].copy_from_slice(&object.to_be_bytes());
    cdb
}

/// ALLOW OVERWRITE of everything by FORMAT MEDIUM (mode 2), for drives in append-only mode.
pub fn allow_format() -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = opcode::ALLOW_OVERWRITE;
    cdb[2] = 2;
    cdb
}

/// Which partitions FORMAT MEDIUM makes: byte 2, bits 3 to 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Format {
    /// One.
    Single = 0,
    /// Those of mode page 11h as the initiator set it.
    Partitioned = 1,
    /// One at first, then those of mode page 11h.
    SingleThenPartitioned = 2,
}

/// FORMAT MEDIUM at the beginning of partition 0: everything recorded is gone. With `immediate` the drive
/// answers at once and is *becoming ready* until done.
pub fn format_medium(format: Format, immediate: bool) -> [u8; 6] {
    [
        opcode::FORMAT_MEDIUM,
        u8::from(immediate),
        format as u8,
        0,
        0,
        0,
    ]
}

/// REPORT DENSITY SUPPORT: of the drive, or with `medium` of what is in it.
pub fn report_density_support(medium: bool, allocation: u16) -> [u8; 10] {
    let [high, low] = allocation.to_be_bytes();
    [
        opcode::REPORT_DENSITY_SUPPORT,
        u8::from(medium),
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

/// LOCATE(16) to an object of another partition.
pub fn locate_partition(partition: u8, object: u64) -> [u8; 16] {
    let mut cdb = locate_16(LocateTo::Object(object));
    cdb[1] |= 0x02;
    cdb[3] = partition;
    cdb
}

/// READ ATTRIBUTE: values of the medium auxiliary memory from attribute `first` on.
pub fn read_attribute(first: u16, allocation: u32) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = opcode::READ_ATTRIBUTE;
    cdb[8..10].copy_from_slice(&first.to_be_bytes());
    cdb[10..14].copy_from_slice(&allocation.to_be_bytes());
    cdb
}

/// READ ATTRIBUTE, service action ATTRIBUTE LIST: which attributes there are, from `first` on.
pub fn read_attribute_list(first: u16, allocation: u32) -> [u8; 16] {
    let mut cdb = read_attribute(first, allocation);
    cdb[1] = 0x01;
    cdb
}

/// WRITE ATTRIBUTE of a list of `length` bytes, through the drive's cache to the memory (WTC).
pub fn write_attribute(length: u32) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = opcode::WRITE_ATTRIBUTE;
    cdb[1] = 0x01;
    cdb[10..14].copy_from_slice(&length.to_be_bytes());
    cdb
}
