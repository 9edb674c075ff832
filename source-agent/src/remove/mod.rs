//! Removing sources: what an archive holds and the controller says may go is removed from this host, if it still is what was
//! archived.
//!
//! Owns the host's word on it (`remove_allowed`), the order, and what is told of what stays. The controller decides what is verified on
//! enough copies; [`taf_tree::remove`] proves each entry and removes it so that a kill at any moment loses nothing. Everything can be
//! done again: what has gone is passed over.

mod extra;
mod fetch;

pub use extra::run as extra;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use taf_format::entry::{Kind, Metadata, Time};
use taf_proto::agent::{Removal, RemovalDirectory, RemoveDone, RemoveWork};
use taf_proto::v1::EntryKind;
use taf_tree::Remover;
use taf_tree::remove::{Error as Refusal, Outcome, Recorded};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::allow::{AllowList, Purpose};
use crate::backup::Context;
use crate::fault::{self, Error, fault};
use crate::issues::Issues;
use crate::progress::Counters;

/// Directories between the controller's stream and the thread that removes.
const AHEAD: usize = 64;
/// Entries that stay for one reason and are told one by one.
const TOLD_MOST: u64 = 1_000;

/// Does the work.
///
/// # Errors
/// The fault that ends it; what concerns single entries is an issue.
pub async fn run(context: Context<'_>, work: &RemoveWork) -> Result<RemoveDone, Error> {
    let allowed = AllowList::new(Purpose::Remove, &context.config.remove_allowed);
    if allowed.is_empty() {
        return Err(allowed.refusal(Path::new("/"), None));
    }
    context.counters.phase("removing");
    let (sender, directories) = mpsc::channel(AHEAD);
    let removing = tokio::task::spawn_blocking({
        let (issues, counters) = (context.issues.clone(), Arc::clone(&context.counters));
        let (stop, empties) = (context.stop.clone(), work.empty_directories);
        move || -> Result<(), Error> {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let top = rustix::fs::open("/", flags, Mode::empty())
                .map_err(|error| fault::internal(format!("the root can't be opened: {error}")))?;
            let mut removing = Removing {
                remover: Remover::new(top),
                allowed,
                empties,
                open: Vec::new(),
                told: Told {
                    issues,
                    counts: HashMap::new(),
                },
                counters,
                stop,
            };
            removing.all(directories)
        }
    });
    let fetching =
        fetch::fetch::<RemovalDirectory>(context.controller.clone(), context.key, sender);
    let fetched = context.stop.run_until_cancelled(fetching).await;
    let removed = removing
        .await
        .map_err(|error| fault::internal(error.to_string()))?;
    fetched.unwrap_or(Err(Error::Stopped))?;
    removed?;
    let counters = &context.counters;
    Ok(RemoveDone {
        file_count: Counters::get(&counters.files),
        directory_count: Counters::get(&counters.directories),
        byte_count: Counters::get(&counters.bytes),
        issue_count: Counters::get(&counters.issues),
    })
}

struct Removing {
    remover: Remover,
    allowed: AllowList,
    /// Whether directories go that become empty.
    empties: bool,
    /// The directories that have been entered and not left, and whether each may go.
    open: Vec<(Vec<u8>, bool)>,
    told: Told,
    counters: Arc<Counters>,
    stop: CancellationToken,
}

impl Removing {
    fn all(&mut self, mut directories: mpsc::Receiver<RemovalDirectory>) -> Result<(), Error> {
        while let Some(directory) = directories.blocking_recv() {
            self.enter(&directory.path, directory.may_go);
            for removal in &directory.removals {
                if self.stop.is_cancelled() {
                    return Err(Error::Stopped);
                }
                self.entry(&directory.path, removal)?;
            }
        }
        if self.stop.is_cancelled() {
            return Err(Error::Stopped);
        }
        while let Some((path, may_go)) = self.open.pop() {
            self.leave(&path, may_go);
        }
        self.told.sum_up();
        Ok(())
    }

    /// Leaves all directories that `path` is not below.
    fn enter(&mut self, path: &[u8], may_go: bool) {
        let holds = |above: &[u8]| {
            let rest = path.strip_prefix(above);
            above.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        };
        while let Some((above, above_may_go)) = self.open.pop_if(|(above, _)| !holds(above)) {
            self.leave(&above, above_may_go);
        }
        match self.open.last_mut() {
            // A further chunk of it.
            Some((known, may)) if known == path => *may |= may_go,
            _ => self.open.push((path.to_vec(), may_go)),
        }
    }

    fn leave(&mut self, path: &[u8], may_go: bool) {
        if !self.empties || !may_go || !self.is_below_allowed(path) {
            return;
        }
        match self.remover.empty_directory(path) {
            Ok(true) => Counters::add(&self.counters.directories, 1),
            Ok(false) => {}
            Err(error) => self.told.stays(path, reason(&error), error.to_string()),
        }
    }

    /// A directory that was named itself stays.
    fn is_below_allowed(&self, path: &[u8]) -> bool {
        absolute(path).is_some_and(|path| {
            path.parent()
                .is_some_and(|parent| self.allowed.names(parent))
        })
    }

    fn entry(&mut self, directory: &[u8], removal: &Removal) -> Result<(), Error> {
        let path = taf_tree::path::join(directory, &removal.name);
        self.counters.path(&path);
        if !removal.obstacle.is_empty() {
            self.told
                .stays(&path, "NOT_VERIFIED", removal.obstacle.clone());
            return Ok(());
        }
        if !absolute(&path).is_some_and(|path| self.allowed.names(&path)) {
            let why = "remove_allowed of this host's source agent does not name it";
            self.told.stays(&path, "NOT_ALLOWED", why.to_owned());
            return Ok(());
        }
        let recorded = recorded(removal)?;
        let stop = &self.stop;
        match self
            .remover
            .entry(&path, &recorded, &|| stop.is_cancelled())
        {
            Ok(Outcome::Removed) => {
                Counters::add(&self.counters.files, 1);
                Counters::add(&self.counters.bytes, recorded.meta.size);
            }
            Ok(Outcome::Gone) => {}
            Err(_) if self.stop.is_cancelled() => return Err(Error::Stopped),
            Err(
                error @ Refusal::Io {
                    source: rustix::io::Errno::ROFS,
                    ..
                },
            ) => {
                return Err(fault(
                    "SOURCE_READ_ONLY",
                    error.to_string(),
                    "mount the file system of the source for writing and run it again",
                ));
            }
            Err(error) => self.told.stays(&path, reason(&error), error.to_string()),
        }
        Ok(())
    }
}

fn absolute(path: &[u8]) -> Option<std::path::PathBuf> {
    taf_tree::path::check(path).ok()?;
    Some(Path::new("/").join(OsStr::from_bytes(path)))
}

fn reason(error: &Refusal) -> &'static str {
    match error {
        Refusal::Path(_) => "PATH_REFUSED",
        Refusal::Differs(_) => "CHANGED",
        Refusal::Aside { .. } => "LEFT_ASIDE",
        Refusal::OtherFileSystem => "OTHER_FILE_SYSTEM",
        Refusal::TooDeep | Refusal::Io { .. } => "REMOVE_FAILED",
    }
}

/// What the version has of an entry.
fn recorded(removal: &Removal) -> Result<Recorded, Error> {
    let kind = match removal.kind() {
        EntryKind::File => Kind::File,
        EntryKind::Symlink => Kind::Symlink,
        EntryKind::Fifo => Kind::Fifo,
        EntryKind::CharDevice => Kind::CharDevice,
        EntryKind::BlockDevice => Kind::BlockDevice,
        EntryKind::Directory | EntryKind::Unspecified => {
            return Err(fault::protocol("what is to be removed is of no kind"));
        }
    };
    let time = |seconds, nanos| Time { seconds, nanos };
    Ok(Recorded {
        meta: Metadata {
            kind,
            size: removal.size,
            mode: removal.mode,
            uid: removal.uid,
            gid: removal.gid,
            user: Vec::new(),
            group: Vec::new(),
            mtime: time(removal.mtime_seconds, removal.mtime_nanos),
            ctime: time(removal.ctime_seconds, removal.ctime_nanos),
            inode: removal.inode,
            links: 1,
            rdev_major: removal.rdev_major,
            rdev_minor: removal.rdev_minor,
            link_target: removal.link_target.to_vec(),
            xattrs: Vec::new(),
        },
        hash: removal.hash[..].try_into().ok(),
        doubtful: removal.racy,
        has_names: removal.has_names,
    })
}

/// Tells what stays. Past [`TOLD_MOST`] of a kind it is only counted, and the sum said at the end.
struct Told {
    issues: Issues,
    counts: HashMap<&'static str, u64>,
}

impl Told {
    fn stays(&mut self, path: &[u8], reason: &'static str, why: String) {
        let count = self.counts.entry(reason).or_default();
        *count += 1;
        if *count <= TOLD_MOST {
            self.issues.put_blocking(path, reason, why);
        }
    }

    fn sum_up(&self) {
        for (reason, count) in &self.counts {
            if let Some(further) = count.checked_sub(TOLD_MOST).filter(|&more| more > 0) {
                let what = format!("the same is so of {further} further entries");
                self.issues.put_blocking(b"", reason, what);
            }
        }
    }
}
