//! `taf du`: how much is in the directories of a version. No tape is read for it.

use std::ffi::OsString;

use taf_proto::v1::MeasureDirectoriesRequest;

use super::ls::{Lacking, WHEN};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::human;
use crate::output::Output;
use crate::resource::{absolute, version};

/// Show how much is in a directory of a version, and in those below it
#[derive(Debug, clap::Args)]
#[command(after_help = format!("Sizes are those of the content, before compression; a file with several names counts once. Each directory comes after those in
it, so the whole comes last. Of a version that is not whole only what is known counts; the exit status is then 3.

{WHEN}

Examples:
  taf du daily /srv/files
  taf du daily / --depth 2
  taf du daily@3 /srv --depth 1 --json"))]
pub struct Du {
    /// PLAN for its newest version, PLAN@N, PLAN@WHEN, or lines/L/versions/N
    #[arg(value_name = "PLAN[@N]")]
    version: String,
    /// Absolute path of a directory
    #[arg(default_value = "/")]
    path: OsString,
    /// Show directories down to this depth below it
    #[arg(long, value_name = "N", default_value_t = 1)]
    depth: u32,
}

impl Du {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let directory = absolute(&self.path)?;
        let client = Client::signed_in().await?;
        let request = MeasureDirectoriesRequest {
            version: version(&client, &self.version).await?,
            directory: Some(directory),
            depth: self.depth,
        };
        let mut found = client
            .catalog()
            .measure_directories(request)
            .await?
            .into_inner();
        if out.json() {
            out.begin("directories")?;
        }
        let mut lacking = Lacking::default();
        while let Some(some) = found.message().await? {
            lacking.say(some.lacks);
            for measure in &some.directories {
                if out.json() {
                    out.item("DirectoryMeasure", measure)?;
                    continue;
                }
                out.line(format!(
                    "{:>9}  {:>15}  {}",
                    human::size(measure.byte_count),
                    human::counted(measure.file_count, "file", "files"),
                    human::path(measure.path.as_ref())
                ))?;
            }
            out.flush()?;
        }
        if out.json() {
            out.end()?;
        }
        Ok(lacking.exit())
    }
}
