//! `taf drive`: tape drives as their workers report them, and those of this host.

mod scan;

use taf_proto::v1::{Drive as Device, DriveState, ListDrivesRequest};

use crate::client::{Client, all, read};
use crate::failure::{Exit, Failure};
use crate::output::{Output, Rows};
use crate::resource::id;

/// Tape drives
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf drive list
  taf drive scan                                         (no server needed)")]
pub struct Drive {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    List(List),
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
        if let Some(Verb::Scan(scan)) = self.verb {
            return scan.run(out);
        }
        let client = Client::signed_in().await?;
        let drives = all(async |page_token| {
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
        .await?;
        out.list("drives", "Drive", &drives, rows)?;
        Ok(Exit::Done)
    }
}

fn rows(drives: &[Device]) -> Rows {
    let mut rows = Rows::new(&[
        "DRIVE",
        "MODEL",
        "STATE",
        "CARTRIDGE",
        "JOB",
        "LIBRARY",
        "AGENT",
        "REMARK",
    ]);
    for drive in drives {
        let state = match drive.state() {
            DriveState::Unspecified | DriveState::Unknown => "unknown",
            DriveState::Empty => "empty",
            DriveState::Loaded => "loaded",
            DriveState::Busy => "busy",
        };
        rows.push([
            id(&drive.name).to_owned(),
            format!("{} {} {}", drive.vendor, drive.product, drive.revision),
            state.to_owned(),
            drive.barcode.clone(),
            id(&drive.job).to_owned(),
            id(&drive.library).to_owned(),
            id(&drive.agent).to_owned(),
            drive.state_reason.clone(),
        ]);
    }
    rows
}
