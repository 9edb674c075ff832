//! The walk and the base side by side: every step of the walk gets what the base has there, and what the base has where the
//! walk finds nothing is told in its place.
//!
//! Owns what counts as gone: only what a listing without error lacks. What could not be looked at stays as the head has it.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use taf_format::entry::{Kind, Metadata, Time};
use taf_format::key;
use taf_format::page::{DirectoryStat, Entry, FLAG_CARRIED, FLAG_MOUNTED, Page};
use taf_tree::walk::{Directory, Item, Listing, Names};
use taf_tree::{Issue, IssueKind, path};

use super::deep;
use super::judge::{Rules, Verdict, judge, kept, kept_directory};
use super::row::{Against, Known, Row};
use crate::backup::step::{Entered, Found, Kept, Link, Step};
use crate::fault::{self, Error};

/// What issues say of what is carried.
const KEPT: &str = "; what the version before has of it is kept";

/// Where the base's rows come from.
pub trait Base {
    /// The next row in the order of keys; shortened keys are left out.
    fn next(&mut self) -> Result<Option<Row>, Error>;
    /// The rows of these keys, as far as there are any, in any order.
    fn look_up(&mut self, keys: Vec<Vec<u8>>) -> Result<Vec<Row>, Error>;
}

/// The base of a run that has none.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoBase;

impl Base for NoBase {
    fn next(&mut self) -> Result<Option<Row>, Error> {
        Ok(None)
    }

    fn look_up(&mut self, _: Vec<Vec<u8>>) -> Result<Vec<Row>, Error> {
        Ok(Vec::new())
    }
}

/// The names of a directory that were kept on disk can't be read again: nobody knows what is gone.
fn unreadable_names(error: &std::io::Error) -> Error {
    fault::internal(format!(
        "the names of a directory, kept on disk, can't be read again: {error}"
    ))
}

/// A directory entered and not yet left.
struct Open {
    path: Vec<u8>,
    /// Its full key.
    full: Vec<u8>,
    /// Of its file system.
    device: u64,
    /// Until all its files have passed.
    names: Option<Arc<Names>>,
    /// The last of its files that the walk told of.
    last: Option<Vec<u8>>,
    /// Its listing is whole, and yet not all of it could be visited.
    lost: bool,
    /// Chosen names that could not be looked at, and what the head has under them: these stay.
    unseen: Vec<(Vec<u8>, Kind)>,
    rules: Rules,
    /// Its rows that came already, for looking up names: those of the head, of what is compared, and staged.
    latest: [Option<Arc<Row>>; 3],
    /// Its rows, if they do not all come in the stream's order.
    deep: Option<Deep>,
}

impl Open {
    /// Whether the head has this name, which could not be looked at.
    fn is_unseen(&self, name: &[u8]) -> bool {
        self.unseen.iter().any(|(known, _)| known == name)
    }
}

struct Deep {
    coming: VecDeque<Row>,
    passed: Vec<Arc<Row>>,
}

/// Merges a walk with its base.
pub struct Merger<B> {
    base: B,
    against: Against,
    rules: Rules,
    /// The row that was pulled and not yet told.
    ahead: Option<Row>,
    stack: Vec<Open>,
    /// The directory that is carried, and how far below it the walk is.
    carried: Option<(Vec<u8>, usize)>,
    /// What was decided of the entry that the walk is about to give.
    settled: Option<Entry>,
    /// Shortened keys that were told to be gone.
    buried: HashSet<Vec<u8>>,
    out: VecDeque<Step>,
}

impl<B: Base> Merger<B> {
    /// A merge with `base`.
    pub fn new(base: B, against: Against, rules: Rules) -> Self {
        Self {
            base,
            against,
            rules,
            ahead: None,
            stack: Vec::new(),
            carried: None,
            settled: None,
            buried: HashSet::new(),
            out: VecDeque::new(),
        }
    }

    /// The steps that are ready, in order.
    pub fn steps(&mut self) -> impl Iterator<Item = Step> + '_ {
        self.out.drain(..)
    }

    /// The walk entered a directory.
    ///
    /// # Errors
    /// Here as everywhere: the base can't be had.
    pub fn enter(&mut self, mut directory: Directory) -> Result<(), Error> {
        if let Some((_, depth)) = &mut self.carried {
            *depth += 1;
            return Ok(());
        }
        self.end_files()?;
        let full = key::of_path(&directory.path);
        let own = key::chunk(&full, None);
        let mut first = None;
        if !key::is_shortened(&own) {
            let fate = self.fate();
            self.pass(|row| row.key < own, fate)?;
            if self.peek()?.is_some_and(|row| row.key == own) {
                first = self.ahead.take();
            }
        }
        let mut deep = None;
        if deep::may_have_shortened(&full) || !directory.unseen.is_empty() {
            let mut coming = VecDeque::from(self.all_chunks(&full, first.take())?);
            first = coming.pop_front();
            deep = Some(Deep {
                coming,
                passed: Vec::new(),
            });
        }
        let mut unseen = Vec::new();
        if !directory.unseen.is_empty() {
            let coming = deep.iter().flat_map(|deep: &Deep| &deep.coming);
            let rows: Vec<&Row> = first.iter().chain(coming).collect();
            unseen = had(&directory.unseen, &rows);
            directory.names = with(&directory.names, &unseen)?;
        }
        let first = first.map(Arc::new);
        let mounted = self
            .stack
            .last()
            .is_some_and(|parent| parent.device != directory.device);
        if let Some(row) = &first
            && let Some(head) = &row.head
        {
            let was_mounted = head.page.header.as_ref().is_some_and(was_mounted);
            let emptied = directory.names.is_empty() && !head.page.entries.is_empty();
            let missing = was_mounted && !mounted && emptied;
            if missing {
                self.out.push_back(Step::Issue(Issue {
                    path: directory.path.clone(),
                    kind: IssueKind::UnreadableDirectory,
                    reason: format!(
                        "is empty, and another file system was mounted there before{KEPT}"
                    ),
                }));
            }
            if missing || directory.listing == Listing::Incomplete {
                return self.carry(&directory, &full, head, Arc::clone(row), deep);
            }
        }
        let rules = Rules {
            ignore_inode: self.rules.ignore_inode || !directory.stable_inodes,
            ..self.rules
        };
        let mut stat = DirectoryStat::new(&directory.meta);
        if mounted {
            stat.flags |= FLAG_MOUNTED;
        }
        let kept = first
            .as_ref()
            .and_then(|row| self.kept_header(row, &stat, directory.listing, rules));
        let (stat, kept) = match kept {
            Some(kept) => (kept, true),
            None => (stat, false),
        };
        self.stack.push(Open {
            path: directory.path.clone(),
            full,
            device: directory.device,
            names: Some(Arc::clone(&directory.names)),
            last: None,
            lost: false,
            unseen,
            rules,
            latest: [None, None, None],
            deep,
        });
        let entered = Entered {
            directory,
            stat,
            kept,
        };
        self.out.push_back(Step::Enter(Box::new(entered)));
        if let Some(row) = first {
            self.give(row);
        }
        Ok(())
    }

    /// Whether an entry of the directory entered last is as the base has it, so that it need not be opened. To be asked before
    /// [`Merger::entry`], with what can be known without opening it.
    pub fn known(&mut self, name: &[u8], meta: &Metadata, seen: Time) -> Result<bool, Error> {
        self.settled = None;
        if self.carried.is_some() {
            return Ok(true);
        }
        self.advance(name)?;
        let Some(open) = self.stack.last() else {
            return Ok(false);
        };
        let rules = open.rules;
        let unchanged = self
            .olds(name)
            .find(|old| judge(old, meta, false, rules) == Verdict::Unchanged);
        self.settled = unchanged.map(|old| kept(old, meta, seen, rules));
        Ok(self.settled.is_some())
    }

    /// The walk gave an entry. It is as the base has it if [`Merger::known`] said so of it; else it was opened, and its
    /// extended attributes were read.
    pub fn entry(&mut self, item: Item, seen: Time) -> Result<(), Error> {
        if self.carried.is_some() {
            return Ok(());
        }
        let link = Link::of(item.device, &item.meta);
        if let Some(entry) = self.settled.take() {
            self.visited(&entry.name.clone());
            let kept = Kept { entry, link };
            self.out.push_back(Step::Kept(Box::new(kept)));
            return Ok(());
        }
        let name = item.name().to_vec();
        self.advance(&name)?;
        self.visited(&name);
        let rules = self.stack.last().map_or(self.rules, |open| open.rules);
        let best = self
            .olds(&name)
            .map(|old| (judge(old, &item.meta, true, rules), old))
            .min_by_key(|(verdict, _)| *verdict);
        let old = match best {
            Some((Verdict::Unchanged, old)) => {
                let entry = kept(old, &item.meta, seen, rules);
                let kept = Kept { entry, link };
                self.out.push_back(Step::Kept(Box::new(kept)));
                return Ok(());
            }
            Some((Verdict::Compare, old)) => Some(old.clone()),
            Some((Verdict::Store, _)) | None => None,
        };
        self.out.push_back(Step::Entry(Box::new(Found {
            item,
            content: None,
            seen,
            old,
            compared: None,
            rules,
        })));
        Ok(())
    }

    /// The walk said that something is missing or doubtful. What could not be looked at stays as the head has it.
    pub fn issue(&mut self, mut issue: Issue) -> Result<(), Error> {
        if let Some((carried, _)) = &self.carried {
            if issue.kind == IssueKind::UnreadableDirectory && issue.path == *carried {
                issue.reason += KEPT;
            }
            self.out.push_back(Step::Issue(issue));
            return Ok(());
        }
        if let Some(open) = self.stack.last()
            && issue.kind == IssueKind::Unreadable
            && path::split(&issue.path)
                .is_some_and(|(parent, name)| parent == open.path && open.is_unseen(name))
        {
            issue.reason += KEPT;
            self.out.push_back(Step::Issue(issue));
            return Ok(());
        }
        let unreadable = issue.kind == IssueKind::Unreadable;
        let unvisited = issue.kind == IssueKind::UnreadableDirectory;
        let at = issue.path.clone();
        self.out.push_back(Step::Issue(issue));
        let Some(open) = self.stack.last_mut() else {
            return Ok(());
        };
        if unvisited && at == open.path {
            // The rest of its names could not be visited. Of a listing that is not whole nothing is expected.
            open.lost = true;
            return self.keep_files(|_| true);
        }
        match path::split(&at) {
            Some((parent, name)) if unreadable && parent == open.path => {
                let found = open.names.as_ref().map(|names| names.find(name));
                match found
                    .transpose()
                    .map_err(|error| unreadable_names(&error))?
                {
                    Some(Some(kind)) if kind != Kind::Directory => {
                        let name = name.to_vec();
                        self.keep_files(|candidate| candidate == name)
                    }
                    Some(None) => Ok(()),
                    _ => self.keep_subtree(&at),
                }
            }
            _ => Ok(()),
        }
    }

    /// The walk left the directory entered last, which has these names, or at least these directories.
    pub fn leave(&mut self, complete: bool, names: &Names) -> Result<(), Error> {
        if let Some((_, depth)) = &mut self.carried {
            if *depth == 0 {
                self.carried = None;
            } else {
                *depth -= 1;
            }
            return Ok(());
        }
        self.end_files()?;
        let Some(open) = self.stack.pop() else {
            return Ok(());
        };
        self.pass(
            |row| is_below(&row.key, &open.full),
            |row| {
                let top = child_of(&row.key, &open.full);
                if leads_to(&row.key, &open.full, &open.unseen)
                    || open.lost && may_be_directory(names, top)
                {
                    Step::Carried(row)
                } else {
                    Step::Gone(row)
                }
            },
        )?;
        self.out.push_back(Step::Leave { complete });
        Ok(())
    }

    /// The walk is over.
    pub fn end(&mut self) -> Result<(), Error> {
        self.pass(|_| true, Step::Gone)?;
        self.out.push_back(Step::End);
        Ok(())
    }

    /// What the page says of a directory whose tar header need not be stored again.
    fn kept_header(
        &self,
        row: &Row,
        fresh: &DirectoryStat,
        listing: Listing,
        rules: Rules,
    ) -> Option<DirectoryStat> {
        let known = [row.staged_page(), row.compared(self.against)];
        known.into_iter().flatten().find_map(|known| {
            let old = known.page.header.as_ref()?;
            let mut fresh = fresh.clone();
            // The times of a directory that only leads to what was chosen tell of names that were not.
            if listing == Listing::Chosen {
                (fresh.mtime, fresh.ctime) = (old.mtime, old.ctime);
            }
            kept_directory(old, &fresh, rules)
        })
    }

    /// The head's directory stays, with all that is below it.
    fn carry(
        &mut self,
        directory: &Directory,
        full: &[u8],
        head: &Arc<Known>,
        row: Arc<Row>,
        deep: Option<Deep>,
    ) -> Result<(), Error> {
        let mut page = Page::clone(&head.page);
        if let Some(header) = &mut page.header {
            header.flags |= FLAG_CARRIED;
        }
        self.out.push_back(Step::CarriedPage(Box::new(page), row));
        let coming = deep.map(|deep| deep.coming).unwrap_or_default();
        self.out
            .extend(coming.into_iter().map(|row| Step::Carried(Arc::new(row))));
        self.pass(|row| is_below(&row.key, full), Step::Carried)?;
        self.carried = Some((directory.path.clone(), 0));
        Ok(())
    }

    /// A directory that could not even be entered.
    fn keep_subtree(&mut self, at: &[u8]) -> Result<(), Error> {
        self.end_files()?;
        let full = key::of_path(at);
        let fate = self.fate();
        self.pass(|row| row.key < full && !is_below(&row.key, &full), fate)?;
        self.pass(
            |row| row.key == full || is_below(&row.key, &full),
            Step::Carried,
        )
    }

    /// Files of the directory entered last that are listed, and of which no more is known, stay as the head has them.
    fn keep_files(&mut self, which: impl Fn(&[u8]) -> bool) -> Result<(), Error> {
        let Some(open) = self.stack.last() else {
            return Ok(());
        };
        let Some(names) = open.names.clone() else {
            return Ok(());
        };
        let last = open.last.clone();
        for item in names.iter() {
            let (name, kind) = item.map_err(|error| unreadable_names(&error))?;
            let name: &[u8] = &name;
            let passed = last.as_deref().is_some_and(|last| name <= last);
            if kind == Kind::Directory || passed || !which(name) {
                continue;
            }
            self.keep_file(name)?;
        }
        Ok(())
    }

    /// A name of the directory entered last stays as the head has it, if it is no directory there.
    fn keep_file(&mut self, name: &[u8]) -> Result<(), Error> {
        self.advance(name)?;
        self.visited(name);
        let head = self.stack.last().and_then(|open| open.latest[0].as_ref());
        let old = head.and_then(|row| find(&row.head.as_ref()?.page, name));
        if let Some(entry) = old.filter(|old| old.kind != Kind::Directory).cloned() {
            let kept = Kept { entry, link: None };
            self.out.push_back(Step::Kept(Box::new(kept)));
        }
        Ok(())
    }

    /// What comes before `name` of the files that could not be looked at stays; without a name, the rest of them.
    fn keep_unseen(&mut self, before: Option<&[u8]>) -> Result<(), Error> {
        while let Some(name) = self.stack.last().and_then(|open| {
            let mut files = open.unseen.iter().filter(|(_, k)| *k != Kind::Directory);
            let next = files.find(|(name, _)| open.last.as_ref() < Some(name))?;
            before
                .is_none_or(|before| *next.0 < *before)
                .then(|| next.0.clone())
        }) {
            self.keep_file(&name)?;
        }
        Ok(())
    }

    /// What becomes of rows of the directory entered last that the walk does not come to.
    fn fate(&self) -> impl Fn(Arc<Row>) -> Step + use<B> {
        let open = self.stack.last().filter(|open| !open.unseen.is_empty());
        let stays = open.map(|open| (open.full.clone(), open.unseen.clone()));
        move |row| match &stays {
            Some((full, unseen)) if leads_to(&row.key, full, unseen) => Step::Carried(row),
            _ => Step::Gone(row),
        }
    }

    /// All files of the directory entered last have passed: gives the rest of its rows.
    fn end_files(&mut self) -> Result<(), Error> {
        let Some(names) = self.stack.last().and_then(|open| open.names.clone()) else {
            return Ok(());
        };
        self.keep_unseen(None)?;
        while let Some(row) = self.next_chunk(None)? {
            self.give(Arc::new(row));
        }
        let mut gone = Vec::new();
        if let Some(open) = self.stack.last_mut() {
            open.names = None;
            open.latest = [None, None, None];
            if let Some(deep) = open.deep.take() {
                for child in deep.passed.iter().flat_map(|row| deep::children(row)) {
                    let name = path::split(&child).map_or(&[][..], |(_, name)| name);
                    let found = names.find(name).map_err(|error| unreadable_names(&error))?;
                    if found != Some(Kind::Directory) {
                        gone.push(deep::first_chunk(&child));
                    }
                }
            }
        }
        self.gone_deep(gone)
    }

    fn visited(&mut self, name: &[u8]) {
        if let Some(open) = self.stack.last_mut() {
            let last = open.last.get_or_insert_default();
            last.clear();
            last.extend_from_slice(name);
        }
    }

    /// What the base has under a name, best first.
    fn olds<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a Entry> + 'a {
        let latest = self.stack.last().map(|open| &open.latest);
        let staged = latest
            .and_then(|latest| latest[2].as_ref())
            .and_then(|row| row.staged_page());
        let compared = latest
            .and_then(|latest| latest[1].as_ref())
            .and_then(|row| row.compared(self.against));
        let known = [staged, compared].into_iter().flatten();
        known.filter_map(move |known| find(&known.page, name))
    }

    /// Gives the rows of the directory entered last whose pages begin no later than at `name`.
    fn advance(&mut self, name: &[u8]) -> Result<(), Error> {
        self.keep_unseen(Some(name))?;
        while let Some(row) = self.next_chunk(Some(name))? {
            self.give(Arc::new(row));
        }
        Ok(())
    }

    fn give(&mut self, row: Arc<Row>) {
        let against = self.against;
        if let Some(open) = self.stack.last_mut() {
            let has = [
                row.head.is_some(),
                row.compared(against).is_some(),
                row.staged_page().is_some(),
            ];
            for (latest, _) in open.latest.iter_mut().zip(has).filter(|(_, has)| *has) {
                *latest = Some(Arc::clone(&row));
            }
            if let Some(deep) = &mut open.deep {
                deep.passed.push(Arc::clone(&row));
            }
        }
        self.out.push_back(Step::Row(row));
    }

    /// The next row of the directory entered last, if its page begins no later than at `name`.
    fn next_chunk(&mut self, name: Option<&[u8]>) -> Result<Option<Row>, Error> {
        if self.ahead.is_none() {
            self.ahead = self.base.next()?;
        }
        let Some(open) = self.stack.last_mut() else {
            return Ok(None);
        };
        let due = |lower: &[u8]| name.is_none_or(|name| lower <= name);
        if let Some(deep) = &mut open.deep {
            return Ok(deep
                .coming
                .pop_front_if(|row| due(row.lower().as_deref().unwrap_or_default())));
        }
        let full = &open.full;
        Ok(self
            .ahead
            .take_if(|row| lower_in(&row.key, full).is_some_and(due)))
    }

    fn peek(&mut self) -> Result<Option<&Row>, Error> {
        if self.ahead.is_none() {
            self.ahead = self.base.next()?;
        }
        Ok(self.ahead.as_ref())
    }

    /// Tells the fate of all coming rows of which `which` is true, up to the first of which it is not.
    fn pass(
        &mut self,
        which: impl Fn(&Row) -> bool,
        fate: impl Fn(Arc<Row>) -> Step,
    ) -> Result<(), Error> {
        while self.peek()?.is_some_and(&which) {
            let Some(row) = self.ahead.take() else { break };
            let step = fate(Arc::new(row));
            let gone = match &step {
                Step::Gone(row) => deep::onward(row),
                _ => Vec::new(),
            };
            self.out.push_back(step);
            self.gone_deep(gone)?;
        }
        Ok(())
    }

    /// Shortened keys of what is gone, with all that they lead to.
    fn gone_deep(&mut self, mut keys: Vec<Vec<u8>>) -> Result<(), Error> {
        loop {
            keys.retain(|key| self.buried.insert(key.clone()));
            if keys.is_empty() {
                return Ok(());
            }
            for row in self.base.look_up(std::mem::take(&mut keys))? {
                keys.extend(deep::onward(&row));
                self.out.push_back(Step::Gone(Arc::new(row)));
            }
        }
    }

    /// All rows of a directory some of which may have shortened keys, in the order of its names.
    fn all_chunks(&mut self, full: &[u8], first: Option<Row>) -> Result<Vec<Row>, Error> {
        let mut rows: Vec<Row> = first.into_iter().collect();
        while self
            .peek()?
            .is_some_and(|row| lower_in(&row.key, full).is_some())
        {
            rows.extend(self.ahead.take());
        }
        deep::chunks(&mut self.base, full, rows)
    }
}

fn was_mounted(header: &DirectoryStat) -> bool {
    header.flags & FLAG_MOUNTED != 0
}

fn find<'a>(page: &'a Page, name: &[u8]) -> Option<&'a Entry> {
    let found = page
        .entries
        .binary_search_by(|entry| entry.name.as_slice().cmp(name));
    found.ok().and_then(|index| page.entries.get(index))
}

/// The first name of a later chunk of the directory, by a whole key.
fn lower_in<'a>(chunk: &'a [u8], full: &[u8]) -> Option<&'a [u8]> {
    chunk.strip_prefix(full)?.strip_prefix(&[0, 0])
}

/// Of a whole key of something in the directory, the name through which it leads.
fn child_of<'a>(chunk: &'a [u8], full: &[u8]) -> &'a [u8] {
    let rest = chunk.get(full.len()..).unwrap_or_default();
    let rest = rest.strip_prefix(&[0]).unwrap_or(rest);
    rest.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Whether a whole key of something in the directory leads through one of these directories.
fn leads_to(chunk: &[u8], full: &[u8], unseen: &[(Vec<u8>, Kind)]) -> bool {
    let mut directories = unseen.iter().filter(|(_, kind)| *kind == Kind::Directory);
    directories.any(|(name, _)| name == child_of(chunk, full))
}

/// What the head has under these names.
fn had(names: &[Vec<u8>], rows: &[&Row]) -> Vec<(Vec<u8>, Kind)> {
    let under = |name: &Vec<u8>| {
        let mut heads = rows.iter().filter_map(|row| row.head.as_ref());
        let entry = heads.find_map(|head| find(&head.page, name))?;
        Some((name.clone(), entry.kind))
    };
    names.iter().filter_map(under).collect()
}

/// The names, and more.
fn with(names: &Names, more: &[(Vec<u8>, Kind)]) -> Result<Arc<Names>, Error> {
    let all = names.iter().collect::<Result<Vec<_>, _>>();
    let all = all.map_err(|error| unreadable_names(&error))?;
    let all = all.iter().map(|(name, kind)| (&**name, *kind));
    let more = more.iter().map(|(name, kind)| (name.as_slice(), *kind));
    Ok(Arc::new(all.chain(more).collect()))
}

/// Whether a name is a directory's, as far as is known.
fn may_be_directory(names: &Names, name: &[u8]) -> bool {
    match names.find(name) {
        Ok(found) => found == Some(Kind::Directory),
        Err(_) => true,
    }
}

/// Whether a whole key is of something in the directory, its own later chunks included.
fn is_below(chunk: &[u8], full: &[u8]) -> bool {
    if full.is_empty() {
        return !chunk.is_empty();
    }
    chunk
        .strip_prefix(full)
        .is_some_and(|rest| rest.first() == Some(&0))
}
