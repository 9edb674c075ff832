//! `taf volume`: cartridges.

mod verify;

use taf_proto::v1::{
    GetVolumeHealthRequest, GetVolumeRequest, GetVolumeResponse, ListVolumesRequest, Volume,
    VolumeState,
};

use self::verify::Verify;
use super::{health, missing};
use crate::client::{Client, all, read};
use crate::failure::{Exit, Failure};
use crate::human;
use crate::output::{Output, Rows};
use crate::resource::{id, name, optional_name};

mod erase;
mod inspect;
mod label;
mod reclaim;

/// Volumes (cartridges): list, show, health, label, erase, format, inspect, verify, reclaim
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    List(List),
    Show(Show),
    Health(Worth),
    Label(label::Label),
    Erase(erase::Erase),
    Format(erase::Format),
    Inspect(inspect::Inspect),
    Verify(Verify),
    Reclaim(reclaim::Reclaim),
}

impl Command {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        match self {
            Self::List(command) => command.run(out).await,
            Self::Show(command) => command.run(out).await,
            Self::Health(command) => command.run(out).await,
            Self::Label(command) => command.run(out).await,
            Self::Erase(command) => command.run(out).await,
            Self::Format(command) => command.run(out).await,
            Self::Inspect(command) => command.run(out).await,
            Self::Verify(command) => command.run(out).await,
            Self::Reclaim(command) => command.run(out).await,
        }
    }
}

/// List volumes
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf volume list
  taf volume list --pool offsite")]
pub struct List {
    /// Only those of this pool
    #[arg(long)]
    pool: Option<String>,
}

impl List {
    async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let pool = optional_name("pools", self.pool.as_deref());
        let volumes = all(async |page_token| {
            let request = ListVolumesRequest {
                page_size: 1000,
                page_token,
                pool: pool.clone(),
            };
            let page = read(|| {
                let (mut volumes, request) = (client.volumes(), request.clone());
                async move { volumes.list_volumes(request).await }
            })
            .await?;
            Ok((page.volumes, page.next_page_token))
        })
        .await?;
        out.list("volumes", "Volume", &volumes, |volumes| {
            let mut rows = Rows::new(&[
                "VOLUME",
                "POOL",
                "STATE",
                "HEALTH",
                ">BYTES",
                ">PARTS",
                ">VERSIONS",
                "WHERE",
                "LAST WRITTEN",
                "REUSE",
            ]);
            for volume in volumes {
                rows.push([
                    volume.barcode.clone(),
                    id(&volume.pool).to_owned(),
                    state(volume),
                    health::short(volume.health.as_ref()),
                    human::size(volume.byte_count),
                    human::count(volume.part_count),
                    human::count(volume.version_count),
                    place(volume),
                    human::time(volume.last_write_time.as_ref()),
                    human::clean(&volume.reuse_reason).into_owned(),
                ]);
            }
            rows
        })?;
        Ok(Exit::Done)
    }
}

/// A state's word.
pub fn state_word(state: VolumeState) -> &'static str {
    match state {
        VolumeState::Unspecified => "unknown",
        VolumeState::Labelling => "being labelled",
        VolumeState::Appendable => "appendable",
        VolumeState::Full => "full",
        VolumeState::ReadOnly => "read only",
        VolumeState::Quarantined => "quarantined",
        VolumeState::Unlabelled => "unlabelled",
    }
}

fn state(volume: &Volume) -> String {
    let mut words = vec![state_word(volume.state()).to_owned()];
    if volume.suspect_time.is_some() {
        words.push("to be inspected".to_owned());
    }
    if !volume.reserved_by.is_empty() {
        words.push(format!("in use by job {}", id(&volume.reserved_by)));
    }
    words.join(", ")
}

fn place(volume: &Volume) -> String {
    let seen = volume.last_seen_time.as_ref();
    where_it_is(&volume.location, &volume.last_location, seen)
}

/// Where a volume is, or was before it went.
pub fn where_it_is(location: &str, last: &str, seen: Option<&prost_types::Timestamp>) -> String {
    match (location, last) {
        ("", "") => "not seen".to_owned(),
        ("", last) => format!("outside; {} until {}", place_words(last), human::time(seen)),
        (location, _) => place_words(location),
    }
}

/// A place's resource name in words.
pub fn place_words(location: &str) -> String {
    location
        .replace("libraries/", "")
        .replace("/slots/", " slot ")
        .replace("drives/", "drive ")
}

/// Show a volume and its tape files
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  taf volume show TAF001L8")]
pub struct Show {
    /// Its barcode
    barcode: String,
}

impl Show {
    async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let request = GetVolumeRequest {
            name: name("volumes", &self.barcode),
        };
        let answer = read(|| {
            let (mut volumes, request) = (client.volumes(), request.clone());
            async move { volumes.get_volume(request).await }
        })
        .await?;
        if out.json() {
            out.message("GetVolumeResponse", &answer)?;
        } else {
            show(answer, out)?;
        }
        Ok(Exit::Done)
    }
}

fn show(answer: GetVolumeResponse, out: &mut Output) -> Result<(), Failure> {
    let volume = answer.volume.ok_or_else(|| missing("volume"))?;
    for (key, value) in [
        ("volume", volume.barcode.clone()),
        ("pool", id(&volume.pool).to_owned()),
        ("state", state(&volume)),
        ("because", volume.state_reason.clone()),
        ("where", place(&volume)),
        ("bytes", human::size(volume.byte_count)),
        ("versions", human::count(volume.version_count)),
        ("block size", human::size(volume.block_size.into())),
        ("recording", volume.recording_uuid.clone()),
        ("serial number", volume.medium_serial.clone()),
        ("labelled", human::time(volume.label_time.as_ref())),
        ("last written", human::time(volume.last_write_time.as_ref())),
        ("reuse", volume.reuse_reason.clone()),
        (
            "read only",
            match &volume.suspect_time {
                Some(_) => format!(
                    "until it is inspected (taf volume inspect {}): since {} it may hold something else than the catalog says",
                    volume.barcode,
                    human::time(volume.suspect_time.as_ref())
                ),
                None => String::new(),
            },
        ),
        (
            "inspected",
            match &volume.inspect_time {
                Some(_) => human::time(volume.inspect_time.as_ref()),
                None => String::new(),
            },
        ),
    ] {
        if !value.is_empty() {
            out.line(format!("{key:<13} {}", human::clean(&value)))?;
        }
    }
    if let Some(found) = &volume.health {
        health::show(found, out)?;
    }
    out.line("")?;
    let mut rows = Rows::new(&[
        ">FILE",
        "KIND",
        ">BYTES",
        ">FIRST BLOCK",
        "VERSION",
        ">PART",
        "PUBLISHED",
        "INDEX",
        "VERIFIED",
        "DAMAGE",
    ]);
    for file in &answer.files {
        let part = file.kind == "part";
        rows.push([
            file.number.to_string(),
            file.kind.clone(),
            human::size(file.byte_count),
            file.first_block.to_string(),
            file.version.clone(),
            if part {
                file.part_number.to_string()
            } else {
                String::new()
            },
            match (part, file.published) {
                (false, _) => "",
                (true, true) => "yes",
                (true, false) => "no",
            }
            .to_owned(),
            match file.kind.as_str() {
                "index" => format!(
                    "of {}",
                    human::counted(file.covered_part_count, "part", "parts")
                ),
                "part" if file.indexed => "yes".to_owned(),
                "part" => "no".to_owned(),
                _ => String::new(),
            },
            human::time(file.verify_time.as_ref()),
            human::clean(&file.damage).into_owned(),
        ]);
    }
    out.table(&rows)
}

/// Show what a volume is worth and why: score, alerts, wear, drive-or-tape verdict, its last mounts
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  taf volume health TAF001L8")]
pub struct Worth {
    /// Its barcode
    barcode: String,
}

impl Worth {
    async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let request = GetVolumeHealthRequest {
            name: name("volumes", &self.barcode),
        };
        let answer = read(|| {
            let (mut service, request) = (client.health(), request.clone());
            async move { service.get_volume_health(request).await }
        })
        .await?;
        if out.json() {
            out.message("GetVolumeHealthResponse", &answer)?;
            return Ok(Exit::Done);
        }
        out.line(format!(
            "{:<13} {}",
            "volume",
            human::clean(id(&self.barcode))
        ))?;
        health::show(&answer.health.ok_or_else(|| missing("health"))?, out)?;
        if !answer.mounts.is_empty() {
            out.line("")?;
            out.table(&health::mounts(&answer.mounts))?;
        }
        Ok(Exit::Done)
    }
}
