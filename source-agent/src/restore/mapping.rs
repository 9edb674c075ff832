//! Where the paths of a version go below the target.

use taf_tree::path;

use crate::fault::{self, Error};

/// What is left out of every path, and what comes in front of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mapping {
    strip: Vec<u8>,
    prefix: Vec<u8>,
}

impl Mapping {
    /// Leaves out the directory `strip` of every path, and puts `prefix` in front; without slashes at the ends, and both may be empty.
    ///
    /// # Errors
    /// A path that could lead elsewhere.
    pub fn new(strip: &[u8], prefix: &[u8]) -> Result<Self, Error> {
        for given in [strip, prefix] {
            path::check(given).map_err(|error| {
                fault::protocol(format!("the path {} {error}", path::display(given)))
            })?;
        }
        Ok(Self {
            strip: strip.to_vec(),
            prefix: prefix.to_vec(),
        })
    }

    /// The place of a path below the target. None for what nothing would be left of, and for what is elsewhere.
    pub fn place(&self, path: &[u8]) -> Option<Vec<u8>> {
        let rest = if self.strip.is_empty() {
            path
        } else {
            path.strip_prefix(self.strip.as_slice())?
                .strip_prefix(b"/")?
        };
        (!rest.is_empty()).then(|| self.below(rest))
    }

    /// As [`Mapping::place`], but what nothing is left of is where all the rest goes.
    pub fn directory(&self, path: &[u8]) -> Option<Vec<u8>> {
        if path == self.strip {
            return Some(self.prefix.clone());
        }
        self.place(path)
    }

    fn below(&self, rest: &[u8]) -> Vec<u8> {
        if self.prefix.is_empty() {
            rest.to_vec()
        } else {
            path::join(&self.prefix, rest)
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn paths_lose_one_directory_and_get_another() {
        let place = |strip: &str, prefix: &str, path: &str| {
            let mapping = Mapping::new(strip.as_bytes(), prefix.as_bytes()).unwrap();
            let found = mapping.place(path.as_bytes());
            found.map(|found| String::from_utf8(found).unwrap())
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(place("", "", "srv/a"), some("srv/a"));
        assert_eq!(place("srv", "", "srv/a/b"), some("a/b"));
        assert_eq!(place("srv/a", "old/x", "srv/a/b"), some("old/x/b"));
        assert_eq!(place("", "old", "srv"), some("old/srv"));
        for elsewhere in ["srv", "srv/a", "srv/ab/c", "etc"] {
            assert_eq!(place("srv/a", "", elsewhere), None, "{elsewhere}");
        }
    }

    #[test]
    fn a_stripped_directory_is_the_target_itself() {
        let mapping = Mapping::new(b"srv/a", b"old").unwrap();
        assert_eq!(mapping.directory(b"srv/a").unwrap(), b"old");
        assert_eq!(mapping.directory(b"srv/a/b").unwrap(), b"old/b");
        assert_eq!(mapping.directory(b"srv"), None);
        let plain = Mapping::default();
        assert_eq!(plain.directory(b"").unwrap(), b"");
    }

    #[test]
    fn nothing_leads_elsewhere() {
        for wrong in ["/a", "a/../b", "a//b", "a/"] {
            assert!(Mapping::new(wrong.as_bytes(), b"").is_err(), "{wrong}");
            assert!(Mapping::new(b"", wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
