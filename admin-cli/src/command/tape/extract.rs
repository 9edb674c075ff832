//! `taf tape extract`: files back from a tape alone.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use taf_format::entry::Kind;
use taf_format::tar::decode::Content;
use taf_proto::path::display;
use taf_tree::Unpacker;
use taf_tree::write::{Collision, Target};
use uuid::Uuid;

use crate::failure::{Exit, Failure};
use crate::human;
use crate::output::{Output, say};
use crate::resource::absolutes;
use crate::tape::{self, Archive, Extraction, Report, Seen, Selection, Shelf, Sink};

/// Lines of each kind of trouble that are told.
const TOLD: usize = 20;

/// What to do where something already exists.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum CollisionWord {
    /// Leave what exists, and say so
    Never,
    /// Replace files
    Always,
}

/// Restore files from a tape alone, with no server and no catalog
///
/// Reads the newest complete archive of the tape, or the one that is named. An archive that goes on with other cartridges
/// needs them too (--next), in any order. A cartridge that was reclaimed may be named as well: what is damaged of the copies
/// is read from there. Every entry keeps its full path below DIR.
/// Every file is checked against the hash on the tape; what is damaged is named, and all else is restored (exit status
/// 3). DIR itself keeps its own mode and owner.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf tape extract library/cartridges/TAF001L8.tape --to /srv/restored
  taf tape extract TAF001L8.tape /srv/files/report.odt --to /srv/restored
  taf tape extract TAF001L8.tape --list
  taf tape extract TAF001L8.tape --next TAF002L8.tape --next TAF003L8.tape --to /srv/restored
  taf tape extract unix:library/sockets/drive0.sock --archive 6ba7b810-9dad-11d1-80b4-00c04fd430c8 --to /srv/restored")]
pub struct Extract {
    /// A cartridge's file of the emulator, or a drive's device name as taf drive scan shows it (serial:NUMBER, /dev/sgN,
    /// iscsi://…, unix:PATH)
    #[arg(value_name = "CARTRIDGE|DEVICE")]
    tape: OsString,
    /// A further cartridge of the archive; may be given several times
    #[arg(long, value_name = "CARTRIDGE|DEVICE")]
    next: Vec<OsString>,
    /// Absolute paths to restore, directories with all below them; everything if none
    #[arg(value_name = "PATH")]
    paths: Vec<OsString>,
    /// Directory to write below; it is made if it is missing
    #[arg(long, value_name = "DIR", required_unless_present = "list")]
    to: Option<PathBuf>,
    /// Which archive: its uuid as taf tape files shows it, or latest
    #[arg(long, value_name = "UUID", default_value = "latest", value_parser = which)]
    archive: Which,
    /// What to do where something already exists
    #[arg(long, value_enum, default_value = "never")]
    collision: CollisionWord,
    /// Only list what the archive holds
    #[arg(long, conflicts_with = "to")]
    list: bool,
}

/// Which archive.
#[derive(Debug, Clone, Copy)]
enum Which {
    Latest,
    This(Uuid),
}

fn which(text: &str) -> Result<Which, String> {
    if text == "latest" {
        return Ok(Which::Latest);
    }
    text.parse()
        .map(Which::This)
        .map_err(|_| "it is neither \"latest\" nor a uuid".to_owned())
}

impl Extract {
    /// Runs it.
    pub fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let paths = absolutes(&self.paths)?;
        let selection = Selection::new(paths.into_iter().map(|path| path.raw.to_vec()));
        let names = [std::slice::from_ref(&self.tape), &self.next].concat();
        let mut shelf = Shelf::open(&names)?;
        for (name, survey) in shelf.surveys() {
            if let Err(reason) = &survey.label {
                say(format!(
                    "the label of {name} can't be read ({reason}); going on without it"
                ));
            }
        }
        let archive = self.choose(&mut shelf)?;
        say(introduction(&shelf, &archive));
        let sink = self.sink()?;
        if self.list && out.json() {
            out.begin("entries")?;
        }
        let began = Instant::now();
        let shown = Shown::new(self.list);
        let list = self.list;
        let mut see = |seen: Seen<'_>| {
            if list {
                return show(&seen, out);
            }
            shown.seen(&seen);
            Ok(())
        };
        let report = Extraction::new(sink, selection, &mut see).run(&mut shelf, &archive);
        shown.clear();
        let report = report?;
        if list && out.json() {
            out.end()?;
        }
        out.flush()?;
        self.conclude(&report, &archive, began.elapsed(), out)
    }

    fn choose(&self, shelf: &mut Shelf) -> Result<Archive, Failure> {
        let mut archives = shelf.archives();
        let device = shelf.names();
        if archives.is_empty() {
            return Err(tape::Error::NoArchive(device).into());
        }
        if let Which::This(uuid) = self.archive {
            let found = archives.into_iter().find(|archive| archive.uuid == uuid);
            return found.ok_or_else(|| {
                tape::Error::ArchiveUnknown {
                    device,
                    archive: uuid,
                }
                .into()
            });
        }
        let count = archives.len();
        while let Some(archive) = archives.pop() {
            if shelf.complete(&archive)? {
                return Ok(archive);
            }
            let lacks = shelf
                .missing(&archive)
                .unwrap_or_else(|| "its end is not here".to_owned());
            say(format!(
                "the archive {} is not complete: {lacks}; looking for an earlier one",
                archive.uuid
            ));
        }
        Err(tape::Error::NoCompleteArchive { device, count }.into())
    }

    fn sink(&self) -> Result<Sink, Failure> {
        let Some(to) = &self.to else {
            return Ok(Sink::List);
        };
        let made = std::fs::create_dir_all(to).map_err(|error| {
            Failure::new(
                "TARGET_UNUSABLE",
                format!("{} can't be made: {error}", to.display()),
                "name a directory that you can write",
            )
        });
        made?;
        let collision = match self.collision {
            CollisionWord::Never => Collision::Never,
            CollisionWord::Always => Collision::Always,
        };
        let target = Target::open(to, collision).map_err(tape::Error::from)?;
        Ok(Sink::Unpack(Box::new(Unpacker::new(target))))
    }

    fn conclude(
        &self,
        report: &Report,
        archive: &Archive,
        took: Duration,
        out: &mut Output,
    ) -> Result<Exit, Failure> {
        if out.json() && !self.list {
            out.document(&document(report, archive))?;
        }
        tell(report);
        let speed = report.bytes as f64 / took.as_secs_f64().max(0.001);
        say(format!(
            "{}: {}, {}, {} others, {}, {} damaged, {} not written, in {} ({}/s)",
            if self.list { "listed" } else { "restored" },
            human::counted(report.files, "file", "files"),
            human::counted(report.directories, "directory", "directories"),
            human::count(report.others),
            human::size(report.bytes),
            human::count(report.damaged.len() as u64),
            human::count(report.failed.len() as u64),
            human::duration(took),
            human::size(speed as u64),
        ));
        // What only root can keep is no fault of the tape's, and whoever is not root knows.
        let root = nix::unistd::geteuid().is_root();
        let warned = if root {
            report.warning_count
        } else {
            report.warning_count - report.for_root
        };
        let missing: Vec<_> = report
            .missing
            .iter()
            .filter(|path| !report.damaged.contains_key(&path[1..]))
            .map(|path| display(path))
            .collect();
        if !missing.is_empty() {
            return Err(Failure::new(
                "PATH_NOT_FOUND",
                format!("the archive does not hold {}", missing.join(", ")),
                "see what it holds: taf tape extract CARTRIDGE --list",
            ));
        }
        let whole = report.damaged.is_empty()
            && report.failed.is_empty()
            && report.losses.is_empty()
            && report.unverified == 0
            && warned == 0;
        Ok(if whole { Exit::Done } else { Exit::Issues })
    }
}

fn introduction(shelf: &Shelf, archive: &Archive) -> String {
    let block0 = archive
        .parts
        .iter()
        .find_map(|&place| shelf.part(place)?.block0.as_ref());
    let what = block0.map_or_else(String::new, |block0| {
        format!(
            ": version {} of plan {}, source {}",
            block0.version, block0.plan, block0.source
        )
    });
    let parts = human::counted(archive.parts.len() as u64, "part", "parts");
    format!("archive {}{what}, {parts}", archive.uuid)
}

/// Says what is not as it should be, the first of each kind.
fn tell(report: &Report) {
    for (range, reason) in &report.losses {
        let end = if range.end == u64::MAX {
            "its end".to_owned()
        } else {
            range.end.to_string()
        };
        say(format!(
            "bytes {} to {end} of the archive are lost: {reason}",
            range.start
        ));
    }
    tell_paths("damaged", report.damaged.iter());
    if report.unnamed_bytes > 0 && !report.losses.is_empty() {
        say("some of what is lost has no name: the records that would name it are lost too");
    }
    tell_paths("not written", report.failed.iter());
    for warning in report.warnings.iter().take(TOLD) {
        say(format!(
            "warning: {}: {}",
            display(&warning.path),
            warning.reason
        ));
    }
    if report.warning_count > TOLD as u64 {
        say(format!(
            "… {} in all",
            human::counted(report.warning_count, "warning", "warnings")
        ));
    }
    if report.unverified > 0 {
        let files = human::counted(report.unverified as u64, "file", "files");
        say(format!(
            "{files} could not be checked: the records with the hashes are lost"
        ));
    }
}

fn tell_paths<'a>(what: &str, paths: impl ExactSizeIterator<Item = (&'a Vec<u8>, &'a String)>) {
    let count = paths.len();
    for (path, reason) in paths.take(TOLD) {
        say(format!("{what}: /{}: {reason}", display(path)));
    }
    if count > TOLD {
        say(format!("… {count} {what} in all; --json lists them"));
    }
}

fn document(report: &Report, archive: &Archive) -> serde_json::Value {
    let paths = |paths: &std::collections::BTreeMap<Vec<u8>, String>| -> Vec<_> {
        paths
            .iter()
            .map(|(path, reason)| json!({ "path": format!("/{}", display(path)), "message": reason }))
            .collect()
    };
    let warnings: Vec<_> = report
        .warnings
        .iter()
        .map(|warning| json!({ "path": format!("/{}", display(&warning.path)), "message": warning.reason }))
        .collect();
    let losses: Vec<_> = report
        .losses
        .iter()
        .map(|(range, reason)| json!({ "tar_offset": range.start, "tar_end": range.end, "message": reason }))
        .collect();
    json!({
        "archive_uuid": archive.uuid.to_string(),
        "file_count": report.files,
        "directory_count": report.directories,
        "other_count": report.others,
        "byte_count": report.bytes,
        "damaged": paths(&report.damaged),
        "not_written": paths(&report.failed),
        "warnings": warnings,
        "warning_count": report.warning_count,
        "losses": losses,
        "unnamed_byte_count": report.unnamed_bytes,
        "unverified_count": report.unverified,
    })
}

/// One member of a listing.
fn show(seen: &Seen<'_>, out: &mut Output) -> Result<(), Failure> {
    let member = seen.member;
    let (letter, kind) = match member.meta.kind {
        Kind::File => ('-', "file"),
        Kind::Directory => ('d', "directory"),
        Kind::Symlink => ('l', "symlink"),
        Kind::Fifo => ('p', "fifo"),
        Kind::CharDevice => ('c', "char_device"),
        Kind::BlockDevice => ('b', "block_device"),
    };
    let path = format!("/{}", display(&member.path));
    let link = match &member.content {
        Content::HardLink { target } => Some(("hard_link_to", target.as_slice())),
        _ if member.meta.kind == Kind::Symlink => {
            Some(("link_target", member.meta.link_target.as_slice()))
        }
        _ => None,
    };
    let time = prost_types::Timestamp {
        seconds: member.meta.mtime.seconds,
        nanos: member.meta.mtime.nanos as i32,
    };
    if out.json() {
        let mut document = json!({
            "path": path, "kind": kind, "size": member.meta.size, "mode": member.meta.mode,
            "uid": member.meta.uid, "gid": member.meta.gid, "modify_time": time.to_string(),
        });
        if let Some((key, target)) = link {
            document[key] = display(target).into();
        }
        return out.item_document(&document);
    }
    let link = match link {
        Some(("link_target", target)) => format!(" -> {}", display(target)),
        Some((_, target)) => format!(" = /{}", display(target)),
        None => String::new(),
    };
    out.line(format!(
        "{}  {:>11}  {:>9}  {:<19}  {path}{link}",
        human::mode(letter, member.meta.mode),
        format!("{}:{}", member.meta.uid, member.meta.gid),
        human::size(member.meta.size),
        human::time(Some(&time)),
    ))
}

/// One line that changes, on a terminal; nothing elsewhere.
struct Shown(Option<ProgressBar>);

impl Shown {
    fn new(list: bool) -> Self {
        let terminal = std::io::stderr().is_terminal() && !list;
        Self(terminal.then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix}  {wide_msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        }))
    }

    fn seen(&self, seen: &Seen<'_>) {
        if let Some(bar) = &self.0 {
            let files = human::counted(seen.files, "file", "files");
            bar.set_prefix(format!("{files}  {}", human::size(seen.bytes)));
            bar.set_message(format!("/{}", display(&seen.member.path)));
        }
    }

    fn clear(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
