//! File names as people and JSON see them. On Linux a name is bytes; [`display`] writes any bytes as text that is
//! safe on a terminal and in a log, and [`parse`] gives exactly the bytes back. Nothing here knows what a
//! directory is or touches a file system.
#![warn(clippy::all, clippy::pedantic, missing_docs, rustdoc::all)]
// As everywhere else in the workspace; the crate's own allowance for generated code is undone above.
#![allow(
    clippy::must_use_candidate,
    clippy::missing_errors_doc,
    clippy::missing_panics_doc,
    clippy::cast_possible_truncation
)]

use std::fmt::Write as _;

use bytes::Bytes;

use crate::v1;

/// Longest path that is accepted, in bytes. Far above what any file system reaches, far below what hurts.
pub const LIMIT: usize = 1024 * 1024;

/// Why a text is not a displayed path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A backslash that begins no escape.
    #[error(
        "the backslash at byte {0} begins no escape: write \\\\ for a backslash, \\xNN for any other byte"
    )]
    Escape(usize),
    /// Over [`LIMIT`] bytes.
    #[error("the path is over {LIMIT} bytes")]
    TooLong,
    /// Both forms were given and they differ.
    #[error("raw and display name different paths: leave one of them empty")]
    Contradiction,
}

/// The bytes as text: valid UTF-8 as it is, but every control character, every character that turns the direction
/// of text, and every byte that is not UTF-8 as `\xNN`, and a backslash as `\\`.
pub fn display(raw: &[u8]) -> String {
    let mut text = String::with_capacity(raw.len());
    for chunk in raw.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '\\' {
                text.push_str("\\\\");
            } else if c.is_control() || turns_or_breaks(c) {
                escape(&mut text, c.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                text.push(c);
            }
        }
        escape(&mut text, chunk.invalid());
    }
    text
}

fn escape(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        write!(text, "\\x{byte:02x}").expect("writing to a string does not fail");
    }
}

/// Not control characters to Unicode, but able to make a line of output read as something else.
fn turns_or_breaks(c: char) -> bool {
    matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Reads what [`display`] wrote, or what a person typed by the same rule. Text that has no backslash means itself.
pub fn parse(text: &str) -> Result<Vec<u8>, Error> {
    if text.len() > 4 * LIMIT {
        return Err(Error::TooLong);
    }
    let bytes = text.as_bytes();
    let mut raw = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte != b'\\' {
            raw.push(byte);
            at += 1;
            continue;
        }
        match bytes.get(at + 1) {
            Some(b'\\') => {
                raw.push(b'\\');
                at += 2;
            }
            Some(b'x') => {
                let digit = |i: usize| (*bytes.get(i)? as char).to_digit(16);
                let (Some(high), Some(low)) = (digit(at + 2), digit(at + 3)) else {
                    return Err(Error::Escape(at));
                };
                raw.push((high * 16 + low) as u8);
                at += 4;
            }
            _ => return Err(Error::Escape(at)),
        }
    }
    if raw.len() > LIMIT {
        return Err(Error::TooLong);
    }
    Ok(raw)
}

/// The message for these bytes, both forms filled.
pub fn from_raw(raw: impl Into<Bytes>) -> v1::Path {
    let raw = raw.into();
    v1::Path {
        display: display(&raw),
        raw,
    }
}

/// The bytes that a message means: `raw`, or `display` read back where `raw` is empty. Both may be given if they
/// agree.
pub fn to_raw(path: &v1::Path) -> Result<Bytes, Error> {
    if path.raw.is_empty() {
        return Ok(Bytes::from(parse(&path.display)?));
    }
    if path.raw.len() > LIMIT {
        return Err(Error::TooLong);
    }
    if !path.display.is_empty() && parse(&path.display)? != path.raw {
        return Err(Error::Contradiction);
    }
    Ok(path.raw.clone())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, missing_docs)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn people_read_text_and_terminals_get_no_commands() {
        assert_eq!(display("/srv/fünf".as_bytes()), "/srv/fünf");
        assert_eq!(display(b"a\nb\x1b[2J\x7f"), "a\\x0ab\\x1b[2J\\x7f");
        assert_eq!(display(b"C:\\x41"), "C:\\\\x41");
        assert_eq!(display(b"caf\xe9\xff"), "caf\\xe9\\xff");
        assert_eq!(
            display("\u{9b}\u{202e}".as_bytes()),
            "\\xc2\\x9b\\xe2\\x80\\xae"
        );
        assert_eq!(parse("\\xE9\\\\").unwrap(), b"\xe9\\");
    }

    #[test]
    fn a_backslash_that_escapes_nothing_is_an_error() {
        assert_eq!(parse("a\\n"), Err(Error::Escape(1)));
        assert_eq!(parse("\\"), Err(Error::Escape(0)));
        assert_eq!(parse("\\x4"), Err(Error::Escape(0)));
        assert_eq!(parse("\\x4ü"), Err(Error::Escape(0)));
    }

    #[test]
    fn the_two_forms_must_agree() {
        let mut path = from_raw(&b"/a\xff"[..]);
        assert_eq!(to_raw(&path).unwrap(), &b"/a\xff"[..]);
        path.raw = Bytes::from_static(b"/b");
        assert_eq!(to_raw(&path), Err(Error::Contradiction));
        path.raw = Bytes::new();
        assert_eq!(to_raw(&path).unwrap(), &b"/a\xff"[..]);
    }

    proptest! {
        #[test]
        fn any_bytes_come_back(raw in proptest::collection::vec(any::<u8>(), 0..200)) {
            let text = display(&raw);
            prop_assert!(!text.chars().any(char::is_control));
            prop_assert_eq!(parse(&text).unwrap(), raw);
        }

        #[test]
        fn any_text_comes_back(raw in ".{0,60}") {
            prop_assert_eq!(parse(&display(raw.as_bytes())).unwrap(), raw.as_bytes());
        }

        #[test]
        fn parsing_never_panics(text in "[\\\\x0-9a-fü]{0,40}") {
            drop(parse(&text));
        }
    }
}
