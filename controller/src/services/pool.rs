//! Pools.

use taf_proto::v1::pool_service_server::PoolService;
use taf_proto::v1::{
    self, CreatePoolRequest, CreatePoolResponse, ListPoolsRequest, ListPoolsResponse,
    UpdatePoolRequest, UpdatePoolResponse,
};
use tonic::{Request, Response, Status};

use super::mutation::Mutation;
use super::paging::Page;
use super::status::{self, Violations};
use super::{PAGE_DEFAULT, PAGE_MOST, mask, names, timestamp};
use crate::access::Caller;
use crate::app::App;
use crate::store::pools::{NewPool, Pool};
use crate::store::{self, Store};

/// The pool that a new installation has.
pub const DEFAULT_POOL: &str = "default";
/// Block size if nobody says, in bytes: every path that we know carries it.
pub const DEFAULT_BLOCK_SIZE: u32 = 512 * 1024;
/// Largest part if nobody says, in bytes.
pub const DEFAULT_PART_SIZE: u64 = 16 << 30;
/// Smallest and largest block, in bytes.
const BLOCK_SIZES: std::ops::RangeInclusive<u32> = 64 * 1024..=8 * 1024 * 1024;
/// Smallest and largest part, in bytes.
const PART_SIZES: std::ops::RangeInclusive<u64> = 16 << 20..=1 << 40;

/// What of a pool can be changed. Volumes that are there keep their blocks.
const CHANGEABLE: [&str; 4] = ["block_size", "part_size", "auto_label", "sources_per_drive"];
/// How many sources may share a drive.
const SOURCES: std::ops::RangeInclusive<u32> = 1..=16;

/// `taf.v1.PoolService`.
#[derive(Debug, Clone)]
pub struct Pools(pub App);

fn message(pool: &Pool) -> v1::Pool {
    v1::Pool {
        name: names::pool(&pool.name),
        block_size: pool.block_size as u32,
        part_size: pool.part_size as u64,
        create_time: Some(timestamp(pool.created_at)),
        volume_count: pool.volume_count as u64,
        etag: etag(pool),
        auto_label: pool.auto_label.clone().unwrap_or_default(),
        sources_per_drive: pool.sources_per_drive as u32,
    }
}

fn etag(pool: &Pool) -> String {
    format!("{}-{}", pool.id, pool.revision)
}

/// What a pool of a request is like; what is wrong with it goes to `bad`.
fn checked<'a>(pool: &'a v1::Pool, bad: &mut Violations) -> NewPool<'a> {
    let block_size = if pool.block_size == 0 {
        DEFAULT_BLOCK_SIZE
    } else {
        pool.block_size
    };
    if !BLOCK_SIZES.contains(&block_size) || block_size % 4096 != 0 {
        bad.add(
            "pool.block_size",
            "must be from 65536 to 8388608 bytes, a multiple of 4096",
        );
    }
    let part_size = if pool.part_size == 0 {
        DEFAULT_PART_SIZE
    } else {
        pool.part_size
    };
    if !PART_SIZES.contains(&part_size) {
        bad.add("pool.part_size", "must be from 16 MiB to 1 TiB");
    }
    let pattern = pool.auto_label.as_str();
    if !pattern.is_empty() && !names::is_serial(pattern) {
        bad.add(
            "pool.auto_label",
            "must be a pattern of barcodes as TAF*L9: 1 to 64 visible characters without '/'; '*' alone stands for all",
        );
    }
    let sources_per_drive = pool.sources_per_drive.max(1);
    if !SOURCES.contains(&sources_per_drive) {
        bad.add("pool.sources_per_drive", "must be from 1 to 16");
    }
    NewPool {
        block_size: block_size as i32,
        part_size: part_size as i64,
        auto_label: (!pattern.is_empty()).then_some(pattern),
        sources_per_drive: sources_per_drive as i32,
    }
}

impl Pools {
    async fn create(
        &self,
        mutation: &Mutation,
        request: &CreatePoolRequest,
    ) -> Result<CreatePoolResponse, Status> {
        let mut bad = Violations::new();
        if !names::is_id(&request.pool_id) {
            bad.add("pool_id", format!("must be {}", names::ID_RULE));
        }
        let pool = request.pool.clone().unwrap_or_default();
        let new = checked(&pool, &mut bad);
        bad.check()?;

        let mut client = self.0.store.client().await?;
        let tx = client.transaction().await.map_err(store::Error::from)?;
        if let Some(answer) = mutation.begin_on(&tx).await? {
            return Ok(answer);
        }
        let name = names::pool(&request.pool_id);
        if !Store::pool_create_on(&tx, &request.pool_id, &new).await? {
            return Err(status::already_exists(&name));
        }
        let made = Store::pool_get_on(&*tx, &request.pool_id)
            .await?
            .ok_or_else(|| status::not_found(&name))?;
        let answer = CreatePoolResponse {
            pool: Some(message(&made)),
        };
        mutation.finish_on(&tx, &answer).await?;
        tx.commit().await.map_err(store::Error::from)?;
        Ok(answer)
    }
}

impl Pools {
    async fn update(
        &self,
        mutation: &Mutation,
        request: &UpdatePoolRequest,
    ) -> Result<UpdatePoolResponse, Status> {
        let wanted = request.pool.clone().unwrap_or_default();
        let mut bad = Violations::new();
        let id = bad
            .read("pool.name", names::pool_id(&wanted.name))
            .unwrap_or_default();
        let mask = mask::read(request.update_mask.as_ref(), &CHANGEABLE, &mut bad);
        bad.check()?;
        let mut client = self.0.store.client().await?;
        let tx = client.transaction().await.map_err(store::Error::from)?;
        if let Some(answer) = mutation.begin_on(&tx).await? {
            return Ok(answer);
        }
        let known = Store::pool_get_on(&*tx, id)
            .await?
            .ok_or_else(|| status::not_found(&wanted.name))?;
        if !wanted.etag.is_empty() && wanted.etag != etag(&known) {
            return Err(status::etag_mismatch(&wanted.name));
        }
        let changed = mask::merge("Pool", &message(&known), &wanted, &mask)
            .map_err(|error| status::internal("a pool can't be changed", &error))?;
        let mut bad = Violations::new();
        let new = checked(&changed, &mut bad);
        bad.check()?;
        if !Store::pool_update_on(&tx, &known, &new).await? {
            return Err(status::etag_mismatch(&wanted.name));
        }
        let now = Store::pool_get_on(&*tx, id)
            .await?
            .ok_or_else(|| status::not_found(&wanted.name))?;
        let answer = UpdatePoolResponse {
            pool: Some(message(&now)),
        };
        mutation.finish_on(&tx, &answer).await?;
        tx.commit().await.map_err(store::Error::from)?;
        Ok(answer)
    }
}

#[tonic::async_trait]
impl PoolService for Pools {
    async fn update_pool(
        &self,
        request: Request<UpdatePoolRequest>,
    ) -> Result<Response<UpdatePoolResponse>, Status> {
        let caller = Caller::of(&request)?.clone();
        let request = request.into_inner();
        let name = request.pool.as_ref().map(|pool| pool.name.clone());
        let mutation = Mutation::new(
            &caller,
            "PoolService.UpdatePool",
            name.unwrap_or_default(),
            &request.request_id,
            &request,
        )?;
        let outcome = self.update(&mutation, &request).await;
        mutation.concluded(&self.0.store, outcome).await
    }

    async fn create_pool(
        &self,
        request: Request<CreatePoolRequest>,
    ) -> Result<Response<CreatePoolResponse>, Status> {
        let caller = Caller::of(&request)?.clone();
        let request = request.into_inner();
        let mutation = Mutation::new(
            &caller,
            "PoolService.CreatePool",
            names::pool(&request.pool_id),
            &request.request_id,
            &request,
        )?;
        let outcome = self.create(&mutation, &request).await;
        mutation.concluded(&self.0.store, outcome).await
    }

    async fn list_pools(
        &self,
        request: Request<ListPoolsRequest>,
    ) -> Result<Response<ListPoolsResponse>, Status> {
        let request = request.into_inner();
        let page = Page::read(
            "pools",
            request.page_size,
            &request.page_token,
            PAGE_DEFAULT,
            PAGE_MOST,
        )?;
        let mut rows = self
            .0
            .store
            .pool_list(page.after_text()?, page.limit())
            .await?;
        let next_page_token = page.cut(&mut rows, |row| row.name.clone());
        Ok(Response::new(ListPoolsResponse {
            pools: rows.iter().map(message).collect(),
            next_page_token,
        }))
    }
}
