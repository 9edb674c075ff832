//! `taf tape files`: what a tape holds, file by file.

use std::ffi::OsString;

use serde_json::{Value, json};
use taf_format::label::Label;

use crate::failure::{Exit, Failure};
use crate::human;
use crate::output::{Output, Rows, say};
use crate::tape::{Content, Medium, Survey, TapeFile, survey};

/// List the tape files of a cartridge or of the tape in a drive
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf tape files library/cartridges/TAF001L8.tape
  taf tape files unix:library/sockets/drive0.sock --json")]
pub struct Files {
    /// A cartridge's file of the emulator, or a drive's device name as taf drive scan shows it (serial:NUMBER, /dev/sgN,
    /// iscsi://…, unix:PATH)
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
            for document in std::iter::once(label_document(&survey)).chain(documents(&survey.files))
            {
                out.item_document(&document)?;
            }
            out.end()?;
        } else {
            out.table(&rows(Some(&survey.label), &survey.files))?;
        }
        if let Err(reason) = &survey.label {
            say(format!("the label can't be read: {reason}"));
        }
        Ok(Exit::Done)
    }
}

/// Tape files for people. The label is given if tape file 0 is one.
pub(super) fn rows(label: Option<&Result<Label, String>>, files: &[TapeFile]) -> Rows {
    let mut rows = Rows::new(&[
        ">FILE", ">BLOCKS", ">BYTES", "WHAT", "VERSION", ">PART", "ARCHIVE", "BEGUN", "REMARK",
    ]);
    if let Some(label) = label {
        let mut cells: [String; 9] = std::array::from_fn(|_| String::new());
        cells[0].push('0');
        cells[3] = match label {
            Ok(label) => format!("label of {}, pool {}", label.barcode, label.pool),
            Err(_) => "label, damaged".to_owned(),
        };
        rows.push(cells);
    }
    for file in files {
        let mut cells: [String; 9] = std::array::from_fn(|_| String::new());
        cells[0] = file.number.to_string();
        cells[1] = human::count(file.blocks);
        cells[2] = file.bytes_at_most().map(human::size).unwrap_or_default();
        cells[3] = what(&file.content);
        if let Content::Part(part) = &file.content {
            cells[6] = part.archive.to_string();
            if let Some(block0) = &part.block0 {
                cells[4] = format!("{}@{}", block0.plan, block0.version);
                cells[5] = block0.part.to_string();
                cells[7] = begun(block0.created_at_unix_nanos);
            } else {
                cells[4] = format!("@{}", part.version);
                cells[8].push_str("its first block is damaged  ");
            }
        }
        if let Content::Index(head) = &file.content {
            cells[6] = begun(head.created_at_unix_nanos);
        }
        if !file.closed {
            cells[8].push_str("no filemark ends it");
        }
        rows.push(cells);
    }
    rows
}

fn what(content: &Content) -> String {
    match content {
        Content::Part(_) => "part".to_owned(),
        Content::Index(_) => "index".to_owned(),
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

fn label_document(survey: &Survey) -> Value {
    match &survey.label {
        Ok(label) => json!({
            "number": 0, "kind": "label", "barcode": label.barcode, "pool": label.pool,
            "recording_uuid": label.recording_uuid.to_string(), "block_size": label.block_size,
        }),
        Err(reason) => json!({ "number": 0, "kind": "label", "damage": reason }),
    }
}

/// Tape files for programs.
pub(super) fn documents(files: &[TapeFile]) -> impl Iterator<Item = Value> {
    files.iter().map(|file| {
        let mut document = json!({
            "number": file.number, "kind": what(&file.content), "first_block": file.first_block,
            "block_count": file.blocks, "closed": file.closed,
            "byte_count_at_most": file.bytes_at_most(),
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
        if let Content::Index(head) = &file.content {
            document["index_uuid"] = head.index_uuid.to_string().into();
            document["block_size"] = head.block_size.into();
        }
        document
    })
}
