//! Chunk keys: what a directory and the chunks of its listing are called in the catalog.
//!
//! Owns the making, the taking apart and the order of keys. It knows nothing of what a page holds. The specification is
//! FORMAT.md, "Chunk keys".
//!
//! Names never contain 0x00, the separator, and 0x00 sorts before every byte of a name. So the byte order of
//! keys is the catalog's order: a directory, its later chunks, then each subtree in the byte order of names.

use std::cmp::Ordering;

/// Length in bytes of a shortened key; every longer-lived key is shorter than this, so the two never meet.
pub const SHORTENED: usize = 1_000;

/// Bytes of the full key that a shortened key keeps; 16 bytes of BLAKE3 follow them.
pub const KEPT: usize = 984;

/// A half-open range of keys, for a scan `key >= start AND key < end`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// First key of the range.
    pub start: Vec<u8>,
    /// First key behind the range; `None` when there is no end.
    pub end: Option<Vec<u8>>,
}

impl Range {
    /// Whether the key lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= self.start.as_slice() && self.end.as_ref().is_none_or(|end| key < end.as_slice())
    }
}

/// Joins a directory's components into its full key, of any length. The root has no components.
pub fn join<'a>(components: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut key = Vec::new();
    for (index, component) in components.into_iter().enumerate() {
        if index > 0 {
            key.push(0);
        }
        key.extend_from_slice(component);
    }
    key
}

/// The full key of a directory's path (components joined by `/`, no slash at either end, empty for the root).
pub fn of_path(path: &[u8]) -> Vec<u8> {
    path.iter()
        .map(|&byte| if byte == b'/' { 0 } else { byte })
        .collect()
}

/// The key of a directory, which is that of its first chunk.
pub fn directory<'a>(components: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    chunk(&join(components), None)
}

/// The key of a chunk: of the first with `None`, of a later one with the first name in it.
///
/// `full` is the directory's full key, from [`join`] or [`of_path`], not a shortened one.
pub fn chunk(full: &[u8], first_name: Option<&[u8]>) -> Vec<u8> {
    let mut key = full.to_vec();
    if let Some(name) = first_name {
        key.extend_from_slice(&[0, 0]);
        key.extend_from_slice(name);
    }
    if key.len() < SHORTENED {
        return key;
    }
    let hash = blake3::hash(&key);
    key.truncate(KEPT);
    key.extend_from_slice(&hash.as_bytes()[..SHORTENED - KEPT]);
    key
}

/// Whether a key was shortened: then only the page's header tells the directory and the chunk's first name.
pub fn is_shortened(key: &[u8]) -> bool {
    key.len() == SHORTENED
}

/// Takes a key apart into the directory's path and the chunk's first name; `None` if it is shortened.
pub fn split(key: &[u8]) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
    if is_shortened(key) {
        return None;
    }
    // A later chunk's key is the only one with two zeros in a row, since no component is empty.
    let zeros = key.windows(2).position(|pair| pair == [0, 0]);
    let (directory, name) = match zeros {
        Some(at) => (&key[..at], Some(key[at + 2..].to_vec())),
        None => (key, None),
    };
    let path = directory
        .iter()
        .map(|&byte| if byte == 0 { b'/' } else { byte })
        .collect();
    Some((path, name))
}

/// The keys of everything below a directory: its later chunks and all its subdirectories', but not its own.
///
/// `None` if the directory's full key is too long for a range: shortened keys below it no longer hold it
/// whole, and its pages are looked up one by one.
pub fn below(full: &[u8]) -> Option<Range> {
    if full.is_empty() {
        return Some(Range {
            start: vec![0],
            end: None,
        });
    }
    between(full, &[0], &[1])
}

/// The keys of a directory's later chunks; its first chunk has the key of the directory itself.
///
/// `None` if the directory's full key is too long for a range (see [`below`]).
pub fn later_chunks(full: &[u8]) -> Option<Range> {
    between(full, &[0, 0], &[0, 1])
}

fn between(full: &[u8], start: &[u8], end: &[u8]) -> Option<Range> {
    (full.len() + start.len() <= KEPT).then(|| Range {
        start: [full, start].concat(),
        end: Some([full, end].concat()),
    })
}

/// Compares two entries in catalog order, each by its path and whether it is a directory.
///
/// A directory comes before what is in it, its non-directories by name before its subdirectories, those by name,
/// depth first.
pub fn compare(left: (&[u8], bool), right: (&[u8], bool)) -> Ordering {
    let mut lefts = components(left.0).peekable();
    let mut rights = components(right.0).peekable();
    loop {
        let (a, b) = match (lefts.next(), rights.next()) {
            (None, None) => return left.1.cmp(&right.1),
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(a), Some(b)) => (a, b),
        };
        let a_holds = lefts.peek().is_some() || left.1;
        let b_holds = rights.peek().is_some() || right.1;
        let order = a_holds.cmp(&b_holds).then_with(|| a.cmp(b));
        if order.is_ne() {
            return order;
        }
    }
}

fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/')
        .filter(|component| !component.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keys_are_joined_by_zero_and_taken_apart_again() {
        assert_eq!(directory([]), b"");
        assert_eq!(directory([&b"home"[..], b"anna"]), b"home\0anna");
        let full = of_path(b"home/anna");
        assert_eq!(chunk(&full, Some(b"m.txt")), b"home\0anna\0\0m.txt");
        for name in [None, Some(&b"x"[..])] {
            let (path, first) = split(&chunk(&full, name)).unwrap();
            assert_eq!(path, b"home/anna");
            assert_eq!(first.as_deref(), name);
        }
        assert_eq!(split(b"\0\0z").unwrap(), (vec![], Some(b"z".to_vec())));
    }

    #[test]
    fn long_keys_are_shortened_and_can_not_equal_a_whole_one() {
        let whole = chunk(&[b'a'; 999], None);
        assert_eq!(whole.len(), 999);
        let full = [b'a'; 1_000];
        let short = chunk(&full, None);
        assert_eq!(short.len(), SHORTENED);
        assert_eq!(short[..KEPT], full[..KEPT]);
        assert_eq!(short[KEPT..], blake3::hash(&full).as_bytes()[..16]);
        assert!(is_shortened(&short) && split(&short).is_none());
        assert_ne!(chunk(&full, Some(b"n")), short);
    }

    #[test]
    fn byte_order_of_keys_is_catalog_order_and_ranges_hold_subtrees() {
        let paths = ["", "a", "a/b", "a/b/c", "a/c", "a!", "a!/b", "a-b", "b"];
        let mut keys = Vec::new();
        for path in paths {
            let full = of_path(path.as_bytes());
            keys.push((path, chunk(&full, None)));
            keys.push((path, chunk(&full, Some(b"\x01"))));
            keys.push((path, chunk(&full, Some(b"\xff"))));
        }
        assert!(keys.is_sorted_by(|a, b| a.1 < b.1), "{keys:?}");
        assert!(
            paths.is_sorted_by(|a, b| {
                compare((a.as_bytes(), true), (b.as_bytes(), true)).is_lt()
            })
        );
        let range = below(b"a").unwrap();
        for (path, key) in &keys {
            let expected = path.starts_with("a/") || (*path == "a" && key != b"a");
            assert_eq!(range.contains(key), expected, "{path:?} {key:?}");
            assert_eq!(
                later_chunks(b"a").unwrap().contains(key),
                *path == "a" && key != b"a"
            );
            assert_eq!(below(b"").unwrap().contains(key), !key.is_empty());
        }
        assert!(below(&[b'x'; 983]).is_some() && below(&[b'x'; 984]).is_none());
    }

    #[test]
    fn catalog_order_puts_a_directorys_files_before_its_subdirectories() {
        let order: [(&[u8], bool); 9] = [
            (b"", true),
            (b"b", false),
            (b"z", false),
            (b"a", true),
            (b"a/x", false),
            (b"a/b", true),
            (b"a/b/c", false),
            (b"a!", true),
            (b"c", true),
        ];
        for (i, a) in order.iter().enumerate() {
            for (j, b) in order.iter().enumerate() {
                assert_eq!(compare(*a, *b), i.cmp(&j), "{a:?} {b:?}");
            }
        }
    }
}
