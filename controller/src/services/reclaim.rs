//! `VolumeService.ReclaimVolumes`: what is still needed of volumes is to be copied to others, so that they become free.

use taf_proto::v1::{NeedingVersion, ReclaimVolumesRequest, ReclaimVolumesResponse, Reclamation};
use tonic::Status;

use super::mutation::Mutation;
use super::status::{self, Violations};
use super::{names, order, reuse};
use crate::app::App;
use crate::session::Registry;
use crate::store::volumes::{self, VolumeRow};
use crate::store::{self, Store, Transaction, jobs, reclaims, reuse as needed};

/// Most volumes that are named at once.
const NAMED: usize = 1_000;
/// Most versions that are named of a volume.
const VERSIONS: i64 = 100;
/// Jobs beside which a volume is not reclaimed.
const BUSY: [&str; 6] = ["reclaim", "erase", "format", "label", "rescan", "verify"];

/// Makes the jobs, or says what they would do.
pub(super) async fn reclaim(
    app: &App,
    registry: &Registry,
    mutation: &Mutation,
    request: &ReclaimVolumesRequest,
) -> Result<ReclaimVolumesResponse, Status> {
    let wanted = Wanted::read(request)?;
    let mut client = app.store.client().await?;
    let tx = client.transaction().await.map_err(store::Error::from)?;
    if !request.validate_only
        && let Some(answer) = mutation.begin_on(&tx).await?
    {
        return Ok(answer);
    }
    let rows = wanted.rows_on(&tx).await?;
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    let mut answer = ReclaimVolumesResponse::default();
    for row in &rows {
        let mut made = describe_on(&tx, app, row).await?;
        match (refusal_on(&tx, row, &made, &ids).await?, &wanted) {
            (None, _) if request.validate_only => {}
            (None, _) => {
                let bytes = made.byte_count as i64;
                let job =
                    reclaims::job_create_reclaim_on(&tx, row.id, bytes, mutation.actor()).await?;
                made.job = names::job(job);
            }
            (Some(refused), Wanted::Names(_)) => return Err(refused),
            (Some(refused), Wanted::Pool { .. }) => {
                refused.message().clone_into(&mut made.refusal);
            }
        }
        answer.volumes.push(made);
    }
    if request.validate_only {
        // Dropped without a commit, so nothing was done.
        return Ok(answer);
    }
    mutation.finish_on(&tx, &answer).await?;
    tx.commit().await.map_err(store::Error::from)?;
    registry.wake();
    Ok(answer)
}

/// Which volumes are meant.
enum Wanted {
    /// Barcodes, in order.
    Names(Vec<String>),
    /// Those of a pool of which less than so many percent live.
    Pool { name: String, percent: u32 },
}

impl Wanted {
    fn read(request: &ReclaimVolumesRequest) -> Result<Wanted, Status> {
        let mut bad = Violations::new();
        let wanted = if request.pool.is_empty() {
            if request.names.is_empty() || request.names.len() > NAMED {
                bad.add("names", format!("must be 1 to {NAMED}, or name a pool"));
            }
            if request.below_percent != 0 {
                bad.add("below_percent", "goes with a pool");
            }
            let mut barcodes = Vec::new();
            for name in &request.names {
                let barcode = bad.read("names", names::volume_barcode(name));
                barcodes.extend(barcode.map(str::to_owned));
            }
            barcodes.sort_unstable();
            barcodes.dedup();
            Wanted::Names(barcodes)
        } else {
            if !request.names.is_empty() {
                bad.add("names", "must be empty with a pool");
            }
            if !(1..=100).contains(&request.below_percent) {
                bad.add("below_percent", "must be from 1 to 100");
            }
            let name = bad.read("pool", names::pool_id(&request.pool));
            Wanted::Pool {
                name: name.unwrap_or_default().to_owned(),
                percent: request.below_percent,
            }
        };
        bad.check()?;
        Ok(wanted)
    }

    async fn rows_on(&self, tx: &Transaction<'_>) -> Result<Vec<VolumeRow>, Status> {
        let barcodes = match self {
            Wanted::Names(barcodes) => barcodes.clone(),
            Wanted::Pool { name, percent } => {
                let pool = Store::pool_get_on(&**tx, name)
                    .await?
                    .ok_or_else(|| status::not_found(&names::pool(name)))?;
                reclaims::volume_list_dying(tx, pool.id, i64::from(*percent)).await?
            }
        };
        let mut rows = Vec::new();
        for barcode in &barcodes {
            let row = volumes::volume_get(tx, barcode).await?;
            rows.push(row.ok_or_else(|| status::not_found(&names::volume(barcode)))?);
        }
        Ok(rows)
    }
}

/// What lives on a volume, and who needs it.
async fn describe_on(
    tx: &Transaction<'_>,
    app: &App,
    row: &VolumeRow,
) -> Result<Reclamation, Status> {
    let (parts, bytes) = reclaims::living_sum(tx, row.recording_uuid).await?;
    let versions = reclaims::living_versions(tx, row.recording_uuid, VERSIONS).await?;
    let count = needed::volume_needed(tx, row.recording_uuid)
        .await?
        .versions;
    Ok(Reclamation {
        volume: names::volume(&row.barcode),
        part_count: parts as u64,
        byte_count: bytes as u64,
        volume_byte_count: row.byte_count as u64,
        outcome: reuse::outlook(row, app.config.reuse_after),
        version_count: count as u64,
        versions: versions
            .into_iter()
            .map(|of| NeedingVersion {
                version: names::version(of.line_id, of.version),
                plan: of.plan.as_deref().map(names::plan).unwrap_or_default(),
                part_count: of.part_count as u64,
            })
            .collect(),
        ..Reclamation::default()
    })
}

/// Why a volume is not reclaimed; `all` are those that are asked for together, and are none to copy to.
async fn refusal_on(
    tx: &Transaction<'_>,
    row: &VolumeRow,
    made: &Reclamation,
    all: &[i64],
) -> Result<Option<Status>, Status> {
    let (barcode, pool) = (&row.barcode, &row.pool);
    if let Err(refused) = order::is_catalog_trusted_on(tx).await {
        return Ok(Some(refused));
    }
    if let Some(job) = jobs::job_active_about_on(tx, &BUSY, Some(barcode), None).await? {
        let message = format!(
            "{} is about volume {barcode} already: wait for it, or cancel it",
            names::job(job)
        );
        return Ok(Some(status::precondition("VOLUME_BUSY", message)));
    }
    if row.part_count == 0 || ["labelling", "unlabelled"].contains(&row.state.as_str()) {
        let message = format!("volume {barcode} holds no parts: there is nothing to copy");
        return Ok(Some(status::precondition("VOLUME_EMPTY", message)));
    }
    if made.part_count == 0 {
        let message = format!(
            "nothing on volume {barcode} is needed any more, so it is free without this: `taf volume show {barcode}` says from when it \
             is written anew"
        );
        return Ok(Some(status::precondition("VOLUME_FREE", message)));
    }
    if !reclaims::pool_takes(tx, row.pool_id, all).await? {
        let message = format!(
            "no other volume of pool {pool} can be appended to: label a blank cartridge with `taf volume label BARCODE --pool {pool}`, or \
             name fewer volumes"
        );
        return Ok(Some(status::precondition("NO_VOLUME", message)));
    }
    Ok(None)
}
