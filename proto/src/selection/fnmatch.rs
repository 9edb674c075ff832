//! Patterns of the program that TAF replaces, as rules. It matched Python's `fnmatch` on the whole path and on every directory
//! above it; many patterns therefore did something else than their authors meant. What they did is kept, and what may surprise
//! is said.

use std::fmt::Write as _;

use crate::v1::SelectionRule;
use crate::v1::selection_rule::Pattern;

/// A pattern that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// The rule that does what the pattern did; none if it did nothing.
    pub rule: Option<SelectionRule>,
    /// What may surprise, for people.
    pub warnings: Vec<String>,
}

/// Reads a pattern.
pub fn import(pattern: &str) -> Imported {
    let mut warnings = Vec::new();
    let first = pattern.chars().next();
    if !matches!(first, Some('/' | '*' | '?' | '[')) {
        warnings.push(format!(
            "matched nothing, since every path begins with '/'; if names are meant, write the rule {pattern}"
        ));
        return Imported {
            rule: None,
            warnings,
        };
    }
    if let Some(simple) = simple(pattern) {
        if pattern.starts_with("*.") {
            warnings.push(format!(
                "leaves out directories with such names, too, with all below them; for files alone add the rule !{simple}/"
            ));
        }
        return Imported {
            rule: Some(glob(simple)),
            warnings,
        };
    }
    if pattern
        .trim_matches('*')
        .chars()
        .all(|c| c != '*' && c != '/')
        && pattern.starts_with('*')
        && pattern.ends_with('*')
        && pattern.len() > 2
    {
        warnings.push(format!(
            "matches wherever {} occurs in the whole path, also in the names of directories far above",
            pattern.trim_matches('*')
        ));
    } else if pattern.contains('*') || pattern.contains('?') {
        warnings.push("its * and ? match '/' as well, so it reaches into subdirectories".into());
    }
    let regex = format!("^(?s-u:{})(?:/|$)", translate(pattern));
    Imported {
        rule: Some(SelectionRule {
            take: false,
            pattern: Some(Pattern::Regex(regex)),
        }),
        warnings,
    }
}

fn glob(text: String) -> SelectionRule {
    SelectionRule {
        take: false,
        pattern: Some(Pattern::Glob(text)),
    }
}

/// The glob of a pattern that is a plain path, `*/name` or `*.suffix`.
fn simple(pattern: &str) -> Option<String> {
    let plain = |text: &str| !text.contains(['*', '?', '[', ']', '{', '}', '\\']);
    if pattern.starts_with('/') && plain(pattern) && pattern.len() > 1 {
        return Some(pattern.trim_end_matches('/').to_owned()).filter(|text| !text.is_empty());
    }
    let rest = pattern.strip_prefix('*')?;
    if !plain(rest) {
        return None;
    }
    match rest.strip_prefix('/') {
        Some(name) if !name.is_empty() && !name.contains('/') => Some(name.to_owned()),
        None if rest.starts_with('.') && !rest.contains('/') => Some(pattern.to_owned()),
        _ => None,
    }
}

/// A pattern of `fnmatch` as a regular expression on bytes that are not looked at as characters.
fn translate(pattern: &str) -> String {
    let mut regex = String::with_capacity(pattern.len() * 2);
    let bytes = pattern.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'*' => regex.push_str(".*"),
            b'?' => regex.push('.'),
            b'[' => match set(bytes, at) {
                Some((set, end)) => {
                    regex.push_str(&set);
                    at = end;
                }
                None => regex.push_str("\\["),
            },
            other => literal(&mut regex, other),
        }
    }
    regex
}

/// A set in brackets that begins at `start`, and where it ends; none if no bracket closes it.
fn set(bytes: &[u8], start: usize) -> Option<(String, usize)> {
    let negated = bytes.get(start) == Some(&b'!');
    let first = start + usize::from(negated);
    // A bracket right at the beginning is a member.
    let end = first + 1 + bytes.get(first + 1..)?.iter().position(|b| *b == b']')?;
    let mut set = String::from(if negated { "[^" } else { "[" });
    for (index, byte) in bytes[first..end].iter().enumerate() {
        let inside = index > 0 && first + index + 1 < end;
        if *byte == b'-' && inside {
            set.push('-');
        } else {
            literal(&mut set, *byte);
        }
    }
    set.push(']');
    Some((set, end + 1))
}

fn literal(regex: &mut String, byte: u8) {
    if byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'_' | b' ') {
        regex.push(char::from(byte));
    } else {
        write!(regex, "\\x{byte:02x}").expect("writing to a string does not fail");
    }
}
