//! Every maximum of the tape format, in one place. A length read from tape is held against one of these before
//! anything is allocated. FORMAT.md, "Limits", is the same table for readers of other make.

/// Bytes of the largest block of a label.
pub const LABEL_BLOCK: usize = 64 << 10;
/// Most blocks a label may have; format 1 writes three.
pub const LABEL_BLOCKS: usize = 8;
/// Bytes of the longest barcode or cartridge name.
pub const BARCODE: usize = 64;
/// Bytes of the longest pool name.
pub const POOL: usize = 256;
/// Bytes of the longest writer's name and version.
pub const WRITER: usize = 256;
/// Bytes of the longest name of a source, plan or line in block 0.
pub const NAME: usize = 512;
/// Bytes of the smallest block size of a recording: block 0 must hold its text.
pub const BLOCK_SIZE_MIN: u32 = 16 << 10;
/// Bytes of the largest block size of a recording.
pub const BLOCK_SIZE_MAX: u32 = 8 << 20;
/// Block sizes are multiples of this many bytes.
pub const BLOCK_SIZE_STEP: u32 = 1 << 10;
/// Bytes of tar in a segment, at most; a writer cuts here.
pub const SEGMENT_TAR: usize = 4 << 20;
/// Bytes of records at which a writer ends a segment; the record that crosses it still belongs to it.
pub const SEGMENT_RECORDS: usize = 1 << 20;
/// Bytes of one encoded record, without its length.
pub const RECORD: usize = 8 << 20;
/// Bytes of all records of a segment, lengths included: the largest that the cutting rule allows.
pub const RECORDS: usize = SEGMENT_RECORDS + RECORD + 16;
/// Bytes of a segment's data frame: room for every method's worst growth.
pub const SEGMENT_DATA: usize = SEGMENT_TAR + (64 << 10);
/// Bytes of a whole segment on tape, whatever its method: header, data, records, and what covers them.
pub const SEGMENT_STORED: usize = SEGMENT_DATA + RECORDS + (16 << 10);
/// Segments in one part; a writer ends the part here.
pub const PART_SEGMENTS: usize = 1 << 20;
/// Bytes of an encoded segment table.
pub const TABLE: usize = 32 << 20;

/// Bytes of records at which a writer ends a piece of a volume index; the record that crosses it still belongs to it.
pub const INDEX_PIECE: usize = 1 << 20;
/// Bytes of the records of one piece of a volume index: the largest that the cutting rule allows, with what it is about.
pub const INDEX_PIECE_MAX: usize = INDEX_PIECE + RECORD + (64 << 10);

/// Whether `size` is a legal block size of a recording.
pub fn is_block_size(size: u32) -> bool {
    (BLOCK_SIZE_MIN..=BLOCK_SIZE_MAX).contains(&size) && size.is_multiple_of(BLOCK_SIZE_STEP)
}

/// Whether `name` is a legal barcode: 1 to [`BARCODE`] graphic ASCII characters, none of which a shell's quotes
/// would trip over, for block 0 puts it into commands.
pub fn is_barcode(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= BARCODE
        && name
            .bytes()
            .all(|b| b.is_ascii_graphic() && !matches!(b, b'\'' | b'"' | b'\\' | b'`'))
}
