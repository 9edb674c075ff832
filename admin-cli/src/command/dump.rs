//! `taf dump`: what a version holds, as bytes: one file as it is, everything else as a tar archive.
//!
//! They come through the controller, piece by piece. Whether they are whole is known at their end only, so nothing but the summary
//! that ends them, and a job that ended well, is success.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use taf_proto::v1::dump_version_response::Message;
use taf_proto::v1::{DumpBegun, DumpFormat, DumpVersionRequest, DumpVersionResponse};
use tonic::{Status, Streaming};

use super::chosen::Chosen;
use super::{missing, recall};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::follow::{alongside, conclude, until_ended};
use crate::output::{Output, say};
use crate::resource::{id, optional_name, version};
use crate::sink::{Sink, Taken};

/// What comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum FormatWord {
    /// The bytes of a file if one PATH is named that is one, else a tar archive
    Auto,
    /// A tar archive, whatever it is
    Tar,
    /// The bytes of one file
    File,
}

impl From<FormatWord> for DumpFormat {
    fn from(word: FormatWord) -> Self {
        match word {
            FormatWord::Auto => Self::Unspecified,
            FormatWord::Tar => Self::Tar,
            FormatWord::File => Self::File,
        }
    }
}

/// Write a file to standard output, or a tree as a tar archive
///
/// Paths in the archive have no leading slash, and directories on the way to what is named are not in it. It is read from tape by the
/// source agent that the files came from (or --agent), and comes through the controller as fast as it is taken; nothing is written to
/// any host. A dump that breaks off ends with status 1 and is not gone on with; Ctrl-C cancels its job. What is damaged on tape is
/// named, and the status is 3: a small file is left out, a large one unpacks to a link to DAMAGED-ON-TAPE. One file that can't be read
/// whole ends with status 1. Directories that come before something that belongs into them are told of once more at the end, so that
/// they have their times when all is unpacked.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf dump daily /etc/fstab
  taf dump daily@3 /srv/files/report.odt > report.odt
  taf dump daily /srv/files --at \"3 days ago\" | tar x -C /srv/restored
  taf dump daily /srv/files | ssh other tar xp --numeric-owner --xattrs --xattrs-include='*' -C /srv
  taf dump daily '/srv/**/*.odt' --output letters.tar
  taf dump daily /srv/files --dry-run")]
pub struct Dump {
    #[command(flatten)]
    chosen: Chosen,
    /// Source agent that reads it from tape; the one where it came from if not given
    #[arg(long)]
    agent: Option<String>,
    /// What comes
    #[arg(long, value_enum, default_value = "auto")]
    format: FormatWord,
    /// Write to a file of this host, which gets its name when all has come, and which only its owner may read
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the file of --output if it exists; without it, write to a terminal what is no text
    #[arg(long)]
    force: bool,
    /// Only say what would be done: the volumes in the order in which they are read, where each of them is, how much is read of it and
    /// about how long that takes
    #[arg(long)]
    dry_run: bool,
}

impl Dump {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let to_terminal = self.output.is_none() && !self.dry_run && std::io::stdout().is_terminal();
        let text_only = to_terminal && !self.force;
        if out.json() && self.output.is_none() && !self.dry_run {
            return Err(Failure::usage(
                "standard output takes the bytes, so there is no room for JSON",
                "name a file for the bytes with --output, or leave --json out",
            ));
        }
        if text_only && self.format == FormatWord::Tar {
            return Err(no_text());
        }
        let (paths, patterns) = self.chosen.paths()?;
        let text = self.chosen.version()?;
        let sink = match &self.output {
            _ if self.dry_run => None,
            Some(file) => Some(Sink::file(file, self.force)?),
            None => Some(Sink::standard_output(text_only)?),
        };
        let client = Client::signed_in().await?;
        let request = DumpVersionRequest {
            version: version(&client, &text).await?,
            paths,
            patterns,
            agent: optional_name("agents", self.agent.as_deref()),
            format: match self.format {
                FormatWord::Auto if text_only => DumpFormat::File,
                format => format.into(),
            }
            .into(),
            dry_run: self.dry_run,
        };
        let mut stream = match client.dumps().dump_version(request).await {
            Ok(stream) => stream.into_inner(),
            Err(status) => {
                let failure = Failure::from(status);
                let asked = self.format == FormatWord::File;
                return Err(if text_only && !asked && failure.reason == "NOT_ONE_FILE" {
                    no_text()
                } else {
                    failure
                });
            }
        };
        let Some(Message::Begun(begun)) = next(&mut stream).await? else {
            return Err(missing("plan"));
        };
        let Some(sink) = sink else {
            return show(&begun, out);
        };
        let job = begun.plan.unwrap_or_default().job;
        let work = async {
            let taken = alongside(&client, &job, take(stream, sink)).await?;
            let ended = until_ended(&client, &job).await?;
            Ok::<_, Failure>((taken, ended))
        };
        let stopped = async {
            // Where no handler can be had, Ctrl-C ends the program, and with it the dump.
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let (taken, ended) = tokio::select! {
            done = work => done?,
            () = stopped => {
                let number = id(&job);
                return Err(Failure::new(
                    "DUMP_STOPPED",
                    format!("the dump was stopped, and job {number} is cancelled: what came is not whole"),
                    format!("see how it ended: taf job show {number}"),
                ));
            }
        };
        let exit = conclude(&client, &ended, out).await?;
        if let Some(file) = taken.keep()? {
            say(format!("wrote {}", file.display()));
        }
        Ok(exit)
    }
}

fn show(begun: &DumpBegun, out: &mut Output) -> Result<Exit, Failure> {
    let plan = begun.plan.as_ref().ok_or_else(|| missing("plan"))?;
    if out.json() {
        out.message("DumpBegun", begun)?;
        return Ok(Exit::Done);
    }
    recall::show(plan, "read", out)?;
    out.line(match begun.format() {
        DumpFormat::File => "it comes as the bytes of the file",
        _ => "it comes as a tar archive",
    })?;
    Ok(Exit::Done)
}

/// Everything, up to the summary.
async fn take(
    mut stream: Streaming<DumpVersionResponse>,
    mut sink: Sink,
) -> Result<Taken, Failure> {
    let mut count = 0;
    loop {
        match next(&mut stream).await? {
            Some(Message::Data(data)) => {
                count += data.len() as u64;
                sink.write(data).await?;
            }
            Some(Message::Summary(summary)) if summary.data_byte_count == count => {
                return sink.finish().await;
            }
            Some(Message::Summary(summary)) => {
                let of = summary.data_byte_count;
                return Err(broken(&format!("{count} bytes came of {of}")));
            }
            Some(Message::Begun(_)) => {}
            None => return Err(broken("the controller ended it")),
        }
    }
}

async fn next(stream: &mut Streaming<DumpVersionResponse>) -> Result<Option<Message>, Failure> {
    loop {
        match stream.message().await {
            Ok(Some(DumpVersionResponse { message: None })) => {}
            Ok(Some(response)) => return Ok(response.message),
            Ok(None) => return Ok(None),
            Err(status) => return Err(failed(status)),
        }
    }
}

fn failed(status: Status) -> Failure {
    if taf_peer::faults::reason_of(&status).is_some() {
        return status.into();
    }
    let why = Failure::from(status).message;
    broken(&format!("the controller is gone: {why}"))
}

fn broken(why: &str) -> Failure {
    Failure::new(
        "DUMP_BROKEN",
        format!("the dump broke off, and what came is not whole: {why}"),
        "dump it again; a dump is never gone on with",
    )
}

fn no_text() -> Failure {
    Failure::usage(
        "standard output is a terminal, and a tar archive is no text",
        "send it into a pipe or a file, or name a file with --output",
    )
}
