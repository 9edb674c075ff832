//! `taf library`: robots and what is in their slots.

use taf_proto::v1::{Library as Device, ListLibrariesRequest};

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
}

/// List libraries with their slots
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  taf library list")]
pub struct List {}

impl Library {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let Verb::List(List {}) = self.verb.unwrap_or(Verb::List(List {}));
        let client = Client::signed_in().await?;
        let libraries = all(async |page_token| {
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
        .await?;
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
    let drives: Vec<_> = library.drives.iter().map(|drive| id(drive)).collect();
    let line = format!(
        "library {}  {} {}  agent {}  {}  drives {}  read {}",
        id(&library.name),
        library.vendor,
        library.product,
        id(&library.agent),
        if library.connected {
            "connected"
        } else {
            "not connected"
        },
        drives.join(" "),
        human::time(library.inventory_time.as_ref()),
    );
    out.line(human::clean(&line))?;
    let mut rows = Rows::new(&[">SLOT", "CARTRIDGE", "KIND"]);
    for slot in &library.slots {
        let content = match (slot.full, slot.barcode.as_str()) {
            (false, _) => "empty",
            (true, "") => "without a readable barcode",
            (true, barcode) => barcode,
        };
        rows.push([
            slot.address.to_string(),
            content.to_owned(),
            if slot.mail_slot { "mail slot" } else { "slot" }.to_owned(),
        ]);
    }
    out.table(&rows)
}
