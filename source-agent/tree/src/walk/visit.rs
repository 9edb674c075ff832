//! The steps of a walk: entering a directory, reading an entry, leaving, and finding the way back.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Stat, fstat, readlinkat, statat};
use rustix::io::Errno;
use taf_format::entry::{Kind, Metadata};

use super::names::Gathering;
use super::{Directory, Event, Frame, Item, Known, Listing, MAX_OPEN, Names, Walk, listing};
use crate::content::OpenFile;
use crate::issue::{Issue, IssueKind, words};
use crate::metadata::{self, Handle};
use crate::path;

/// An open or located directory.
struct Opened {
    fd: OwnedFd,
    stat: Stat,
    /// Why it cannot be listed.
    refused: Option<Errno>,
}

fn open(parent: BorrowedFd<'_>, name: Option<&[u8]>) -> Result<Opened, Errno> {
    let name = name.unwrap_or(b".");
    let (fd, refused) = match listing::open_directory(parent, name) {
        Ok(fd) => (fd, None),
        Err(error @ (Errno::NOENT | Errno::LOOP | Errno::NOTDIR)) => return Err(error),
        // It may still be examined, and passed through.
        Err(error) => (listing::locate(parent, name)?, Some(error)),
    };
    let stat = fstat(&fd)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Err(Errno::NOTDIR);
    }
    Ok(Opened { fd, stat, refused })
}

impl Walk {
    fn issue(&mut self, issue: Issue) {
        self.pending.push_back(Event::Issue(issue));
    }

    /// Enters the directory `name` of `parent`, or `parent` itself as the top.
    pub(super) fn enter(&mut self, parent: BorrowedFd<'_>, name: Option<&[u8]>) {
        let (chosen, device) = match (self.stack.last(), name) {
            (Some(frame), Some(name)) => (
                frame
                    .chosen
                    .and_then(|node| self.selection.node(node).children.get(name).copied()),
                frame.device,
            ),
            _ => (Some(0), None),
        };
        let chosen = chosen.filter(|node| !self.selection.node(*node).whole);
        let at = name.map_or_else(Vec::new, |name| path::join(&self.path, name));

        let opened = match open(parent, name) {
            Ok(opened) => opened,
            Err(error) => return self.issue(listing::gone_or_unreadable(&at, error)),
        };
        let identity = listing::identity(&opened.stat);
        let handle = match opened.refused {
            None => Handle::Open(opened.fd.as_fd()),
            Some(_) => Handle::Located(opened.fd.as_fd()),
        };
        let meta = self.examine(&at, Kind::Directory, &opened.stat, handle);

        let stable_inodes = *self
            .stable
            .entry(identity.0)
            .or_insert_with(|| metadata::has_stable_inodes(opened.fd.as_fd()));

        let (mut issues, mut unseen) = (Vec::new(), Vec::new());
        let (names, state) = if let Some(node) = chosen {
            let fd = opened.fd.as_fd();
            (
                self.chosen_names(node, fd, &at, identity.0, &mut issues, &mut unseen),
                Listing::Chosen,
            )
        } else if device.is_some_and(|device| device != identity.0) {
            (Names::default(), Listing::MountPoint)
        } else if let Some(error) = opened.refused {
            let reason = format!("cannot be listed: {}", words(error));
            issues.push(Issue::new(&at, IssueKind::UnreadableDirectory, reason));
            (Names::default(), Listing::Incomplete)
        } else {
            let listed = listing::read(
                &opened.fd,
                &at,
                self.options.exclude.as_deref(),
                Gathering::new(self.options.max_names, self.options.spill.as_deref()),
            );
            issues = listed.issues;
            (
                listed.names,
                if listed.complete {
                    Listing::Complete
                } else {
                    Listing::Incomplete
                },
            )
        };

        let names = Arc::new(names);
        let device_to_stay_on = if chosen.is_some() {
            None
        } else {
            device.or(self.options.one_file_system.then_some(identity.0))
        };
        self.path.clone_from(&at);
        self.stack.push(Frame {
            fd: Some(Arc::new(opened.fd)),
            identity,
            path_length: at.len(),
            names: names.clone(),
            next: 0,
            chosen,
            device: device_to_stay_on,
            complete: state != Listing::Incomplete,
        });
        if let Some(distant) = self.stack.len().checked_sub(MAX_OPEN)
            && distant > 0
        {
            self.stack[distant].fd = None;
        }
        let entered = Directory {
            path: at,
            meta,
            device: identity.0,
            stable_inodes,
            listing: state,
            names,
            unseen,
        };
        self.pending.push_back(Event::Enter(entered));
        self.pending.extend(issues.into_iter().map(Event::Issue));
    }

    /// The names that lead from a directory to chosen paths, as far as they exist and can be looked at.
    fn chosen_names(
        &self,
        node: usize,
        fd: BorrowedFd<'_>,
        at: &[u8],
        device: u64,
        issues: &mut Vec<Issue>,
        unseen: &mut Vec<Vec<u8>>,
    ) -> Names {
        let mut names = Names::default();
        for (name, child) in &self.selection.node(node).children {
            let mut fails = |issue: Issue| {
                if issue.kind == IssueKind::Unreadable {
                    unseen.push(name.clone());
                }
                issues.push(issue);
            };
            let stat = match statat(fd, &name[..], AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => {
                    issues.push(Issue::new(
                        &path::join(at, name),
                        IssueKind::Vanished,
                        "was chosen but does not exist",
                    ));
                    continue;
                }
                Err(error) => {
                    fails(listing::gone_or_unreadable(&path::join(at, name), error));
                    continue;
                }
            };
            let file_type = FileType::from_raw_mode(stat.st_mode);
            let identity = (device, listing::identity(&stat).1);
            match listing::judge(
                fd,
                at,
                name,
                identity,
                file_type,
                self.options.exclude.as_deref(),
            ) {
                Ok(Some(kind)) => {
                    if kind != Kind::Directory && !self.selection.node(*child).whole {
                        let reason = "a chosen path leads through it, but it is no directory; choose the real path";
                        issues.push(Issue::new(
                            &path::join(at, name),
                            IssueKind::Unreadable,
                            reason,
                        ));
                    }
                    names.push(name, kind);
                }
                Ok(None) => {}
                Err(issue) => fails(issue),
            }
        }
        names.sort();
        names
    }

    /// Metadata with attributes; if those cannot be read, without them and with an issue.
    fn examine(&mut self, at: &[u8], kind: Kind, stat: &Stat, handle: Handle<'_>) -> Metadata {
        let mut meta = self.examiner.basics(kind, stat);
        match self.examiner.xattrs(handle) {
            Ok(xattrs) => meta.xattrs = xattrs,
            Err(error) => {
                let reason = format!("extended attributes cannot be read: {}", words(error));
                self.issue(Issue::new(at, IssueKind::XattrUnreadable, reason));
            }
        }
        meta
    }

    fn leaves_out(&self, at: &[u8], meta: &Metadata) -> bool {
        let exclude = self.options.exclude.as_ref();
        exclude.is_some_and(|exclude| exclude.entry(at, meta))
    }

    /// Reads an entry that is no directory.
    pub(super) fn entry(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &[u8],
        kind: Kind,
        known: Option<&mut Known<'_>>,
    ) {
        let at = path::join(&self.path, name);
        if let Some(known) = known {
            match self.look(directory, &at, name, kind) {
                Ok((meta, _)) if self.leaves_out(&at, &meta) => return,
                Ok((meta, device)) if known(name, &meta) => {
                    return self.pending.push_back(Event::Entry(Item {
                        path: at,
                        meta,
                        device,
                        file: None,
                    }));
                }
                Ok(_) => {}
                Err(issue) => return self.issue(issue),
            }
        }
        let opened = if kind == Kind::File {
            listing::open_file(directory, name)
        } else {
            listing::locate(directory, name)
        };
        let stat = opened.and_then(|fd| fstat(&fd).map(|stat| (fd, stat)));
        let (fd, stat) = match stat {
            Ok(both) => both,
            Err(error) => return self.issue(listing::gone_or_unreadable(&at, error)),
        };
        let found = metadata::kind(FileType::from_raw_mode(stat.st_mode));
        if found != Some(kind) {
            return self.issue(Issue::new(
                &at,
                IssueKind::Changed,
                "became something else before it could be read",
            ));
        }
        let handle = if kind == Kind::File {
            Handle::Open(fd.as_fd())
        } else {
            Handle::Located(fd.as_fd())
        };
        let mut meta = self.examine(&at, kind, &stat, handle);
        if kind == Kind::Symlink {
            match readlinkat(&fd, "", Vec::new()) {
                Ok(target) => meta.link_target = target.into_bytes(),
                Err(error) => return self.issue(listing::gone_or_unreadable(&at, error)),
            }
        }
        if self.leaves_out(&at, &meta) {
            return;
        }
        let device = listing::identity(&stat).0;
        let file = (kind == Kind::File).then(|| OpenFile::new(fd, &stat));
        self.pending.push_back(Event::Entry(Item {
            path: at,
            meta,
            device,
            file,
        }));
    }

    /// Metadata of an entry that is no directory, without opening it, and its device.
    fn look(
        &mut self,
        directory: BorrowedFd<'_>,
        at: &[u8],
        name: &[u8],
        kind: Kind,
    ) -> Result<(Metadata, u64), Issue> {
        let failed = |error| listing::gone_or_unreadable(at, error);
        let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        if metadata::kind(FileType::from_raw_mode(stat.st_mode)) != Some(kind) {
            return Err(failed(Errno::NOTDIR));
        }
        let mut meta = self.examiner.basics(kind, &stat);
        if kind == Kind::Symlink {
            let target = readlinkat(directory, name, Vec::new()).map_err(failed)?;
            meta.link_target = target.into_bytes();
        }
        Ok((meta, listing::identity(&stat).0))
    }

    /// Ends the directory on top of the stack.
    pub(super) fn leave(&mut self) -> Event {
        let Some(left) = self.stack.pop() else {
            unreachable!("the caller has just looked at the frame");
        };
        let path = self.path.clone();
        if let (Some(parent), Some(fd)) = (self.stack.last_mut(), &left.fd)
            && parent.fd.is_none()
        {
            parent.fd = reopen(fd.as_fd(), b"..", parent.identity).map(Arc::new);
        }
        Event::Leave {
            path,
            complete: left.complete,
            names: left.names,
        }
    }

    /// The descriptor of the directory on top of the stack. If it can't be found again, the rest of its names is
    /// given up, with an issue.
    pub(super) fn directory(&mut self) -> Option<Arc<OwnedFd>> {
        self.drop_files();
        let last = self.stack.len().checked_sub(1)?;
        let open = self
            .stack
            .iter()
            .rposition(|frame| frame.fd.is_some())
            .unwrap_or(0);
        let mut found = self.stack[open].fd.clone();
        for index in open + 1..=last {
            let start = self.stack[index - 1].path_length;
            let name = &self.path[start + usize::from(start > 0)..self.stack[index].path_length];
            found = found
                .and_then(|fd| reopen(fd.as_fd(), name, self.stack[index].identity).map(Arc::new));
        }
        if found.is_none() {
            self.abandon("was moved or replaced while it was walked; the rest of it is left out");
            return None;
        }
        self.stack[last].fd.clone_from(&found);
        found
    }

    /// Gives up the rest of the directory entered last.
    pub(super) fn abandon(&mut self, reason: &str) {
        if let Some(frame) = self.stack.last_mut() {
            frame.next = frame.names.len();
            frame.complete = false;
        }
        let at = self.path.clone();
        self.issue(Issue::new(&at, IssueKind::UnreadableDirectory, reason));
    }

    /// Once only directories are left, the names of files need no memory while the walk is below.
    fn drop_files(&mut self) {
        if let Some(frame) = self.stack.last_mut() {
            let files = frame.names.files();
            if files > 64
                && frame.next == files + 1
                && let Some(directories) = frame.names.directories()
            {
                frame.names = Arc::new(directories);
                frame.next = 1;
            }
        }
    }
}

/// Opens a directory again, if it still is the one that it was.
fn reopen(from: BorrowedFd<'_>, name: &[u8], identity: (u64, u64)) -> Option<OwnedFd> {
    let opened = open(from, Some(name)).ok()?;
    (listing::identity(&opened.stat) == identity).then_some(opened.fd)
}
