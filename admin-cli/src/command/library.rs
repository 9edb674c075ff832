//! `taf library`: robots, what is in their slots, and what they do for an operator.

use taf_proto::v1::{Library as Device, ListLibrariesRequest, Slot, VolumeState};

mod operate;

use crate::client::{Client, all, read};
use crate::failure::{Exit, Failure};
use crate::human;
use crate::output::{Output, Rows};
use crate::resource::id;

/// Tape libraries and their slots
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  taf library list")]
pub struct Library {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    List(List),
    Inventory(operate::Inventory),
    Move(operate::Move),
    Import(operate::Import),
    Export(operate::Export),
}

/// List libraries with their slots
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  taf library list")]
pub struct List {}

impl Library {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        match self.verb.unwrap_or(Verb::List(List {})) {
            Verb::List(command) => command.run(out).await,
            Verb::Inventory(command) => command.run(out).await,
            Verb::Move(command) => command.run(out).await,
            Verb::Import(command) => command.run(out).await,
            Verb::Export(command) => command.run(out).await,
        }
    }
}

/// Every library.
pub(super) async fn libraries(client: &Client) -> Result<Vec<Device>, Failure> {
    all(async |page_token| {
        let request = ListLibrariesRequest {
            page_size: 100,
            page_token,
        };
        let page = read(|| {
            let (mut devices, request) = (client.devices(), request.clone());
            async move { devices.list_libraries(request).await }
        })
        .await?;
        Ok((page.libraries, page.next_page_token))
    })
    .await
}

impl List {
    async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let libraries = libraries(&client).await?;
        if out.json() || libraries.is_empty() {
            out.list("libraries", "Library", &libraries, |_| Rows::new(&[]))?;
            return Ok(Exit::Done);
        }
        for library in &libraries {
            show(library, out)?;
        }
        Ok(Exit::Done)
    }
}

fn show(library: &Device, out: &mut Output) -> Result<(), Failure> {
    let state = match (library.connected, library.pause.as_str()) {
        (false, _) => "not connected".to_owned(),
        (true, "") => "connected".to_owned(),
        (true, why) => format!("moves nothing: {why}"),
    };
    let line = format!(
        "library {}  {} {}  agent {}  {state}  read {}",
        id(&library.name),
        library.vendor,
        library.product,
        id(&library.agent),
        human::time(library.inventory_time.as_ref()),
    );
    out.line(human::clean(&line))?;
    if !library.picker_exception.is_empty() {
        out.line(format!(
            "picker: {}",
            human::clean(&library.picker_exception)
        ))?;
    }
    let mut rows = Rows::new(&[">ADDRESS", "CARTRIDGE", "STATE", "KIND", "REMARK"]);
    for drive in &library.drive_slots {
        let kind = match id(&drive.drive) {
            "" => "drive that nobody names".to_owned(),
            serial => format!("drive {serial}"),
        };
        rows.push([
            drive.address.to_string(),
            content(drive.full, &drive.barcode),
            known(drive.full, drive.volume_state()),
            kind,
            drive.exception.clone(),
        ]);
    }
    for slot in &library.slots {
        rows.push([
            slot.address.to_string(),
            content(slot.full, &slot.barcode),
            state_of(slot),
            if slot.mail_slot { "mail slot" } else { "slot" }.to_owned(),
            slot.exception.clone(),
        ]);
    }
    out.table(&rows)
}

fn content(full: bool, barcode: &str) -> String {
    match (full, barcode) {
        (false, _) => "empty",
        (true, "") => "without a readable barcode",
        (true, barcode) => barcode,
    }
    .to_owned()
}

fn known(full: bool, state: VolumeState) -> String {
    match (full, state) {
        (false, _) => "",
        (true, VolumeState::Unspecified) => "unknown",
        (true, state) => super::volume::state_word(state),
    }
    .to_owned()
}

fn state_of(slot: &Slot) -> String {
    if slot.barcode_twice {
        return "quarantined: its barcode is there twice".to_owned();
    }
    match (slot.full && slot.cleaning, slot.cleanings_left) {
        (false, _) => known(slot.full, slot.volume_state()),
        (true, 0) => "cleaning, used up".to_owned(),
        (true, left) => format!("cleaning, {left} left"),
    }
}
