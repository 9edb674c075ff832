//! `taf pool`: volumes that serve one purpose.

use taf_peer::quantity::Size;
use taf_proto::v1::{CreatePoolRequest, ListPoolsRequest, Pool};

use super::missing;
use crate::client::{Client, all, read, request_id};
use crate::failure::{Exit, Failure};
use crate::human;
use crate::output::{Output, Rows, say};
use crate::resource::id;

/// Pools of volumes: make, list
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Create(Create),
    List(List),
}

impl Command {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        match self {
            Self::Create(command) => command.run(out).await,
            Self::List(command) => command.run(out).await,
        }
    }
}

/// Make a pool
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf pool create offsite
  taf pool create lto9 --block-size 1MiB --part-size 64GiB")]
pub struct Create {
    /// Name: 1 to 64 of a-z, 0-9, '.', '_', '-'
    name: String,
    /// Block size of volumes labelled for it: 64KiB to 8MiB; 512KiB if not given
    #[arg(long, value_name = "SIZE")]
    block_size: Option<Size>,
    /// Largest part; 16GiB if not given
    #[arg(long, value_name = "SIZE")]
    part_size: Option<Size>,
}

impl Create {
    async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let block_size = self.block_size.unwrap_or_default().0;
        let pool = Pool {
            block_size: u32::try_from(block_size).map_err(|_| {
                Failure::usage(
                    "the block size is beyond 8MiB",
                    "leave --block-size out, or give less",
                )
            })?,
            part_size: self.part_size.unwrap_or_default().0,
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
            say(format!(
                "made pool {made}; next: taf volume label BARCODE --pool {made}"
            ));
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
            let mut rows = Rows::new(&["POOL", ">VOLUMES", ">BLOCK", ">PART", "MADE"]);
            for pool in pools {
                rows.push([
                    id(&pool.name).to_owned(),
                    human::count(pool.volume_count),
                    Size(pool.block_size.into()).to_string(),
                    Size(pool.part_size).to_string(),
                    human::time(pool.create_time.as_ref()),
                ]);
            }
            rows
        })?;
        Ok(Exit::Done)
    }
}
