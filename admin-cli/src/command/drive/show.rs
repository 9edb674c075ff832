//! `taf drive show`: a drive, and how data flow to it.

use taf_proto::v1::Drive;

use super::{drives, state};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::resource::{id, name};
use crate::{flow, human};

/// Show a drive: what is in it, what it does, and how data flow to it
///
/// While it writes: how full the memory and the spool in front of it are, what comes from the source, from which speed on
/// the drive streams, how often and how long it had to stop for want of data, and how often it went back by its own count.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf drive show 1013000A1B
  taf drive show 1013000A1B --json")]
pub struct Show {
    /// Its serial number
    drive: String,
}

impl Show {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let wanted = name("drives", &self.drive);
        let found = drives(&client).await?;
        let Some(drive) = found.into_iter().find(|drive| drive.name == wanted) else {
            return Err(Failure::new(
                "RESOURCE_NOT_FOUND",
                format!("there is no {wanted}"),
                "see what there is: taf drive list",
            ));
        };
        if out.json() {
            out.message("Drive", &drive)?;
        } else {
            show(&drive, out)?;
        }
        Ok(Exit::Done)
    }
}

fn show(drive: &Drive, out: &mut Output) -> Result<(), Failure> {
    let mut lines = vec![
        ("drive", id(&drive.name).to_owned()),
        ("vendor", drive.vendor.clone()),
        ("product", drive.product.clone()),
        ("firmware", drive.revision.clone()),
        ("agent", id(&drive.agent).to_owned()),
        ("library", id(&drive.library).to_owned()),
        ("state", state(drive).to_owned()),
        ("remark", drive.state_reason.clone()),
        ("cartridge", drive.barcode.clone()),
        ("job", id(&drive.job).to_owned()),
        ("phase", drive.phase.clone()),
    ];
    if let Some(flow) = &drive.flow {
        lines.extend(flow::lines(flow));
    }
    for (key, value) in lines {
        if !value.is_empty() {
            out.line(format!("{key:<12} {}", human::clean(&value)))?;
        }
    }
    Ok(())
}
