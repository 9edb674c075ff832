//! Writing: items in order become files, each from the member at its place, each proved by its hash. Runs on a thread
//! of its own, for it waits for the disk.

use std::collections::HashMap;
use std::sync::Arc;

use rustix::io::Errno;
use taf_format::entry::{Kind, Metadata, Time};
use taf_format::tar::decode::{self, Content, Decoder};
use taf_proto::agent::{Ancestor, EntryStat, RecallItem};
use taf_tree::unpack::{self, MemberData};
use taf_tree::{Unpacker, Warning, write};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::dump;
use super::mapping::Mapping;
use super::owners::Owners;
use super::plan::{Needs, Order};
use super::window::Window;
use crate::fault::{Error, fault};
use crate::issues::{self, Issues};
use crate::progress::Counters;

/// Warnings of one kind that are told one by one.
const WARNINGS_MOST: u64 = 1_000;
/// What is said of what was there and is to stay.
pub(super) const EXISTS: &str = "exists and was left as it is";
/// Bytes that are proved at a time.
const PROVED_AT_A_TIME: usize = 256 << 10;

/// Says whether a raw path below the target may be written; an error ends the restore.
pub type Permit = Box<dyn Fn(&[u8]) -> Result<Allowed, Error> + Send>;

/// What a permit says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// It may be written.
    Write,
    /// It leads to what may be written, and stays as it is.
    Keep,
}

/// What came of a member.
enum Placed {
    Done,
    Damaged(String),
}

/// Where the members go.
pub enum Outlet {
    /// Below a directory, each where the permit lets it.
    Below {
        /// Puts them there.
        unpacker: Box<Unpacker>,
        /// Says what may be written.
        permit: Permit,
        /// Says where.
        mapping: Mapping,
        /// Says whose they become.
        owners: Owners,
    },
    /// Nowhere: they are read and proved. The buffer is for their bytes.
    Nowhere(Vec<u8>),
    /// To somebody who takes their bytes.
    Stream(Box<dump::Stream>),
}

impl Outlet {
    /// Proves only.
    pub fn nowhere() -> Self {
        Self::Nowhere(vec![0; PROVED_AT_A_TIME])
    }

    /// The place of an item, none if it has none.
    fn place(&self, path: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Below { mapping, .. } => mapping.place(path),
            Self::Nowhere(_) | Self::Stream(_) => Some(path.to_vec()),
        }
    }

    fn permits(&self, path: &[u8]) -> Result<Allowed, Error> {
        match self {
            Self::Below { permit, .. } => permit(path),
            Self::Nowhere(_) | Self::Stream(_) => Ok(Allowed::Write),
        }
    }
}

/// Puts items in their places.
pub struct Writer {
    outlet: Outlet,
    issues: Issues,
    counters: Arc<Counters>,
    /// Places of files with several names, and the name that was restored.
    carried: HashMap<(u32, u64), Carried>,
    /// Further names whose first could not be restored; they carry the bytes themselves, in another pass.
    late: Vec<RecallItem>,
    /// What was ordered in a pass that broke off, and not done.
    undone: Vec<Order>,
    warned: Warned,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

/// How often the target could not hold something, by kind. Restored by an ordinary user, every file of another owner gives a
/// warning; past [`WARNINGS_MOST`] of a kind they are only counted, and the sum is said at the end. Damage is never counted
/// this way: each damaged file is named.
#[derive(Default)]
struct Warned {
    counts: HashMap<write::WarningKind, u64>,
}

impl Warned {
    fn warn(&mut self, issues: &Issues, warning: &Warning) {
        let count = self.counts.entry(warning.kind).or_default();
        *count += 1;
        if *count <= WARNINGS_MOST {
            let reason = issues::warning_reason(warning.kind);
            issues.put_blocking(&warning.path, reason, warning.reason.clone());
        }
    }

    fn sum_up(&self, issues: &Issues, counters: &Counters) {
        for (kind, count) in &self.counts {
            if let Some(further) = count.checked_sub(WARNINGS_MOST).filter(|&more| more > 0) {
                let what = format!("the same is so of {further} further entries");
                let reason = issues::warning_reason(*kind);
                issues.put_blocking(b"", reason, what);
                // One of them was just counted.
                counters.reason(reason, further - 1);
            }
        }
    }
}

enum Carried {
    /// Under this path.
    At(Vec<u8>),
    /// Not, and no other name will do better.
    Damaged,
    /// Not, because of where it should have gone.
    NotThere,
}

impl Writer {
    /// Writes to an outlet.
    pub fn new(outlet: Outlet, issues: Issues, counters: Arc<Counters>) -> Self {
        Self {
            outlet,
            issues,
            counters,
            carried: HashMap::new(),
            late: Vec::new(),
            undone: Vec::new(),
            warned: Warned::default(),
        }
    }

    /// Does one pass: all orders, with the segments that come through the window.
    ///
    /// # Errors
    /// What makes it useless to go on; what concerns one entry is an issue.
    pub fn pass(
        &mut self,
        mut orders: mpsc::Receiver<Order>,
        mut window: Window,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        while let Some(Order { item, needs }) = orders.blocking_recv() {
            if stop.is_cancelled() {
                return Err(Error::Stopped);
            }
            let ordered = needs.clone();
            let place = match self.outlet.place(&item.path) {
                Some(place) if self.outlet.permits(&place)? == Allowed::Write => place,
                _ => {
                    if let Needs::Segments { last, .. } = needs {
                        window.pass(last);
                    }
                    continue;
                }
            };
            self.counters.path(&place);
            match (needs, item.ancestor) {
                (_, Some(ancestor)) => self.missing_directory(&place, &ancestor)?,
                (Needs::Nothing, None) => self.further_name(item, &place)?,
                (Needs::Missing(reason), None) => self.damaged(&item, &place, &reason),
                (Needs::Segments { first, last }, None) => {
                    let placed = self.member(&item, &place, &mut window, first, last)?;
                    window.pass(last);
                    match placed {
                        // Nothing came any more; what was there to be done is known.
                        Placed::Damaged(_) if window.ended() => {
                            self.undone.push(Order {
                                item,
                                needs: ordered,
                            });
                            self.undone
                                .extend(std::iter::from_fn(|| orders.blocking_recv()));
                            return Err(Error::Stopped);
                        }
                        Placed::Damaged(reason) => self.damaged(&item, &place, &reason),
                        Placed::Done => {}
                    }
                }
            }
        }
        Ok(())
    }

    /// Items that need another pass: further names of files whose first name could not be restored.
    pub fn take_late(&mut self) -> Vec<RecallItem> {
        std::mem::take(&mut self.late)
    }

    /// What was ordered in a pass that broke off, and not done.
    pub fn take_undone(&mut self) -> Vec<Order> {
        std::mem::take(&mut self.undone)
    }

    /// What it has to say from now on goes there.
    pub fn speak_as(&mut self, issues: &Issues, counters: &Arc<Counters>) {
        self.issues = issues.clone();
        self.counters = Arc::clone(counters);
    }

    /// It writes no more, and is only to be finished: what it holds until then is little.
    pub fn rest(&mut self) {
        self.carried = HashMap::new();
        if let Outlet::Below { unpacker, .. } = &mut self.outlet {
            unpacker.target().close_directories();
        }
    }

    /// Waits until the files are on the disk, and gives them their time: before any other writer gives a directory a mode that may let
    /// nobody in any more.
    pub fn finish_files(&mut self) {
        if let Outlet::Below { unpacker, .. } = &mut self.outlet {
            for warning in unpacker.finish_files() {
                self.warned.warn(&self.issues, &warning);
            }
        }
    }

    /// Gives directories their metadata, and waits until everything is on the disk, also after a fault: what was restored gets
    /// what it waits for. A stream ends well only if everything was read.
    pub fn finish(mut self, whole: bool) -> Result<(), Error> {
        let unpacker = match &mut self.outlet {
            Outlet::Below { unpacker, .. } => unpacker,
            Outlet::Nowhere(_) => return Ok(()),
            Outlet::Stream(_) => {
                return match self.outlet {
                    Outlet::Stream(stream) if whole => stream.finish(),
                    _ => Ok(()),
                };
            }
        };
        let (issues, warned) = (self.issues.clone(), &mut self.warned);
        let finished = unpacker.finish(|warning| match warning {
            Ok(warning) => warned.warn(&issues, &warning),
            Err(error) => issues.put_blocking(b"", reason(&error), error.to_string()),
        });
        self.warned.sum_up(&issues, &self.counters);
        finished
            .and_then(|()| unpacker.target().sync())
            .map_err(|error| target_failed(&error))
    }

    /// A directory on the way to what was asked for.
    fn missing_directory(&mut self, place: &[u8], ancestor: &Ancestor) -> Result<(), Error> {
        let Outlet::Below {
            unpacker, owners, ..
        } = &mut self.outlet
        else {
            return Ok(());
        };
        let mut meta = metadata(ancestor);
        owners.apply(&mut meta);
        let made = unpacker.target().missing_directory(place, &meta);
        self.settle(place, made)
    }

    fn member(
        &mut self,
        item: &RecallItem,
        path: &[u8],
        window: &mut Window,
        first: u64,
        last: u64,
    ) -> Result<Placed, Error> {
        let place = (item.archive_ordinal, item.tar_offset);
        let damaged = |reason: String| Ok(Placed::Damaged(reason));
        let reader = window.item(first, last, item.tar_offset);
        let mut decoder = Decoder::starting_at(reader, item.tar_offset);
        let mut member = match decoder.next() {
            Ok(Some(member)) => member,
            Ok(None) => return damaged("the archive ends at its place".into()),
            Err(decode::Error::Io { source, .. }) => return damaged(source.to_string()),
            Err(error) => return damaged(error.to_string()),
        };
        // Of several names another one may carry the bytes.
        let other = item.link_group == 0 && member.path != item.path;
        if other || matches!(member.content, Content::HardLink { .. }) {
            let shown = taf_tree::path::display(&member.path);
            return damaged(format!("another entry is at its place: {shown}"));
        }
        if let Some(stat) = &item.stat {
            overrule(&mut member.meta, stat);
        }
        let expected = (!item.hash.is_empty()).then_some(&item.hash[..]);
        let data = &mut MemberData(&mut decoder);
        let unpacked = match &mut self.outlet {
            Outlet::Below {
                unpacker, owners, ..
            } => {
                owners.apply(&mut member.meta);
                unpacker.member(path, &member, data, expected)
            }
            Outlet::Nowhere(buffer) => Unpacker::prove(buffer, &member, data, expected),
            Outlet::Stream(stream) => match stream.member(path, &member, data, expected) {
                Ok(outcome) => Ok(outcome),
                Err(dump::Ended::Damaged(error)) => Err(error),
                Err(dump::Ended::Over(error)) => return Err(error),
            },
        };
        let carried = match unpacked {
            Ok(outcome) => {
                let left_out = outcome
                    .warnings
                    .iter()
                    .any(|warning| warning.kind == write::WarningKind::DeviceNotPermitted);
                for warning in &outcome.warnings {
                    self.warned.warn(&self.issues, warning);
                }
                if member.meta.kind == Kind::Directory {
                    Counters::add(&self.counters.directories, 1);
                } else if !left_out {
                    Counters::add(&self.counters.files, 1);
                    Counters::add(&self.counters.bytes, member.meta.size);
                }
                if left_out {
                    Carried::NotThere
                } else {
                    Carried::At(path.to_vec())
                }
            }
            Err(unpack::Error::Write(error)) => {
                self.settle(path, Err(error))?;
                Carried::NotThere
            }
            Err(error) => return damaged(error.to_string()),
        };
        if item.link_group != 0 {
            self.carried.insert(place, carried);
        }
        Ok(Placed::Done)
    }

    fn further_name(&mut self, item: RecallItem, path: &[u8]) -> Result<(), Error> {
        let place = (item.archive_ordinal, item.tar_offset);
        let existing = match self.carried.get(&place) {
            Some(Carried::At(existing)) => existing.clone(),
            Some(Carried::Damaged) => {
                self.damaged(&item, path, "the name that carries its bytes is damaged");
                return Ok(());
            }
            Some(Carried::NotThere) => {
                self.late.push(item);
                return Ok(());
            }
            None => {
                self.damaged(
                    &item,
                    path,
                    "the catalog names no entry that carries its bytes",
                );
                return Ok(());
            }
        };
        let linked = match &mut self.outlet {
            Outlet::Below { unpacker, .. } => unpacker.target().hard_link(path, &existing),
            Outlet::Nowhere(_) => Ok(()),
            Outlet::Stream(stream) => {
                let mut meta = metadata(&Ancestor::default());
                meta.kind = Kind::File;
                if let Some(stat) = &item.stat {
                    overrule(&mut meta, stat);
                }
                match stream.hard_link(path, &existing, &meta) {
                    Ok(()) => Ok(()),
                    Err(dump::Ended::Over(error)) => return Err(error),
                    Err(dump::Ended::Damaged(error)) => {
                        self.damaged(&item, path, &error.to_string());
                        return Ok(());
                    }
                }
            }
        };
        if linked.is_ok() {
            Counters::add(&self.counters.files, 1);
        }
        self.settle(path, linked)
    }

    fn damaged(&mut self, item: &RecallItem, path: &[u8], reason: &str) {
        if item.link_group != 0 {
            let place = (item.archive_ordinal, item.tar_offset);
            // A name that was restored stays what others are linked to.
            self.carried
                .entry(place)
                .and_modify(|carried| {
                    if matches!(carried, Carried::NotThere) {
                        *carried = Carried::Damaged;
                    }
                })
                .or_insert(Carried::Damaged);
        }
        if let Outlet::Stream(stream) = &mut self.outlet {
            stream.damaged(reason);
        }
        self.issues.put_blocking(path, "DAMAGED", reason);
    }

    /// An issue for what could not be written; a fault if nothing else could be either.
    fn settle(&mut self, path: &[u8], result: Result<(), write::Error>) -> Result<(), Error> {
        let Err(error) = result else { return Ok(()) };
        if let write::Error::Kept { .. } = error {
            Counters::add(&self.counters.kept, 1);
            return Ok(());
        }
        if let write::Error::WriteOut { .. } = error {
            return Err(target_failed(&error));
        }
        if let write::Error::Io {
            source: Errno::NOSPC | Errno::DQUOT | Errno::ROFS,
            ..
        }
        | write::Error::Spool(_) = &error
        {
            return Err(fault(
                "TARGET_FULL",
                error.to_string(),
                "make room at the target and restore again; what was restored stays",
            ));
        }
        let message = match &error {
            // As what is looked at before it is read.
            write::Error::Exists { .. } => EXISTS.to_owned(),
            error => error.to_string(),
        };
        self.issues.put_blocking(path, reason(&error), message);
        Ok(())
    }
}

fn reason(error: &write::Error) -> &'static str {
    match error {
        write::Error::Path { .. } => "PATH_REFUSED",
        write::Error::Exists { .. } | write::Error::Kept { .. } => "EXISTS",
        write::Error::Conflict { .. } => "CONFLICT",
        write::Error::Replaced { .. } => "REPLACED",
        write::Error::Overrun { .. }
        | write::Error::Incomplete { .. }
        | write::Error::Extents { .. } => "DAMAGED",
        write::Error::Io { action: "link", .. } => "LINK_FAILED",
        write::Error::Io { .. } | write::Error::WriteOut { .. } | write::Error::Spool(_) => {
            "WRITE_FAILED"
        }
    }
}

fn target_failed(error: &write::Error) -> Error {
    fault(
        "TARGET_FAILED",
        error.to_string(),
        "see to the disk of the target and restore again",
    )
}

/// The header may be of an earlier version than the page.
fn overrule(meta: &mut Metadata, stat: &EntryStat) {
    if (meta.uid, meta.gid) != (stat.uid, stat.gid) {
        meta.user.clear();
        meta.group.clear();
    }
    meta.mode = stat.mode & 0o7777;
    meta.uid = stat.uid;
    meta.gid = stat.gid;
    meta.mtime = Time {
        seconds: stat.mtime_seconds,
        nanos: stat.mtime_nanos.min(999_999_999),
    };
}

fn metadata(ancestor: &Ancestor) -> Metadata {
    Metadata {
        kind: Kind::Directory,
        size: 0,
        mode: ancestor.mode & 0o7777,
        uid: ancestor.uid,
        gid: ancestor.gid,
        user: Vec::new(),
        group: Vec::new(),
        mtime: Time {
            seconds: ancestor.mtime_seconds,
            nanos: ancestor.mtime_nanos.min(999_999_999),
        },
        ctime: Time::default(),
        inode: 0,
        links: 1,
        rdev_major: 0,
        rdev_minor: 0,
        link_target: Vec::new(),
        xattrs: Vec::new(),
    }
}
