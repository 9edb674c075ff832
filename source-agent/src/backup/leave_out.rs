//! What a selection leaves out, and by which of its words: excluded paths, rules, markers, limits of size and age.
//!
//! What was chosen by its path, and the directories that lead there, are never left out: somebody named them.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::time::{SystemTime, UNIX_EPOCH};

use taf_format::entry::{Kind, Metadata};
use taf_peer::quantity::Size;
use taf_proto::agent::FetchSelectionResponse;
use taf_proto::selection::{self, Rules};
use taf_proto::v1::LeftOutReason;
use taf_tree::walk::{Candidate, Exclude, Marked};

/// The name of the file that says that a directory is a cache.
const CACHE_TAG: &str = "CACHEDIR.TAG";

/// Something that is left out.
#[derive(Debug)]
pub struct Note<'a> {
    /// Raw path below the top.
    pub path: &'a [u8],
    /// Its kind; of what is marked, its directory's.
    pub kind: Option<Kind>,
    /// Apparent bytes of a file, if they are known.
    pub size: Option<u64>,
    /// How many names it is: of a marked directory all but the marker.
    pub names: usize,
    /// Why.
    pub reason: LeftOutReason,
    /// Which rule, marker or limit it was; empty where the reason says it all.
    pub word: String,
}

/// Takes note of what is left out.
pub type Notes = Box<dyn FnMut(Note<'_>) + Send>;

/// Decides what is left out of a walk.
pub struct LeaveOut {
    excluded: HashMap<Vec<u8>, LeftOutReason>,
    named: HashSet<Vec<u8>>,
    rules: Rules,
    texts: Vec<String>,
    markers: Vec<String>,
    caches: bool,
    sizes: (u64, u64),
    /// Modification times in seconds that are taken, both ends included.
    times: (i64, i64),
    notes: Option<RefCell<Notes>>,
}

impl LeaveOut {
    /// By the words of `selection`, the paths `excluded` (raw, below the top) with why, and with what was chosen by its path,
    /// `roots`.
    ///
    /// # Errors
    /// A rule can't be used.
    pub fn new(
        selection: &FetchSelectionResponse,
        excluded: HashMap<Vec<u8>, LeftOutReason>,
        roots: &[Vec<u8>],
    ) -> Result<Self, selection::Error> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs() as i64);
        let ago = |seconds: u64| now.saturating_sub(i64::try_from(seconds).unwrap_or(i64::MAX));
        let limit = |value: u64, none| if value == 0 { none } else { value };
        Ok(Self {
            excluded,
            named: roots.iter().flat_map(|root| on_the_way(root)).collect(),
            rules: Rules::new(&selection.rules)?,
            texts: selection.rules.iter().map(selection::show).collect(),
            markers: selection.marker_files.clone(),
            caches: selection.exclude_caches,
            sizes: (
                selection.min_file_size,
                limit(selection.max_file_size, u64::MAX),
            ),
            times: (
                match selection.max_age_seconds {
                    0 => i64::MIN,
                    seconds => ago(seconds),
                },
                match selection.min_age_seconds {
                    0 => i64::MAX,
                    seconds => ago(seconds),
                },
            ),
            notes: None,
        })
    }

    /// Tells `notes` of everything that is left out.
    #[must_use]
    pub fn noting(self, notes: Notes) -> Self {
        Self {
            notes: Some(RefCell::new(notes)),
            ..self
        }
    }

    /// Leaves it out. The note is only made if somebody wants to know.
    fn out<'a>(&self, note: impl FnOnce() -> Note<'a>) -> bool {
        if let Some(notes) = &self.notes {
            (notes.borrow_mut())(note());
        }
        true
    }

    /// Leaves out a name.
    fn name_out(
        &self,
        candidate: &Candidate<'_>,
        reason: LeftOutReason,
        word: impl FnOnce() -> String,
    ) -> bool {
        self.out(|| Note {
            path: candidate.path,
            kind: candidate.kind,
            size: None,
            names: 1,
            reason,
            word: word(),
        })
    }
}

/// The path itself and all directories above it, without slashes at the ends.
fn on_the_way(root: &[u8]) -> Vec<Vec<u8>> {
    let root = root.strip_prefix(b"/").unwrap_or(root);
    let ends = root
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'/')
        .map(|(at, _)| at);
    ends.chain([root.len()])
        .map(|end| root[..end].to_vec())
        .collect()
}

impl Exclude for LeaveOut {
    fn name(&self, candidate: &Candidate<'_>) -> bool {
        let path = candidate.path;
        if let Some(reason) = self.excluded.get(path) {
            return self.name_out(candidate, *reason, String::new);
        }
        if self.rules.is_empty() || self.named.contains(path) {
            return false;
        }
        match self
            .rules
            .word(path, candidate.kind == Some(Kind::Directory))
        {
            Some(word) if !word.take => self.name_out(candidate, LeftOutReason::Rule, || {
                self.texts[word.rule].clone()
            }),
            _ => false,
        }
    }

    fn entry(&self, path: &[u8], meta: &Metadata) -> bool {
        if self.named.contains(path) {
            return false;
        }
        let is_file = meta.kind == Kind::File;
        let (reason, word) = if is_file && meta.size > self.sizes.1 {
            (LeftOutReason::TooLarge, Some(self.sizes.1))
        } else if is_file && meta.size < self.sizes.0 {
            (LeftOutReason::TooSmall, Some(self.sizes.0))
        } else if meta.mtime.seconds < self.times.0 {
            (LeftOutReason::TooOld, None)
        } else if meta.mtime.seconds > self.times.1 {
            (LeftOutReason::TooNew, None)
        } else {
            return false;
        };
        self.out(|| Note {
            path,
            kind: Some(meta.kind),
            size: is_file.then_some(meta.size),
            names: 1,
            reason,
            word: word.map_or_else(String::new, |limit| Size(limit).to_string()),
        })
    }

    fn marker(&self, listed: &Marked<'_>) -> Option<usize> {
        let by_name = self.markers.iter().find_map(|name| {
            let index = listed.names.find_file(name.as_bytes()).ok().flatten()?;
            Some((index, name.as_str(), LeftOutReason::Marker))
        });
        let by_tag = || {
            let index = self.caches.then(|| listed.cache_tag()).flatten()?;
            Some((index, CACHE_TAG, LeftOutReason::CacheTag))
        };
        let (index, marker, reason) = by_name.or_else(by_tag)?;
        self.out(|| Note {
            path: listed.path,
            kind: Some(Kind::Directory),
            size: None,
            names: listed.names.len() - 1,
            reason,
            word: marker.to_owned(),
        });
        Some(index)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::os::fd::OwnedFd;
    use std::path::Path;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use taf_tree::walk::{Event, Options, Walk};

    use super::*;

    /// The paths that a walk below `top` takes, and the notes on the others.
    fn walk(top: &Path, selection: &FetchSelectionResponse) -> (Vec<String>, Vec<String>) {
        let notes = Arc::new(Mutex::new(Vec::new()));
        let roots = vec![b"/".to_vec()];
        let noting = Arc::clone(&notes);
        let leave_out = LeaveOut::new(selection, HashMap::new(), &roots)
            .unwrap()
            .noting(Box::new(move |note| {
                let path = taf_proto::path::display(note.path);
                let line = format!("{path} ({:?} {}{})", note.reason, note.names, note.word);
                noting.lock().unwrap().push(line);
            }));
        let options = Options {
            exclude: Some(Box::new(leave_out)),
            ..Options::new(roots)
        };
        let walk = Walk::beneath(OwnedFd::from(fs::File::open(top).unwrap()), options).unwrap();
        let mut taken = Vec::new();
        for event in walk {
            match event {
                Event::Enter(directory) => {
                    taken.push(format!("{}/", taf_proto::path::display(&directory.path)));
                }
                Event::Entry(item) => taken.push(taf_proto::path::display(&item.path)),
                Event::Leave { .. } => {}
                Event::Issue(issue) => panic!("{issue:?}"),
            }
        }
        let mut notes = std::mem::take(&mut *notes.lock().unwrap());
        notes.sort();
        (taken, notes)
    }

    fn tree(files: &[(&str, usize)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, size) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, vec![b'x'; *size]).unwrap();
        }
        folder
    }

    #[test]
    fn rules_say_what_they_left_out() {
        let folder = tree(&[
            ("a/x.tmp", 1),
            ("a/keep.tmp", 1),
            ("b/cache/y", 1),
            ("b/z", 1),
        ]);
        let selection = FetchSelectionResponse {
            rules: ["*.tmp", "!keep.tmp", "cache/"]
                .map(selection::parse)
                .to_vec(),
            ..Default::default()
        };
        let (taken, notes) = walk(folder.path(), &selection);
        assert_eq!(taken, ["/", "a/", "a/keep.tmp", "b/", "b/z"]);
        assert_eq!(notes, ["a/x.tmp (Rule 1*.tmp)", "b/cache (Rule 1cache/)"]);
    }

    #[test]
    fn marked_directories_keep_their_marker_alone() {
        let folder = tree(&[
            ("a/.nobackup", 0),
            ("a/x/y", 1),
            ("c/data", 1),
            ("d/CACHEDIR.TAG", 9),
            ("d/x", 1),
        ]);
        fs::write(
            folder.path().join("c/CACHEDIR.TAG"),
            "Signature: 8a477f597d28d172789f06886806bc55\n# a comment\n",
        )
        .unwrap();
        let selection = FetchSelectionResponse {
            marker_files: vec![".nobackup".into()],
            exclude_caches: true,
            ..Default::default()
        };
        let (taken, notes) = walk(folder.path(), &selection);
        let expected = [
            "/",
            "a/",
            "a/.nobackup",
            "c/",
            "c/CACHEDIR.TAG",
            "d/",
            "d/CACHEDIR.TAG",
            "d/x",
        ];
        assert_eq!(taken, expected);
        assert_eq!(
            notes,
            ["a (Marker 1.nobackup)", "c (CacheTag 1CACHEDIR.TAG)"]
        );
    }

    #[test]
    fn limits_of_size_and_age_are_kept() {
        let folder = tree(&[
            ("large", 3000),
            ("small", 1),
            ("right", 100),
            ("old", 100),
            ("new", 100),
        ]);
        let age = |name: &str, seconds| {
            let file = fs::File::options()
                .write(true)
                .open(folder.path().join(name))
                .unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(seconds))
                .unwrap();
        };
        for name in ["large", "small", "right"] {
            age(name, 5000);
        }
        age("old", 1_000_000);
        let selection = FetchSelectionResponse {
            max_file_size: 2000,
            min_file_size: 2,
            max_age_seconds: 100_000,
            min_age_seconds: 1000,
            ..Default::default()
        };
        let (taken, notes) = walk(folder.path(), &selection);
        assert_eq!(taken, ["/", "right"]);
        let expected = [
            "large (TooLarge 12kB)",
            "new (TooNew 1)",
            "old (TooOld 1)",
            "small (TooSmall 12B)",
        ];
        assert_eq!(notes, expected);
    }

    #[test]
    fn what_was_named_is_taken_whatever_the_rules_say() {
        let selection = FetchSelectionResponse {
            rules: vec![selection::parse("*")],
            max_file_size: 1,
            ..Default::default()
        };
        let roots = vec![b"/srv/data".to_vec()];
        let leave_out = LeaveOut::new(&selection, HashMap::new(), &roots).unwrap();
        let name = |path: &[u8]| {
            leave_out.name(&Candidate {
                path,
                kind: Some(Kind::Directory),
                device: 1,
                inode: 1,
            })
        };
        assert!(!name(b"srv") && !name(b"srv/data"));
        assert!(name(b"srv/data/x"));
    }
}
