//! What went wrong with one path of a source, as a value.
//!
//! An issue never ends a walk. It says what is missing or doubtful in the backup, so that nothing is left out in
//! silence.

use rustix::io::Errno;

/// What kind of thing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IssueKind {
    /// The entry could not be opened or examined and is left out.
    Unreadable,
    /// The entry was listed, or selected, but is not there; it is left out.
    Vanished,
    /// The entry became something else while it was looked at, or the file was modified while it was read.
    Changed,
    /// The file became shorter while it was read; the rest is zeros.
    Shrunk,
    /// The file became longer while it was read; what was added is left out.
    Grown,
    /// Reading the file's content failed; from there on it is zeros.
    ReadError,
    /// An entry of a kind that is not kept: a socket, or what this system calls none of the known kinds.
    Unsupported,
    /// A directory whose listing is not known, or known in part only. It must not be taken for empty.
    UnreadableDirectory,
    /// Extended attributes could not be read; the entry is kept without them.
    XattrUnreadable,
}

/// Something that went wrong with one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// Raw path below the top of the walk.
    pub path: Vec<u8>,
    /// Kind.
    pub kind: IssueKind,
    /// For people: lowercase, no full stop, without the path.
    pub reason: String,
}

impl Issue {
    pub(crate) fn new(path: &[u8], kind: IssueKind, reason: impl Into<String>) -> Self {
        Self {
            path: path.to_vec(),
            kind,
            reason: reason.into(),
        }
    }
}

/// The system's words for an error, without Rust's "(os error n)".
pub(crate) fn words(error: Errno) -> String {
    let text = std::io::Error::from(error).to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => format!("error {}", error.raw_os_error()),
    }
}
