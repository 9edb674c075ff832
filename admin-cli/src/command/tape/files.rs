//! `taf tape files`: what a tape holds, file by file.

use std::ffi::OsString;

use serde_json::{Value, json};

use crate::failure::{Exit, Failure};
use crate::human;
use crate::output::{Output, Rows, say};
use crate::tape::{Content, Medium, Survey, survey};

/// List the tape files of a cartridge or of the tape in a drive
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf tape files library/cartridges/TAF001L8.tape
  taf tape files unix:library/sockets/drive0.sock --json")]
pub struct Files {
    /// A cartridge's file of the emulator, or a drive's device name
    #[arg(value_name = "CARTRIDGE|DEVICE")]
    tape: OsString,
}

impl Files {
    /// Runs it.
    pub fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let mut medium = Medium::open(&self.tape)?;
        let survey = survey(&mut medium)?;
        if out.json() {
            out.begin("files")?;
            for document in documents(&survey) {
                out.item_document(&document)?;
            }
            out.end()?;
        } else {
            out.table(&rows(&survey))?;
        }
        if let Err(reason) = &survey.label {
            say(format!("the label can't be read: {reason}"));
        }
        Ok(Exit::Done)
    }
}

fn rows(survey: &Survey) -> Rows {
    let mut rows = Rows::new(&[
        ">FILE", ">BLOCKS", "WHAT", "VERSION", ">PART", "ARCHIVE", "BEGUN", "REMARK",
    ]);
    let label = match &survey.label {
        Ok(label) => format!("label of {}, pool {}", label.barcode, label.pool),
        Err(_) => "label, damaged".to_owned(),
    };
    let none = String::new;
    rows.push([
        "0".to_owned(),
        none(),
        label,
        none(),
        none(),
        none(),
        none(),
        none(),
    ]);
    for file in &survey.files {
        let mut cells: [String; 8] = std::array::from_fn(|_| none());
        cells[0] = file.number.to_string();
        cells[1] = human::count(file.blocks);
        cells[2] = what(&file.content);
        if let Content::Part(part) = &file.content {
            cells[5] = part.archive.to_string();
            if let Some(block0) = &part.block0 {
                cells[3] = format!("{}@{}", block0.plan, block0.version);
                cells[4] = block0.part.to_string();
                cells[6] = begun(block0.created_at_unix_nanos);
            } else {
                cells[3] = format!("@{}", part.version);
                cells[7].push_str("its first block is damaged  ");
            }
        }
        if !file.closed {
            cells[7].push_str("no filemark ends it");
        }
        rows.push(cells);
    }
    rows
}

fn what(content: &Content) -> String {
    match content {
        Content::Part(_) => "part".to_owned(),
        Content::Empty => "empty".to_owned(),
        Content::Other(kind) => kind.to_string(),
        Content::Unreadable => "unreadable".to_owned(),
    }
}

fn begun(nanos: i64) -> String {
    human::time(Some(&prost_types::Timestamp {
        seconds: nanos.div_euclid(1_000_000_000),
        nanos: nanos.rem_euclid(1_000_000_000) as i32,
    }))
}

fn documents(survey: &Survey) -> Vec<Value> {
    let label = match &survey.label {
        Ok(label) => json!({
            "number": 0, "kind": "label", "barcode": label.barcode, "pool": label.pool,
            "recording_uuid": label.recording_uuid.to_string(), "block_size": label.block_size,
        }),
        Err(reason) => json!({ "number": 0, "kind": "label", "damage": reason }),
    };
    let files = survey.files.iter().map(|file| {
        let mut document = json!({
            "number": file.number, "kind": what(&file.content), "first_block": file.first_block,
            "block_count": file.blocks, "closed": file.closed,
        });
        if let Content::Part(part) = &file.content {
            document["archive_uuid"] = part.archive.to_string().into();
            document["version"] = part.version.into();
            document["first_tar_offset"] = part.first.tar_offset.into();
            document["block_size"] = part.block_size.into();
            if let Some(block0) = &part.block0 {
                document["plan"] = block0.plan.clone().into();
                document["source"] = block0.source.clone().into();
                document["part_number"] = block0.part.into();
            }
        }
        document
    });
    std::iter::once(label).chain(files).collect()
}
