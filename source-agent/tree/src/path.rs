//! What a path below a directory may look like, and how it is shown to people.
//!
//! Owns no IO. Paths from an archive or a server are hostile until [`check`] has passed them.

use std::fmt::Write as _;

/// The longest name of one entry that Linux knows, in bytes.
pub const MAX_NAME: usize = 255;

/// The longest path below a directory that is accepted, in bytes: 16 times `PATH_MAX`, so that memory stays
/// bounded whatever an archive says.
pub const MAX_PATH: usize = 65_536;

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing where a name is needed.
    #[error("is empty where a name is needed")]
    Empty,
    /// A leading slash.
    #[error("is absolute")]
    Absolute,
    /// Two slashes in a row or one at the end.
    #[error("has an empty component")]
    EmptyComponent,
    /// `.` or `..`.
    #[error("has a `.` or `..` component")]
    Dots,
    /// A NUL byte.
    #[error("has a NUL byte")]
    Nul,
    /// Longer than [`MAX_NAME`] or [`MAX_PATH`].
    #[error("is too long")]
    TooLong,
}

/// Accepts `path` if every component is a plain name. The empty path, which is the top, is fine.
pub fn check(path: &[u8]) -> Result<(), Error> {
    if path.is_empty() {
        return Ok(());
    }
    if path[0] == b'/' {
        return Err(Error::Absolute);
    }
    if path.len() > MAX_PATH {
        return Err(Error::TooLong);
    }
    path.split(|byte| *byte == b'/').try_for_each(check_name)
}

/// Accepts `name` if it is one plain component.
pub fn check_name(name: &[u8]) -> Result<(), Error> {
    match name {
        b"" => Err(Error::EmptyComponent),
        b"." | b".." => Err(Error::Dots),
        _ if name.len() > MAX_NAME => Err(Error::TooLong),
        _ if name.contains(&0) => Err(Error::Nul),
        _ if name.contains(&b'/') => Err(Error::EmptyComponent),
        _ => Ok(()),
    }
}

/// Splits a path into its directory and its last name; the top has neither.
pub fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.is_empty() {
        return None;
    }
    Some(match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&path[..0], path),
    })
}

/// Joins a directory's path and a name.
pub fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(directory.len() + 1 + name.len());
    path.extend_from_slice(directory);
    if !directory.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// Shows raw bytes to people: UTF-8 as it is, but control characters, direction marks, backslashes and bytes that
/// are no UTF-8 as escapes, so that no name can act on a terminal or forge a line of a log.
pub fn display(path: &[u8]) -> String {
    let mut shown = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\n' => shown.push_str("\\n"),
                '\\' => shown.push_str("\\\\"),
                c if c.is_control()
                    || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
                {
                    let _ = write!(shown, "\\u{{{:x}}}", u32::from(c));
                }
                c => shown.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(shown, "\\x{byte:02x}");
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_paths_pass_and_tricks_do_not() {
        for good in [&b""[..], b"a", b"a/b", b"...", b"a\nb", b"\xff"] {
            assert_eq!(check(good), Ok(()), "{}", display(good));
        }
        for bad in [
            &b"/"[..],
            b"/a",
            b"a/",
            b"a//b",
            b".",
            b"..",
            b"a/..",
            b"a/./b",
            b"a\0b",
            &[b'x'; 256],
        ] {
            assert!(check(bad).is_err(), "{}", display(bad));
        }
    }

    #[test]
    fn what_is_shown_has_no_control_characters() {
        assert_eq!(
            display(b"a\nb\x1b[2J\xff\\\xc3\xa9"),
            "a\\nb\\u{1b}[2J\\xff\\\\\u{e9}"
        );
    }

    #[test]
    fn split_and_join_are_inverse() {
        for path in [&b"a"[..], b"a/b", b"a/b/c"] {
            let (directory, name) = split(path).expect("not the top");
            assert_eq!(join(directory, name), path);
        }
        assert_eq!(split(b""), None);
    }
}
