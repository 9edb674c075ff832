//! `taf pool`: volumes that serve one purpose.

use taf_peer::quantity::Size;
use taf_proto::v1::{CreatePoolRequest, ListPoolsRequest, Pool, UpdatePoolRequest};

use super::missing;
use crate::client::{Client, all, read, request_id};
use crate::failure::{Exit, Failure};
use crate::human;
use crate::output::{Output, Rows, say};
use crate::resource::{id, name};

/// Pools of volumes: make, change, list
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Create(Create),
    Update(Update),
    List(List),
}

impl Command {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        match self {
            Self::Create(command) => command.run(out).await,
            Self::Update(command) => command.run(out).await,
            Self::List(command) => command.run(out).await,
        }
    }
}

/// Make a pool
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf pool create offsite
  taf pool create lto9 --block-size 1MiB --part-size 64GiB
  taf pool create daily --auto-label                     (any blank cartridge that is not known)
  taf pool create daily --auto-label='DLY*L9'            (those with such barcodes)
  taf pool create branches --sources-per-drive 4         (several slow sources share a drive)")]
pub struct Create {
    /// Name: 1 to 64 of a-z, 0-9, '.', '_', '-'
    name: String,
    /// Block size of volumes labelled for it: 64KiB to 8MiB; 512KiB if not given
    #[arg(long, value_name = "SIZE")]
    block_size: Option<Size>,
    /// Largest part; 16GiB if not given
    #[arg(long, value_name = "SIZE")]
    part_size: Option<Size>,
    /// Label cartridges without being told when a backup needs a volume and there is none: only such as are not known and
    /// proved to be blank, of these barcodes (* and ? stand for any); all if none are given
    #[arg(long, value_name = "BARCODES", num_args = 0..=1, default_missing_value = "*", require_equals = true)]
    auto_label: Option<String>,
    /// So many backups share a drive and a volume when no drive is free for them, part by part in turns: 1 to 16; 1 if not given.
    /// For few drives and many slow sources; give the tape agent a spool that holds a part
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=16))]
    sources_per_drive: Option<u32>,
}

/// Change a pool, for what is labelled from now on
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf pool update daily --auto-label='DLY*L9'
  taf pool update daily --no-auto-label
  taf pool update offsite --part-size 64GiB")]
pub struct Update {
    /// Name
    name: String,
    /// Block size of volumes labelled for it: 64KiB to 8MiB
    #[arg(long, value_name = "SIZE")]
    block_size: Option<Size>,
    /// Largest part
    #[arg(long, value_name = "SIZE")]
    part_size: Option<Size>,
    /// Label cartridges without being told, as in `taf pool create`
    #[arg(long, value_name = "BARCODES", num_args = 0..=1, default_missing_value = "*", require_equals = true)]
    auto_label: Option<String>,
    /// Label none without being told
    #[arg(long, conflicts_with = "auto_label")]
    no_auto_label: bool,
    /// So many backups share a drive and a volume when no drive is free for them: 1 to 16
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=16))]
    sources_per_drive: Option<u32>,
}

fn block_size(size: Option<Size>) -> Result<u32, Failure> {
    u32::try_from(size.unwrap_or_default().0).map_err(|_| {
        Failure::usage(
            "the block size is beyond 8MiB",
            "leave --block-size out, or give less",
        )
    })
}

impl Update {
    async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let changes = [
            ("block_size", self.block_size.is_some()),
            ("part_size", self.part_size.is_some()),
            (
                "auto_label",
                self.auto_label.is_some() || self.no_auto_label,
            ),
            ("sources_per_drive", self.sources_per_drive.is_some()),
        ];
        let changed = changes.iter().filter(|(_, given)| *given);
        let paths: Vec<String> = changed.map(|(path, _)| (*path).to_owned()).collect();
        if paths.is_empty() {
            return Err(Failure::usage(
                "nothing is to change",
                "name what: --block-size, --part-size, --auto-label, --no-auto-label or --sources-per-drive",
            ));
        }
        let pool = Pool {
            name: name("pools", &self.name),
            block_size: block_size(self.block_size)?,
            part_size: self.part_size.unwrap_or_default().0,
            auto_label: self.auto_label.unwrap_or_default(),
            sources_per_drive: self.sources_per_drive.unwrap_or_default(),
            ..Pool::default()
        };
        let request = UpdatePoolRequest {
            pool: Some(pool),
            update_mask: Some(prost_types::FieldMask { paths }),
            request_id: request_id(),
        };
        let client = Client::signed_in().await?;
        let answer = client.pools().update_pool(request).await?.into_inner();
        let pool = answer.pool.ok_or_else(|| missing("pool"))?;
        if out.json() {
            out.message("Pool", &pool)?;
        } else {
            say(format!("changed pool {}", id(&pool.name)));
        }
        Ok(Exit::Done)
    }
}

impl Create {
    async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let pool = Pool {
            block_size: block_size(self.block_size)?,
            part_size: self.part_size.unwrap_or_default().0,
            auto_label: self.auto_label.unwrap_or_default(),
            sources_per_drive: self.sources_per_drive.unwrap_or_default(),
            ..Pool::default()
        };
        let request = CreatePoolRequest {
            pool_id: id(&self.name).to_owned(),
            pool: Some(pool),
            request_id: request_id(),
        };
        let client = Client::signed_in().await?;
        let answer = client.pools().create_pool(request).await?.into_inner();
        let pool = answer.pool.ok_or_else(|| missing("pool"))?;
        if out.json() {
            out.message("Pool", &pool)?;
        } else {
            let made = id(&pool.name);
            let next = if pool.auto_label.is_empty() {
                format!("next: taf volume label BARCODE --pool {made}")
            } else {
                format!(
                    "blank cartridges {} are labelled when a backup needs one",
                    pool.auto_label
                )
            };
            say(format!("made pool {made}; {next}"));
        }
        Ok(Exit::Done)
    }
}

/// List pools
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  taf pool list")]
pub struct List {}

impl List {
    async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let pools = all(async |page_token| {
            let request = ListPoolsRequest {
                page_size: 1000,
                page_token,
            };
            let page = read(|| {
                let (mut pools, request) = (client.pools(), request.clone());
                async move { pools.list_pools(request).await }
            })
            .await?;
            Ok((page.pools, page.next_page_token))
        })
        .await?;
        out.list("pools", "Pool", &pools, |pools| {
            let mut rows = Rows::new(&[
                "POOL",
                ">VOLUMES",
                ">BLOCK",
                ">PART",
                ">SOURCES/DRIVE",
                "LABELS BY ITSELF",
                "MADE",
            ]);
            for pool in pools {
                rows.push([
                    id(&pool.name).to_owned(),
                    human::count(pool.volume_count),
                    Size(pool.block_size.into()).to_string(),
                    Size(pool.part_size).to_string(),
                    pool.sources_per_drive.max(1).to_string(),
                    pool.auto_label.clone(),
                    human::time(pool.create_time.as_ref()),
                ]);
            }
            rows
        })?;
        Ok(Exit::Done)
    }
}
