//! Members of an archive, one after another, put below a directory or listed. What is damaged costs itself only: the
//! next member behind it is found, and what was lost is named.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::mpsc;

use taf_format::entry::Kind;
use taf_format::tar::decode::{Content, Decoder, Member};
use taf_tree::unpack::{self, MemberData, Unpacker};
use taf_tree::write::{self, Warning, WarningKind};

use super::Error;
use super::ledger::Ledger;
use super::pieces::{self, Piece, Plan};
use super::selection::{Relation, Selection};
use super::shelf::{Archive, Shelf};
use super::stream::{Pieces, Stream};

/// Segments that are read ahead.
const AHEAD: usize = 4;
/// Warnings that are kept one by one; all are counted.
const WARNINGS_KEPT: usize = 1000;

/// Where members go.
pub enum Sink {
    /// Below a directory.
    Unpack(Box<Unpacker>),
    /// Nowhere: they are only shown.
    List,
}

/// A member that was reached.
#[derive(Debug)]
pub struct Seen<'a> {
    /// It.
    pub member: &'a Member,
    /// Files so far.
    pub files: u64,
    /// Apparent bytes so far.
    pub bytes: u64,
}

/// What came of an extraction.
#[derive(Debug, Default)]
pub struct Report {
    /// Files, further names of hard links included.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Links, pipes, devices.
    pub others: u64,
    /// Apparent bytes of files.
    pub bytes: u64,
    /// What is damaged on tape, and why.
    pub damaged: BTreeMap<Vec<u8>, String>,
    /// What could not be written, and why.
    pub failed: BTreeMap<Vec<u8>, String>,
    /// What the target could not hold, up to a thousand.
    pub warnings: Vec<Warning>,
    /// All warnings by kind.
    pub warning_count: u64,
    /// Warnings that need root to be avoided.
    pub for_root: u64,
    /// Losses in the tar stream.
    pub losses: Vec<(Range<u64>, String)>,
    /// Lost bytes that belong to nothing that has a name.
    pub unnamed_bytes: u64,
    /// Files whose hash was lost.
    pub unverified: usize,
    /// Paths that were asked for and are not in the archive.
    pub missing: Vec<Vec<u8>>,
}

/// An extraction under way.
pub struct Extraction<'a> {
    sink: Sink,
    selection: Selection,
    ledger: Rc<RefCell<Ledger>>,
    report: Report,
    /// Hard links that are wanted without the name that carries the bytes: that name, and who wants it.
    wanted_links: BTreeMap<Vec<u8>, Vec<Vec<u8>>>,
    see: &'a mut dyn FnMut(Seen<'_>) -> Result<(), crate::failure::Failure>,
    stopped: Option<crate::failure::Failure>,
}

impl<'a> Extraction<'a> {
    /// To `sink`, what is selected, showing every member to `see`.
    pub fn new(
        sink: Sink,
        selection: Selection,
        see: &'a mut dyn FnMut(Seen<'_>) -> Result<(), crate::failure::Failure>,
    ) -> Self {
        Self {
            sink,
            selection,
            ledger: Rc::default(),
            report: Report::default(),
            wanted_links: BTreeMap::new(),
            see,
            stopped: None,
        }
    }

    /// Does it. Also after a fault what was extracted gets what it waits for: files their time, directories their metadata.
    pub fn run(
        mut self,
        shelf: &mut Shelf,
        archive: &Archive,
    ) -> Result<Report, crate::failure::Failure> {
        let plan = Plan::new(shelf, archive);
        self.ledger = Rc::new(RefCell::new(Ledger::new(
            archive.ordinal,
            self.selection.clone(),
        )));
        let read = self
            .pass(shelf, &plan, Self::visit)
            .and_then(|()| self.carriers(shelf, &plan, archive));
        let finished = self.finish();
        read.and(finished)
    }

    /// Reads the archive once, and gives each member to `visit`.
    fn pass(
        &mut self,
        shelf: &mut Shelf,
        plan: &Plan,
        visit: fn(&mut Self, &Member, &mut Decoder<Stream>),
    ) -> Result<(), crate::failure::Failure> {
        let (sender, receiver) = mpsc::sync_channel::<Piece>(AHEAD);
        let media = shelf.media();
        let failure = std::thread::scope(|scope| {
            let reader = std::thread::Builder::new().name("tape".into());
            let started = reader.spawn_scoped(scope, move || {
                pieces::read(media, plan, &mut |piece| sender.send(piece).is_ok());
            });
            if let Err(error) = started {
                return Some(crate::failure::Failure::new(
                    "INTERNAL",
                    format!("a thread can't be started: {error}"),
                    "see the limits on processes (ulimit -u)",
                ));
            }
            let supply = Pieces::new(receiver, Rc::clone(&self.ledger));
            let failure = supply.failure();
            self.members(Stream::new(supply), visit);
            let failed = failure.borrow_mut().take();
            failed.map(Into::into)
        });
        match failure.or_else(|| self.stopped.take()) {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    fn members(&mut self, stream: Stream, visit: fn(&mut Self, &Member, &mut Decoder<Stream>)) {
        let mut decoder = Decoder::new(stream);
        loop {
            match decoder.next() {
                Ok(Some(member)) => {
                    visit(self, &member, &mut decoder);
                    if self.stopped.is_some() {
                        return;
                    }
                }
                Ok(None) if decoder.ended() => {
                    decoder.into_inner().drain();
                    return;
                }
                Ok(None) | Err(_) => {
                    let from = decoder.offset();
                    let mut stream = decoder.into_inner();
                    let Some(offset) = stream.resume() else {
                        return;
                    };
                    if offset > from {
                        let passed_over = "what comes before it is lost";
                        self.ledger.borrow_mut().lose(from..offset, passed_over);
                    }
                    decoder = Decoder::starting_at(stream, offset);
                }
            }
        }
    }

    fn visit(&mut self, member: &Member, decoder: &mut Decoder<Stream>) {
        let expected = self.ledger.borrow_mut().expected(member.header_offset);
        // The top is the user's own directory and keeps what it is.
        if member.path.is_empty() {
            return;
        }
        match self.selection.relation(&member.path) {
            Relation::Outside => return,
            Relation::Above => {
                if let Sink::Unpack(unpacker) = &mut self.sink
                    && member.meta.kind == Kind::Directory
                    && let Err(error) = unpacker
                        .target()
                        .missing_directory(&member.path, &member.meta)
                {
                    self.fail(&member.path, &error);
                }
                return;
            }
            Relation::Within => {}
        }
        if let Content::HardLink { target } = &member.content
            && !self.selection.holds(target)
            && matches!(self.sink, Sink::Unpack(_))
        {
            let wanting = self.wanted_links.entry(target.clone()).or_default();
            wanting.push(member.path.clone());
            return;
        }
        if self.put(&member.path, member, decoder, expected.as_deref()) {
            self.count(member);
        }
    }

    /// The names that carry the bytes of wanted hard links, under the names that are wanted.
    fn carriers(
        &mut self,
        shelf: &mut Shelf,
        plan: &Plan,
        archive: &Archive,
    ) -> Result<(), crate::failure::Failure> {
        if self.wanted_links.is_empty() {
            return Ok(());
        }
        // Losses were noted in the first pass; this one is for hashes.
        let known = self.ledger.replace(Ledger::new(
            archive.ordinal,
            Selection::new([b"/\0".to_vec()]),
        ));
        self.pass(shelf, plan, |this, member, decoder| {
            let expected = this.ledger.borrow_mut().expected(member.header_offset);
            let Some(names) = this.wanted_links.remove(&member.path) else {
                return;
            };
            let [first, further @ ..] = names.as_slice() else {
                return;
            };
            if this.put(first, member, decoder, expected.as_deref()) {
                this.count(member);
                for name in further {
                    this.link(name, first);
                }
            } else {
                for name in further {
                    this.ledger
                        .borrow_mut()
                        .damage(name, "the name that carries its bytes is damaged");
                }
            }
        })?;
        let second = self.ledger.replace(known);
        let mut ledger = self.ledger.borrow_mut();
        for (path, reason) in second.damaged() {
            ledger.damage(path, reason.clone());
        }
        for name in std::mem::take(&mut self.wanted_links)
            .into_values()
            .flatten()
        {
            ledger.damage(&name, "the name that carries its bytes is lost");
        }
        Ok(())
    }

    fn link(&mut self, name: &[u8], existing: &[u8]) {
        if let Sink::Unpack(unpacker) = &mut self.sink {
            match unpacker.target().hard_link(name, existing) {
                Ok(()) => self.report.files += 1,
                Err(error) => self.fail(name, &error),
            }
        }
    }

    /// Puts a member in its place; false if it is not there.
    fn put(
        &mut self,
        path: &[u8],
        member: &Member,
        decoder: &mut Decoder<Stream>,
        expected: Option<&[u8]>,
    ) -> bool {
        let seen = Seen {
            member,
            files: self.report.files,
            bytes: self.report.bytes,
        };
        if let Err(failure) = (self.see)(seen) {
            self.stopped = Some(failure);
            return false;
        }
        let Sink::Unpack(unpacker) = &mut self.sink else {
            return true;
        };
        let outcome = unpacker.member(path, member, &mut MemberData(decoder), expected);
        match outcome {
            Ok(outcome) => {
                for warning in outcome.warnings {
                    self.warn(warning);
                }
                if let (None, Some(found)) = (expected, outcome.digest) {
                    self.ledger
                        .borrow_mut()
                        .verify(member.header_offset, path, found);
                }
                true
            }
            Err(unpack::Error::Write(error @ write::Error::WriteOut { .. })) => {
                self.stopped = Some(Error::from(error).into());
                false
            }
            Err(unpack::Error::Write(error)) => {
                let carrier = match &member.content {
                    Content::HardLink { target } => Some(target),
                    _ => None,
                };
                let lost = carrier
                    .is_some_and(|target| self.ledger.borrow().damaged().contains_key(target));
                if lost {
                    self.ledger
                        .borrow_mut()
                        .damage(path, "the name that carries its bytes is damaged");
                } else {
                    self.fail(path, &error);
                }
                false
            }
            Err(error @ (unpack::Error::Read(_) | unpack::Error::Content)) => {
                let reason = match error {
                    unpack::Error::Content => error.to_string(),
                    _ => "its bytes are lost".to_owned(),
                };
                self.ledger.borrow_mut().damage(path, reason);
                false
            }
        }
    }

    fn count(&mut self, member: &Member) {
        match member.meta.kind {
            Kind::File => {
                self.report.files += 1;
                if !matches!(member.content, Content::HardLink { .. }) {
                    self.report.bytes += member.meta.size;
                }
            }
            Kind::Directory => self.report.directories += 1,
            _ => self.report.others += 1,
        }
    }

    fn fail(&mut self, path: &[u8], error: &write::Error) {
        self.report.failed.insert(path.to_vec(), error.to_string());
    }

    fn warn(&mut self, warning: Warning) {
        self.report.warning_count += 1;
        let for_root = matches!(
            warning.kind,
            WarningKind::OwnerNotPermitted
                | WarningKind::ModeNotPermitted
                | WarningKind::XattrNotPermitted
        );
        self.report.for_root += u64::from(for_root);
        if self.report.warnings.len() < WARNINGS_KEPT {
            self.report.warnings.push(warning);
        }
    }

    fn finish(mut self) -> Result<Report, crate::failure::Failure> {
        let mut told = Vec::new();
        if let Sink::Unpack(unpacker) = &mut self.sink {
            unpacker
                .finish(|warning| told.push(warning))
                .map_err(Error::from)?;
            // Some file systems say only now that they are full.
            unpacker.target().sync().map_err(Error::from)?;
        }
        for warning in told {
            match warning {
                Ok(warning) => self.warn(warning),
                Err(error) => {
                    self.report.failed.insert(Vec::new(), error.to_string());
                }
            }
        }
        let ledger = self.ledger.borrow();
        Ok(Report {
            damaged: ledger.damaged().clone(),
            losses: ledger.losses().to_vec(),
            unnamed_bytes: ledger.unnamed(),
            unverified: ledger.unverified(),
            missing: self.selection.missing(),
            ..self.report
        })
    }
}
