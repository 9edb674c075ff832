//! Volumes: what is in the catalog of them, and labelling.

use taf_proto::v1::volume_service_server::VolumeService;
use taf_proto::v1::{
    EraseMethod, EraseVolumeRequest, EraseVolumeResponse, GetVolumeRequest, GetVolumeResponse,
    Health, InspectVolumeRequest, InspectVolumeResponse, LabelVolumeRequest, LabelVolumeResponse,
    LabelVolumesRequest, LabelVolumesResponse, ListVolumesRequest, ListVolumesResponse,
    ReclaimVolumesRequest, ReclaimVolumesResponse, RescanVolumeRequest, RescanVolumeResponse,
    TapeFile, VerifyVolumeRequest, VerifyVolumeResponse, Volume, VolumeState,
};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::health::Ledger;
use super::label_all::label_all_on;
use super::mutation::Mutation;
use super::order::{self, Made, Order};
use super::paging::Page;
use super::status::{self, Violations};
use super::{PAGE_DEFAULT, PAGE_MOST, names, reclaim, reuse, sample, timestamp};
use crate::access::Caller;
use crate::app::App;
use crate::reconcile;
use crate::session::Registry;
use crate::store::attempts::Task;
use crate::store::{
    self, Store,
    jobs::{self, NewTask},
    reuse as needed,
    verifications::{self, How, NewVerification, Verifiable},
    volumes::{self, TapeFileRow, VolumeRow},
};

/// `taf.v1.VolumeService`.
#[derive(Clone)]
pub struct Volumes {
    app: App,
    registry: Registry,
}

impl Volumes {
    async fn label_all(
        &self,
        mutation: &Mutation,
        request: &LabelVolumesRequest,
    ) -> Result<LabelVolumesResponse, Status> {
        let mut client = self.app.store.client().await?;
        let tx = client.transaction().await.map_err(store::Error::from)?;
        if !request.dry_run
            && let Some(answer) = mutation.begin_on(&tx).await?
        {
            return Ok(answer);
        }
        let answer = label_all_on(&tx, mutation, request).await?;
        if request.dry_run {
            // Dropped without a commit, so nothing was done.
            return Ok(answer);
        }
        mutation.finish_on(&tx, &answer).await?;
        tx.commit().await.map_err(store::Error::from)?;
        self.registry.wake();
        Ok(answer)
    }

    /// The service.
    pub fn new(app: App, registry: Registry) -> Volumes {
        Volumes { app, registry }
    }

    async fn label(
        &self,
        mutation: &Mutation,
        request: &LabelVolumeRequest,
    ) -> Result<LabelVolumeResponse, Status> {
        let mut bad = Violations::new();
        if !names::is_serial(&request.barcode) {
            bad.add("barcode", "must be 1 to 64 visible characters without '/'");
        }
        let pool_name = bad
            .read("pool", names::pool_id(&request.pool))
            .unwrap_or_default();
        bad.check()?;
        let mut client = self.app.store.client().await?;
        let tx = client.transaction().await.map_err(store::Error::from)?;
        if !request.dry_run
            && let Some(answer) = mutation.begin_on(&tx).await?
        {
            return Ok(answer);
        }
        let pool = Store::pool_get_on(&*tx, pool_name)
            .await?
            .ok_or_else(|| status::not_found(&request.pool))?;
        let barcode = &request.barcode;
        order::is_inside_on(&tx, barcode).await?;
        order::for_data_on(&tx, barcode).await?;
        order::is_kept_on(&tx, barcode, &["erase", "format"]).await?;
        if !request.force {
            order::is_trusted_on(&tx, barcode).await?;
        }
        let fresh = (Uuid::new_v4(), Uuid::new_v4());
        let Some(volume) =
            volumes::volume_open_label_on(&tx, barcode, pool.id, pool.block_size, fresh).await?
        else {
            return Err(living(volumes::volume_get(&tx, barcode).await?, barcode));
        };
        let new = NewTask {
            kind: "label",
            volume_id: Some(volume),
            task: Task {
                forced: request.force,
                ..Task::default()
            },
            ..NewTask::default()
        };
        let job = jobs::job_create_task_on(&tx, &new, mutation.actor()).await?;
        if request.dry_run {
            let outlook = Some(reconcile::outlook_on(&tx, job).await?);
            let made = Made {
                outlook,
                ..Made::default()
            };
            return Ok(LabelVolumeResponse {
                job: String::new(),
                preview: made.preview(),
            });
        }
        let answer = LabelVolumeResponse {
            job: names::job(job),
            preview: None,
        };
        mutation.finish_on(&tx, &answer).await?;
        tx.commit().await.map_err(store::Error::from)?;
        self.registry.wake();
        Ok(answer)
    }
}

impl Volumes {
    async fn verify(
        &self,
        mutation: &Mutation,
        request: &VerifyVolumeRequest,
    ) -> Result<VerifyVolumeResponse, Status> {
        let barcode =
            names::volume_barcode(&request.name).map_err(|e| status::invalid("name", e))?;
        let of = sample::read(
            request.sample_percent,
            request.time_limit.as_ref(),
            request.seed,
        )?;
        let mut client = self.app.store.client().await?;
        let tx = client.transaction().await.map_err(store::Error::from)?;
        if !request.validate_only
            && let Some(answer) = mutation.begin_on(&tx).await?
        {
            return Ok(answer);
        }
        let volume = volumes::volume_get(&tx, barcode)
            .await?
            .ok_or_else(|| status::not_found(&request.name))?;
        let parts = verifications::verifiable_list(&tx, volume.recording_uuid).await?;
        let all = parts.len();
        let chosen = sample::choose(parts, |part: &Verifiable| part.byte_count, of);
        let bytes: i64 = chosen.iter().map(|part| part.byte_count).sum();
        if chosen.is_empty() {
            return Err(status::precondition(
                "VOLUME_EMPTY",
                format!("volume {barcode} holds no parts that could be verified"),
            ));
        }
        let mut answer = VerifyVolumeResponse {
            job: String::new(),
            part_count: chosen.len() as u64,
            byte_count: bytes as u64,
            total_part_count: all as u64,
            seed: of.map_or(0, |of| of.seed),
        };
        if request.validate_only {
            return Ok(answer);
        }
        let ids: Vec<i64> = chosen.iter().map(|part| part.id).collect();
        let new = NewVerification {
            volume_id: volume.id,
            parts: &ids,
            bytes,
            how: How {
                sample: of,
                ..How::default()
            },
            ..NewVerification::default()
        };
        let job = verifications::job_create_verify_on(&tx, &new, mutation.actor()).await?;
        answer.job = names::job(job);
        mutation.finish_on(&tx, &answer).await?;
        tx.commit().await.map_err(store::Error::from)?;
        self.registry.wake();
        Ok(answer)
    }
}

/// Why a volume of the catalog is not labelled again.
pub(super) fn living(volume: Option<VolumeRow>, barcode: &str) -> Status {
    match volume {
        Some(v) if v.state == "labelling" => status::precondition(
            "VOLUME_LABELLING",
            format!("volume {barcode} is being labelled: `taf job list` shows the job"),
        ),
        Some(v) if v.part_count > 0 => status::precondition(
            "VOLUME_HAS_PARTS",
            format!(
                "volume {barcode} holds {} parts of {} versions: choose another cartridge, or give them up with `taf volume erase {barcode} --force`",
                v.part_count, v.version_count
            ),
        ),
        _ => status::precondition(
            "VOLUME_LABELLED",
            format!("volume {barcode} has its label already: `taf volume show {barcode}` shows it"),
        ),
    }
}

/// A state as the API has it.
pub(super) fn state(stored: &str) -> VolumeState {
    match stored {
        "labelling" => VolumeState::Labelling,
        "appendable" => VolumeState::Appendable,
        "full" => VolumeState::Full,
        "read-only" => VolumeState::ReadOnly,
        "quarantined" => VolumeState::Quarantined,
        _ => VolumeState::Unlabelled,
    }
}

pub(super) fn message(row: &VolumeRow) -> Volume {
    // Nobody can tell which of the two is the volume, so neither is used while both are there.
    let (state, state_reason) = if row.seen_count > 1 {
        (
            VolumeState::Quarantined,
            format!(
                "the libraries show {} cartridges with barcode {}: take out all but the one that is meant",
                row.seen_count, row.barcode
            ),
        )
    } else {
        let reason = row.state_reason.clone().unwrap_or_default();
        (state(&row.state), reason)
    };
    let location = match (&row.drive, &row.library, row.address) {
        (Some((_, serial)), ..) => names::drive(serial),
        (None, Some(library), Some(address)) => names::slot(library, address as u32),
        _ => String::new(),
    };
    Volume {
        name: names::volume(&row.barcode),
        barcode: row.barcode.clone(),
        pool: names::pool(&row.pool),
        state: state.into(),
        state_reason,
        byte_count: row.byte_count as u64,
        part_count: row.part_count as u64,
        version_count: row.version_count as u64,
        last_location: match (&row.seen_library, row.seen_address) {
            (Some(library), Some(address)) if location.is_empty() => {
                names::slot(library, address as u32)
            }
            _ => String::new(),
        },
        last_seen_time: row.seen_at.filter(|_| location.is_empty()).map(timestamp),
        location,
        block_size: row.block_size as u32,
        recording_uuid: row.recording_uuid.to_string(),
        label_time: row.labelled_at.map(timestamp),
        last_write_time: row.written_at.map(timestamp),
        reserved_by: row.reserved_by.map(names::job).unwrap_or_default(),
        medium_serial: row.medium_serial.clone().unwrap_or_default(),
        health: None,
        suspect_time: row.suspect_since.map(timestamp),
        inspect_time: row.inspected_at.map(timestamp),
        free_time: None,
        reuse_time: None,
        reuse_reason: String::new(),
    }
}

fn tape_file(row: &TapeFileRow) -> TapeFile {
    TapeFile {
        number: row.number as u64,
        kind: match row.covered {
            Some(_) => "index",
            None if row.orphan => "orphan",
            None => "part",
        }
        .to_owned(),
        byte_count: row.byte_count as u64,
        first_block: row.first_block as u64,
        version: row
            .version
            .map(|(line, version)| names::version(line, version))
            .unwrap_or_default(),
        part_number: row.part_number as u32,
        published: row.published,
        indexed: row.indexed,
        covered_part_count: row.covered.unwrap_or(0) as u64,
        verify_time: row.verified_at.map(timestamp),
        damage: row.damage.clone().unwrap_or_default(),
    }
}

#[tonic::async_trait]
impl VolumeService for Volumes {
    async fn list_volumes(
        &self,
        request: Request<ListVolumesRequest>,
    ) -> Result<Response<ListVolumesResponse>, Status> {
        let request = request.into_inner();
        let pool = match request.pool.as_str() {
            "" => None,
            name => Some(names::pool_id(name).map_err(|e| status::invalid("pool", e))?),
        };
        let scope = format!("volumes pool={}", request.pool);
        let page = Page::read(
            &scope,
            request.page_size,
            &request.page_token,
            PAGE_DEFAULT,
            PAGE_MOST,
        )?;
        let client = self.app.store.client().await?;
        let mut rows =
            volumes::volume_list(&client, page.after_text()?, pool, page.limit()).await?;
        let next_page_token = page.cut(&mut rows, |row| row.barcode.clone());
        let barcodes: Vec<&str> = rows.iter().map(|row| row.barcode.as_str()).collect();
        let ledger = Ledger::load(&client, &[], &barcodes).await?;
        let free = rows.iter().filter(|row| row.freed_at.is_some());
        let recordings: Vec<Uuid> = free.map(|row| row.recording_uuid).collect();
        let held = needed::recordings_held(&client, &recordings).await?;
        let after = self.app.config.reuse_after;
        let listed = |row: &VolumeRow| {
            let mut volume = Volume {
                health: ledger.volume(&row.barcode).map(|health| Health {
                    reasons: Vec::new(),
                    alerts: Vec::new(),
                    ..health
                }),
                ..message(row)
            };
            let held = held.get(&row.recording_uuid);
            reuse::tell(&mut volume, row, None, held, after);
            volume
        };
        Ok(Response::new(ListVolumesResponse {
            volumes: rows.iter().map(listed).collect(),
            next_page_token,
        }))
    }

    async fn get_volume(
        &self,
        request: Request<GetVolumeRequest>,
    ) -> Result<Response<GetVolumeResponse>, Status> {
        let name = request.into_inner().name;
        let barcode = names::volume_barcode(&name).map_err(|e| status::invalid("name", e))?;
        let client = self.app.store.client().await?;
        let volume = volumes::volume_get(&client, barcode)
            .await?
            .ok_or_else(|| status::not_found(&name))?;
        let mut files = Vec::new();
        if volume.labelled_at.is_some() {
            files.push(TapeFile {
                kind: "label".to_owned(),
                ..TapeFile::default()
            });
        }
        let rows = volumes::volume_files(&client, volume.recording_uuid).await?;
        files.extend(rows.iter().map(tape_file));
        let ledger = Ledger::load(&client, &[], &[barcode]).await?;
        let needed = needed::volume_needed(&client, volume.recording_uuid).await?;
        let recording = volume.recording_uuid;
        let held = needed::recordings_held(&client, &[recording]).await?;
        let mut shown = Volume {
            health: ledger.volume(barcode),
            ..message(&volume)
        };
        let after = self.app.config.reuse_after;
        let held = held.get(&recording);
        reuse::tell(&mut shown, &volume, Some(&needed), held, after);
        Ok(Response::new(GetVolumeResponse {
            volume: Some(shown),
            files,
        }))
    }

    async fn verify_volume(
        &self,
        request: Request<VerifyVolumeRequest>,
    ) -> Result<Response<VerifyVolumeResponse>, Status> {
        let caller = Caller::of(&request)?.clone();
        let request = request.into_inner();
        let mutation = Mutation::new(
            &caller,
            "VolumeService.VerifyVolume",
            request.name.clone(),
            &request.request_id,
            &request,
        )?;
        if request.validate_only {
            return self.verify(&mutation, &request).await.map(Response::new);
        }
        let outcome = self.verify(&mutation, &request).await;
        mutation.concluded(&self.app.store, outcome).await
    }

    async fn label_volume(
        &self,
        request: Request<LabelVolumeRequest>,
    ) -> Result<Response<LabelVolumeResponse>, Status> {
        let caller = Caller::of(&request)?.clone();
        let request = request.into_inner();
        let mutation = Mutation::new(
            &caller,
            "VolumeService.LabelVolume",
            names::volume(&request.barcode),
            &request.request_id,
            &request,
        )?;
        let outcome = self.label(&mutation, &request).await;
        if request.dry_run {
            return outcome.map(Response::new);
        }
        mutation.concluded(&self.app.store, outcome).await
    }

    async fn label_volumes(
        &self,
        request: Request<LabelVolumesRequest>,
    ) -> Result<Response<LabelVolumesResponse>, Status> {
        let caller = Caller::of(&request)?.clone();
        let request = request.into_inner();
        let mutation = Mutation::new(
            &caller,
            "VolumeService.LabelVolumes",
            request.pool.as_str(),
            &request.request_id,
            &request,
        )?;
        let outcome = self.label_all(&mutation, &request).await;
        if request.dry_run {
            return outcome.map(Response::new);
        }
        mutation.concluded(&self.app.store, outcome).await
    }

    async fn inspect_volume(
        &self,
        request: Request<InspectVolumeRequest>,
    ) -> Result<Response<InspectVolumeResponse>, Status> {
        let caller = Caller::of(&request)?.clone();
        let request = request.into_inner();
        let barcode =
            names::volume_barcode(&request.name).map_err(|e| status::invalid("name", e))?;
        let (action, id) = ("VolumeService.InspectVolume", &request.request_id);
        let mutation = Mutation::new(&caller, action, request.name.clone(), id, &request)?;
        let inspect = Order::Inspect { barcode };
        let answer = |made: &[Made]| InspectVolumeResponse {
            job: made[0].job(),
            preview: made[0].preview(),
        };
        let (app, registry) = (&self.app, &self.registry);
        let outcome =
            order::carry_out(app, registry, &mutation, &inspect, request.dry_run, answer).await;
        if request.dry_run {
            return outcome.map(Response::new);
        }
        mutation.concluded(&self.app.store, outcome).await
    }

    async fn rescan_volume(
        &self,
        request: Request<RescanVolumeRequest>,
    ) -> Result<Response<RescanVolumeResponse>, Status> {
        let caller = Caller::of(&request)?.clone();
        let request = request.into_inner();
        let barcode =
            names::volume_barcode(&request.name).map_err(|e| status::invalid("name", e))?;
        let (action, id) = ("VolumeService.RescanVolume", &request.request_id);
        let mutation = Mutation::new(&caller, action, request.name.clone(), id, &request)?;
        let rescan = Order::Rescan { barcode };
        let answer = |made: &[Made]| RescanVolumeResponse {
            job: made[0].job(),
            preview: made[0].preview(),
        };
        let (app, registry) = (&self.app, &self.registry);
        let outcome =
            order::carry_out(app, registry, &mutation, &rescan, request.dry_run, answer).await;
        if request.dry_run {
            return outcome.map(Response::new);
        }
        mutation.concluded(&self.app.store, outcome).await
    }

    async fn reclaim_volumes(
        &self,
        request: Request<ReclaimVolumesRequest>,
    ) -> Result<Response<ReclaimVolumesResponse>, Status> {
        let caller = Caller::of(&request)?.clone();
        let request = request.into_inner();
        let subject = match request.names.as_slice() {
            [] => request.pool.clone(),
            [name] => name.clone(),
            [name, further @ ..] => format!("{name} and {} more", further.len()),
        };
        let (action, id) = ("VolumeService.ReclaimVolumes", &request.request_id);
        let mutation = Mutation::new(&caller, action, subject, id, &request)?;
        let outcome = reclaim::reclaim(&self.app, &self.registry, &mutation, &request).await;
        if request.validate_only {
            return outcome.map(Response::new);
        }
        mutation.concluded(&self.app.store, outcome).await
    }

    async fn erase_volume(
        &self,
        request: Request<EraseVolumeRequest>,
    ) -> Result<Response<EraseVolumeResponse>, Status> {
        let caller = Caller::of(&request)?.clone();
        let request = request.into_inner();
        let barcode =
            names::volume_barcode(&request.name).map_err(|e| status::invalid("name", e))?;
        let how = if request.force { " by force" } else { "" };
        let mutation = Mutation::new(
            &caller,
            "VolumeService.EraseVolume",
            format!("{}{how}", request.name),
            &request.request_id,
            &request,
        )?;
        let erase = Order::Erase {
            barcode,
            format: request.method() == EraseMethod::Format,
            thorough: request.method() == EraseMethod::Long,
            force: request.force,
        };
        let answer = |made: &[Made]| EraseVolumeResponse {
            job: made[0].job(),
            preview: made[0].preview(),
        };
        let (app, registry) = (&self.app, &self.registry);
        let outcome =
            order::carry_out(app, registry, &mutation, &erase, request.dry_run, answer).await;
        if request.dry_run {
            return outcome.map(Response::new);
        }
        mutation.concluded(&self.app.store, outcome).await
    }
}
