//! The data that commands bring back or send: read and built in one place, so that the driver and an emulator
//! can't disagree.
//!
//! Owns the layouts (SPC-5, SSC-5, SMC-3; big-endian throughout). Every length that the bytes state is checked
//! against the bytes that are there. Strings come out printable: whatever isn't ASCII text becomes `?`.

pub mod attribute;
pub mod block_limits;
pub mod density;
pub mod element_status;
pub mod inquiry;
pub mod log;
pub mod mode;
pub mod opcodes;
pub mod position;
pub mod reservation;
pub mod tape_alert;
pub mod vpd;

/// The bytes are not the page that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Fewer bytes came than the page has at least.
    #[error("{page} is cut: {length} bytes came, at least {least} are needed")]
    Short {
        /// The page's name.
        page: &'static str,
        /// Bytes that came.
        length: usize,
        /// Bytes it takes at least.
        least: usize,
    },
    /// The page contradicts itself or isn't the one asked for.
    #[error("{page} is malformed: {reason}")]
    Malformed {
        /// The page's name.
        page: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// `bytes`, if it holds at least `least`.
fn at_least<'a>(page: &'static str, bytes: &'a [u8], least: usize) -> Result<&'a [u8], Error> {
    if bytes.len() < least {
        return Err(Error::Short {
            page,
            length: bytes.len(),
            least,
        });
    }
    Ok(bytes)
}

/// The unsigned number in up to eight big-endian bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |value, &byte| (value << 8) | u64::from(byte))
}

/// ASCII text without the padding (spaces, NULs) of its field.
fn text(bytes: &[u8]) -> String {
    let end = bytes
        .iter()
        .rposition(|&byte| byte != b' ' && byte != 0)
        .map_or(0, |last| last + 1);
    bytes[..end]
        .iter()
        .skip_while(|&&byte| byte == b' ')
        .map(|&byte| match byte {
            b' '..=b'~' => char::from(byte),
            _ => '?',
        })
        .collect()
}

/// Writes ASCII text into a field, cut or padded with spaces.
fn put_text(field: &mut [u8], text: &str) {
    field.fill(b' ');
    for (place, byte) in field.iter_mut().zip(text.bytes()) {
        *place = byte;
    }
}

#[cfg(test)]
mod tests;
