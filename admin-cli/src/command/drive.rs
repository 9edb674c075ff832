//! `taf drive`: tape drives as their workers report them, and those of this host.

mod health;
mod operate;
mod scan;
mod show;

use taf_proto::v1::{Cleaning, Drive as Device, DriveState, ListDrivesRequest};

use crate::client::{Client, all, read};
use crate::command;
use crate::failure::{Exit, Failure};
use crate::flow;
use crate::output::{Output, Rows};
use crate::resource::id;

/// Tape drives
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf drive list
  taf drive load DRIVE1 TAF001L8 --dry-run
  taf drive health DRIVE1
  taf drive down DRIVE1 --because \"new firmware\"
  taf drive status DRIVE1
  taf drive scan                                         (no server needed)")]
pub struct Drive {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    List(List),
    Status(operate::Status),
    Load(operate::Load),
    Unload(operate::Unload),
    Rewind(operate::Rewind),
    Clean(operate::Clean),
    Health(health::Show),
    Down(health::Down),
    Up(health::Up),
    Scan(scan::Scan),
}

/// List drives and what is in them
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  taf drive list")]
pub struct List {}

impl Drive {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        match self.verb {
            Some(Verb::Scan(scan)) => return scan.run(out),
            Some(Verb::Status(status)) => return status.run(out).await,
            Some(Verb::Load(load)) => return load.run(out).await,
            Some(Verb::Unload(unload)) => return unload.run(out).await,
            Some(Verb::Rewind(rewind)) => return rewind.run(out).await,
            Some(Verb::Clean(clean)) => return clean.run(out).await,
            Some(Verb::Health(show)) => return show.run(out).await,
            Some(Verb::Down(down)) => return down.run(out).await,
            Some(Verb::Up(up)) => return up.run(out).await,
            Some(Verb::List(_)) | None => {}
        }
        let client = Client::signed_in().await?;
        let drives = drives(&client).await?;
        out.list("drives", "Drive", &drives, rows)?;
        Ok(Exit::Done)
    }
}

/// All of them.
async fn drives(client: &Client) -> Result<Vec<Device>, Failure> {
    all(async |page_token| {
        let request = ListDrivesRequest {
            page_size: 1000,
            page_token,
        };
        let page = read(|| {
            let (mut devices, request) = (client.devices(), request.clone());
            async move { devices.list_drives(request).await }
        })
        .await?;
        Ok((page.drives, page.next_page_token))
    })
    .await
}

/// Its state in a word.
fn state(drive: &Device) -> &'static str {
    match drive.state() {
        DriveState::Unspecified | DriveState::Unknown => "unknown",
        DriveState::Empty => "empty",
        DriveState::Loaded => "loaded",
        DriveState::Busy => "busy",
        DriveState::Down => "down",
        DriveState::Hung => "hung",
    }
}

/// What it is at: while it works, what it does.
fn at(drive: &Device) -> String {
    if drive.state() != DriveState::Busy || drive.phase.is_empty() {
        return state(drive).to_owned();
    }
    let mut parts = vec![drive.phase.clone()];
    if !drive.sources.is_empty() {
        parts.push(format!("{} sources", drive.sources.len()));
    }
    parts.extend(drive.flow.iter().flat_map(flow::short));
    parts.join(", ")
}

fn rows(drives: &[Device]) -> Rows {
    let mut rows = Rows::new(&[
        "DRIVE",
        "MODEL",
        "STATE",
        "HEALTH",
        "CARTRIDGE",
        "JOB",
        "LIBRARY",
        "AGENT",
        "REMARK",
    ]);
    for drive in drives {
        rows.push([
            id(&drive.name).to_owned(),
            format!("{} {} {}", drive.vendor, drive.product, drive.revision),
            at(drive),
            command::health::short(drive.health.as_ref()),
            drive.barcode.clone(),
            id(&drive.job).to_owned(),
            id(&drive.library).to_owned(),
            id(&drive.agent).to_owned(),
            remark(drive),
        ]);
    }
    rows
}

/// The most urgent thing.
fn remark(drive: &Device) -> String {
    let mut cleaning = match drive.cleaning() {
        Cleaning::Unspecified | Cleaning::NotWanted => "",
        Cleaning::Requested => "asks to be cleaned",
        Cleaning::Required => "must be cleaned",
    }
    .to_owned();
    if !drive.cleaning_waits_for.is_empty() {
        cleaning = format!("{cleaning}: {}", drive.cleaning_waits_for);
    }
    [drive.down_reason.as_str(), &drive.state_reason, &cleaning]
        .into_iter()
        .find(|text| !text.is_empty())
        .unwrap_or_default()
        .to_owned()
}
