//! `taf tape label-show`: whose a tape is.

use std::ffi::OsString;

use serde_json::json;

use crate::failure::{Exit, Failure};
use crate::human;
use crate::output::Output;
use crate::tape::{Medium, read_label};

/// Show the label of a cartridge or of the tape in a drive
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  taf tape label-show library/cartridges/TAF001L8.tape")]
pub struct Show {
    /// A cartridge's file of the emulator, or a drive's device name as taf drive scan shows it (serial:NUMBER, /dev/sgN,
    /// iscsi://…, unix:PATH)
    #[arg(value_name = "CARTRIDGE|DEVICE")]
    tape: OsString,
}

impl Show {
    /// Runs it.
    pub fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let mut medium = Medium::open(&self.tape)?;
        let label = read_label(&mut medium)?.map_err(|reason| {
            Failure::new(
                "LABEL_DAMAGED",
                format!("the label of {} can't be read: {reason}", medium.name()),
                "treat it as holding data: taf tape files shows what is on it",
            )
        })?;
        let labelled = prost_types::Timestamp {
            seconds: label.labelled_at_unix_nanos.div_euclid(1_000_000_000),
            nanos: label.labelled_at_unix_nanos.rem_euclid(1_000_000_000) as i32,
        };
        if out.json() {
            out.document(&json!({
                "barcode": label.barcode,
                "pool": label.pool,
                "installation_uuid": label.installation_uuid.to_string(),
                "volume_uuid": label.volume_uuid.to_string(),
                "recording_uuid": label.recording_uuid.to_string(),
                "block_size": label.block_size,
                "label_time": labelled.to_string(),
                "writer": label.writer,
            }))?;
            return Ok(Exit::Done);
        }
        for (key, value) in [
            ("barcode", label.barcode),
            ("pool", label.pool),
            ("installation", label.installation_uuid.to_string()),
            ("volume", label.volume_uuid.to_string()),
            ("recording", label.recording_uuid.to_string()),
            ("block size", human::size(label.block_size.into())),
            ("labelled", human::time(Some(&labelled))),
            ("written by", label.writer),
        ] {
            out.line(format!("{key:<13} {}", human::clean(&value)))?;
        }
        Ok(Exit::Done)
    }
}
