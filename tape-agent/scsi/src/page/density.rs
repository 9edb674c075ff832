//! REPORT DENSITY SUPPORT data (SSC-5 7.9): which formats a drive knows, or the medium in it has.

use super::{Error, at_least, number, put_text, text};

/// One density.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Density {
    /// Primary density code: 5Ch LTO-7, 5Eh LTO-8, 60h LTO-9, ….
    pub code: u8,
    /// The drive can write it (WRTOK).
    pub writable: bool,
    /// What the drive uses by default (DEFLT).
    pub default: bool,
    /// Native capacity in MB.
    pub capacity_megabytes: u32,
    /// Tracks.
    pub tracks: u16,
    /// Name, at most 8 characters: `U-816`.
    pub name: String,
    /// Description, at most 20 characters.
    pub description: String,
}

const NAME: &str = "density support";
const LENGTH: usize = 52;

/// Reads the answer; densities that the allocation length cut off are missing.
pub fn parse(bytes: &[u8]) -> Result<Vec<Density>, Error> {
    let bytes = at_least(NAME, bytes, 4)?;
    let end = bytes.len().min(2 + number(&bytes[0..2]) as usize);
    let Some(body) = bytes.get(4..end) else {
        return Ok(Vec::new());
    };
    let found = body.chunks_exact(LENGTH).map(|one| Density {
        code: one[0],
        writable: one[2] & 0x80 != 0,
        default: one[2] & 0x20 != 0,
        capacity_megabytes: number(&one[12..16]) as u32,
        tracks: number(&one[10..12]) as u16,
        name: text(&one[24..32]),
        description: text(&one[32..52]),
    });
    Ok(found.collect())
}

/// Builds the answer, for half-inch media of the LTO consortium.
pub fn build(densities: &[Density]) -> Vec<u8> {
    let mut bytes = ((2 + LENGTH * densities.len()) as u16)
        .to_be_bytes()
        .to_vec();
    bytes.extend([0, 0]);
    for one in densities {
        let mut descriptor = [0; LENGTH];
        descriptor[0] = one.code;
        descriptor[1] = one.code;
        descriptor[2] = (u8::from(one.writable) << 7) | (u8::from(one.default) << 5);
        descriptor[8..10].copy_from_slice(&127_u16.to_be_bytes()); // tenths of a millimetre
        descriptor[10..12].copy_from_slice(&one.tracks.to_be_bytes());
        descriptor[12..16].copy_from_slice(&one.capacity_megabytes.to_be_bytes());
        put_text(&mut descriptor[16..24], "LTO-CVE");
        put_text(&mut descriptor[24..32], &one.name);
        put_text(&mut descriptor[32..52], &one.description);
        bytes.extend(descriptor);
    }
    bytes
}
