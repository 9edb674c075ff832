//! The zstd skippable frames in which TAF hides what is not tar. Stock `zstd` steps over them.
//!
//! All of ours have the same frame magic; eight bytes inside say which one it is. Nothing here allocates.

/// Magic of our skippable frames: one of zstd's sixteen, not one that `pzstd` or the seekable format use.
pub(crate) const SKIPPABLE: u32 = 0x184D_2A57;
/// Bytes of frame magic and length.
pub(crate) const PREFIX: usize = 8;
/// First bytes inside a segment header's frame.
pub(crate) const SEGMENT: [u8; 8] = *b"TAFSEGM1";
/// First bytes inside a records frame.
pub(crate) const RECORDS: [u8; 8] = *b"TAFRECS1";
/// First bytes inside a frame of a volume index.
pub(crate) const INDEX: [u8; 8] = *b"TAFINDX1";

/// Frame magic and the length of what follows.
pub(crate) const fn prefix(payload: u32) -> [u8; PREFIX] {
    let (magic, length) = (SKIPPABLE.to_le_bytes(), payload.to_le_bytes());
    let mut out = [0; PREFIX];
    let mut at = 0;
    while at < 4 {
        out[at] = magic[at];
        out[at + 4] = length[at];
        at += 1;
    }
    out
}

/// The length that follows the prefix, if `bytes` begin with one of our frames.
pub(crate) fn payload_length(bytes: &[u8]) -> Option<u32> {
    let head = bytes.first_chunk::<PREFIX>()?;
    (u32_at(head, 0) == SKIPPABLE).then(|| u32_at(head, 4))
}

/// A little-endian number of `bytes`, which the caller has proved long enough.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// A little-endian number of `bytes`, which the caller has proved long enough.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
