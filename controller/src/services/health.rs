//! Health of drives and volumes: mounts as they were counted, and what the core makes of them.

use std::collections::{BTreeMap, HashMap};

use taf_core::health::capacity::{self, AtEnd};
use taf_core::health::score::{self, Cartridge, Grade, Score};
use taf_core::health::verdict::{Subject, Verdict};
use taf_core::health::wear::{self, Life};
use taf_core::health::{self, Counts, Measure};
use taf_proto::v1::health_service_server::HealthService;
use taf_proto::v1::{
    AlertSeverity, Cleaning, GetDriveHealthRequest, GetDriveHealthResponse, GetVolumeHealthRequest,
    GetVolumeHealthResponse, Health, HealthGrade, HealthReason, HealthVerdict, ListMountsRequest,
    ListMountsResponse, Mount, PutDriveUpRequest, PutDriveUpResponse, TakeDriveDownRequest,
    TakeDriveDownResponse, TapeAlert,
};
use tonic::{Request, Response, Status};

use super::mutation::Mutation;
use super::paging::Page;
use super::{PAGE_DEFAULT, PAGE_MOST, names, status, timestamp};
use crate::access::Caller;
use crate::app::App;
use crate::session::Registry;
use crate::store::mounts::{self, AlertRow, DriveFacts, MountRow, VolumeFacts, Wanted};
use crate::store::{self, Client};

/// Newest mounts of all drives and volumes that bear witness in a verdict.
const WITNESSES: i64 = 2_000;
/// Longest reason that a person gives, in characters.
const REASON_MOST: usize = 400;

/// The name under which a measure is stored.
pub(super) fn measure_name(measure: Measure) -> &'static str {
    match measure {
        Measure::Note => "note",
        Measure::CrossTest => "cross-test",
        Measure::Clean => "clean",
        Measure::ReplaceCleaner => "replace-cleaner",
        Measure::DriveDown => "drive-down",
        Measure::RefuseWriting => "refuse-writing",
        Measure::VolumeReadOnly => "volume-read-only",
        Measure::RetireVolume => "retire-volume",
        Measure::Operator => "operator",
    }
}

/// The measure that is stored under a name.
pub(super) fn measure_of(name: &str) -> Measure {
    match name {
        "cross-test" => Measure::CrossTest,
        "clean" => Measure::Clean,
        "replace-cleaner" => Measure::ReplaceCleaner,
        "drive-down" => Measure::DriveDown,
        "refuse-writing" => Measure::RefuseWriting,
        "volume-read-only" => Measure::VolumeReadOnly,
        "retire-volume" => Measure::RetireVolume,
        "operator" => Measure::Operator,
        _ => Measure::Note,
    }
}

/// Mounts, oldest first, with their alerts: what judgements are made from.
pub(super) struct Ledger {
    rows: BTreeMap<i64, MountRow>,
    alerts: HashMap<i64, Vec<AlertRow>>,
    judged: Vec<health::Mount>,
    drives: Vec<DriveFacts>,
    volumes: Vec<VolumeFacts>,
}

impl Ledger {
    /// Everything that is needed to judge these drives (by serial number) and volumes (by barcode).
    pub(super) async fn load(
        client: &Client,
        drives: &[&str],
        volumes: &[&str],
    ) -> Result<Self, store::Error> {
        let mut rows = BTreeMap::new();
        if !drives.is_empty() || !volumes.is_empty() {
            let own = mounts::mount_list_newest(client, drives, volumes, score::WINDOW as i64);
            rows.extend(own.await?.into_iter().map(|row| (row.id, row)));
            let witnesses = mounts::mount_list(client, Wanted::default(), i64::MAX, WITNESSES);
            rows.extend(witnesses.await?.into_iter().map(|row| (row.id, row)));
        }
        let ids: Vec<i64> = rows.keys().copied().collect();
        let mut alerts: HashMap<i64, Vec<AlertRow>> = HashMap::new();
        for alert in mounts::alert_list(client, &ids).await? {
            alerts.entry(alert.mount_id).or_default().push(alert);
        }
        let judged = rows
            .values()
            .filter_map(|row| judged(row, alerts.get(&row.id).map_or(&[][..], Vec::as_slice)))
            .collect();
        Ok(Self {
            judged,
            rows,
            alerts,
            drives: mounts::drive_facts(client, drives).await?,
            volumes: mounts::volume_facts(client, volumes).await?,
        })
    }

    /// Whether a drive wants to be cleaned, and why it gets no work.
    pub(super) fn drive_state(&self, serial: &str) -> (Cleaning, String) {
        let facts = self.drives.iter().find(|facts| facts.serial == serial);
        facts.map_or((Cleaning::Unspecified, String::new()), |facts| {
            let down = facts.down_reason.clone().unwrap_or_default();
            (cleaning(&facts.cleaning), down)
        })
    }

    /// What a drive is worth; `None` if there is none.
    pub(super) fn drive(&self, serial: &str) -> Option<Health> {
        let facts = self.drives.iter().find(|facts| facts.serial == serial)?;
        let own: Vec<&MountRow> = self
            .rows
            .values()
            .filter(|row| row.drive == serial)
            .collect();
        let found = score::score(Subject::Drive(serial), &self.judged, &Cartridge::default());
        let health = self.health(found, &own, names::volume);
        Some(Health {
            mount_count: facts.mount_count as u64,
            ..health
        })
    }

    /// What a volume is worth; `None` if there is none.
    pub(super) fn volume(&self, barcode: &str) -> Option<Health> {
        let facts = self.volumes.iter().find(|facts| facts.barcode == barcode)?;
        let own: Vec<&MountRow> = self
            .rows
            .values()
            .filter(|row| row.volume.as_deref() == Some(barcode))
            .collect();
        let cartridge = cartridge(facts, &own);
        let found = score::score(Subject::Volume(barcode), &self.judged, &cartridge);
        let health = self.health(found, &own, names::drive);
        let wear = cartridge.wear.as_ref();
        let worn = wear
            .filter(|wear| wear.worth_saying())
            .map(|wear| format!("{} % of its life is used: {}", wear.percent, wear.of));
        let retire = facts
            .retire_reason
            .clone()
            .or(worn)
            .or(cartridge.loss.map(|loss| loss.why));
        Some(Health {
            wear_percent: wear.map(|wear| wear.percent.min(u64::from(u32::MAX)) as u32),
            wear: wear.map(|wear| wear.of.clone()).unwrap_or_default(),
            retire_reason: retire.unwrap_or_default(),
            mount_count: facts.mount_count as u64,
            ..health
        })
    }

    fn health(&self, found: Score, own: &[&MountRow], other: fn(&str) -> String) -> Health {
        let (verdict, with, next_step) = match found.verdict {
            Verdict::Clear => (HealthVerdict::Clear, Vec::new(), String::new()),
            Verdict::Guilty { witnesses } => (HealthVerdict::Guilty, witnesses, String::new()),
            Verdict::Excused { culprits } => (HealthVerdict::Excused, culprits, String::new()),
            Verdict::Unknown { with, next } => (HealthVerdict::Unknown, with, next),
        };
        let grade = match found.value.map(Grade::of) {
            None => HealthGrade::Unspecified,
            Some(Grade::Good) => HealthGrade::Good,
            Some(Grade::Fair) => HealthGrade::Fair,
            Some(Grade::Poor) => HealthGrade::Poor,
            Some(Grade::Critical) => HealthGrade::Critical,
        };
        Health {
            grade: grade.into(),
            score: found.value.map(u32::from),
            reasons: found
                .reasons
                .into_iter()
                .map(|reason| HealthReason {
                    points: reason.points.into(),
                    message: reason.text,
                })
                .collect(),
            seed_score: own
                .iter()
                .rev()
                .find_map(|row| row.seed_score)
                .map(|score| score as u32),
            verdict: verdict.into(),
            witnesses: with.iter().map(|id| other(id)).collect(),
            next_step,
            alerts: self.recent_alerts(own),
            ..Health::default()
        }
    }

    /// Alerts of the newest mounts, the newest first, each flag once.
    fn recent_alerts(&self, own: &[&MountRow]) -> Vec<TapeAlert> {
        let mut found: Vec<TapeAlert> = Vec::new();
        for row in own.iter().rev().take(score::WINDOW) {
            for alert in self.alerts.get(&row.id).into_iter().flatten() {
                put_alert(&mut found, alert, row.began_at);
            }
        }
        found
    }

    /// The newest mounts of a drive or a volume, the newest first.
    fn newest(&self, is_own: impl Fn(&MountRow) -> bool) -> Vec<Mount> {
        let own = self.rows.values().rev().filter(|row| is_own(row));
        own.take(score::WINDOW)
            .map(|row| mount(row, self.alerts.get(&row.id).map_or(&[], Vec::as_slice)))
            .collect()
    }
}

/// A mount as the core judges it; none if the cartridge is none of the catalog's, or the work has not ended.
fn judged(row: &MountRow, alerts: &[AlertRow]) -> Option<health::Mount> {
    let number = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok());
    let n = &row.numbers;
    let alerts: Vec<health::Alert> = alerts
        .iter()
        .map(|alert| health::Alert {
            flag: alert.flag as u8,
            name: alert.title.clone(),
            measure: measure_of(&alert.measure),
        })
        .collect();
    // Of work that lasts, alerts count and numbers are not there yet.
    if row.ended_at.is_none() && alerts.is_empty() {
        return None;
    }
    Some(health::Mount {
        drive: row.drive.clone(),
        volume: row.volume.clone()?,
        counts: Counts {
            written_bytes: number(n.written_bytes),
            read_bytes: number(n.read_bytes),
            write_corrected: number(n.write_corrected),
            write_uncorrected: number(n.write_uncorrected),
            read_corrected: number(n.read_corrected),
            read_uncorrected: number(n.read_uncorrected),
            suspends: number(n.suspends),
            fatal_suspends: number(n.fatal_suspends),
        },
        alerts,
        failed: row.fault_reason.is_some(),
    })
}

/// What a volume's mounts say of the cartridge itself.
fn cartridge(facts: &VolumeFacts, own: &[&MountRow]) -> Cartridge {
    let newest = |number: fn(&MountRow) -> Option<i64>| {
        let found = own.iter().rev().find_map(|row| number(row));
        found.and_then(|number| u64::try_from(number).ok())
    };
    let native_bytes = newest(|row| row.numbers.native_bytes);
    let written = newest(|row| row.numbers.life_written);
    let read = newest(|row| row.numbers.life_read);
    let wear = wear::wear(&Life {
        moved_bytes: match (written, read) {
            (None, None) => None,
            (written, read) => Some(written.unwrap_or(0).saturating_add(read.unwrap_or(0))),
        },
        native_bytes,
        loads: newest(|row| row.numbers.load_count),
        mounts: u64::try_from(facts.mount_count)
            .ok()
            .filter(|&count| count > 0),
    });
    let at_end = own.iter().rev().find(|row| {
        row.early_warning && row.recording == Some(facts.recording) && row.end_block.is_some()
    });
    let loss = at_end.and_then(|row| {
        let of_recording = own
            .iter()
            .filter(|row| row.recording == Some(facts.recording));
        let rewrites: Option<i64> = of_recording.map(|row| row.numbers.write_retries).sum();
        capacity::loss(&AtEnd {
            achieved_bytes: (row.end_block? as u64).saturating_mul(facts.block_size as u64),
            native_bytes: native_bytes?,
            rewrites: rewrites.and_then(|count| u64::try_from(count).ok()),
            capacity_set: false,
        })
    });
    Cartridge { wear, loss }
}

/// Alerts of a job, the newest first, each flag once.
pub(super) async fn job_alerts(client: &Client, job: i64) -> Result<Vec<TapeAlert>, store::Error> {
    let mut found = Vec::new();
    for (alert, began_at) in mounts::alert_list_of_job(client, job).await? {
        put_alert(&mut found, &alert, began_at);
    }
    Ok(found)
}

fn put_alert(found: &mut Vec<TapeAlert>, alert: &AlertRow, began_at: jiff::Timestamp) {
    if !found.iter().any(|one| one.flag == alert.flag as u32) {
        found.push(tape_alert(alert, began_at));
    }
}

fn tape_alert(alert: &AlertRow, began_at: jiff::Timestamp) -> TapeAlert {
    let severity = match alert.severity.as_str() {
        "critical" => AlertSeverity::Critical,
        "warning" => AlertSeverity::Warning,
        _ => AlertSeverity::Information,
    };
    TapeAlert {
        flag: alert.flag as u32,
        title: alert.title.clone(),
        severity: severity.into(),
        meaning: alert.meaning.clone(),
        action: alert.advice.clone(),
        mount_time: Some(timestamp(began_at)),
    }
}

/// A mount as the API shows it.
fn mount(row: &MountRow, alerts: &[AlertRow]) -> Mount {
    let number = |number: Option<i64>| number.map(|number| number as u64);
    let n = &row.numbers;
    Mount {
        drive: names::drive(&row.drive),
        volume: row.volume.as_deref().map(names::volume).unwrap_or_default(),
        job: names::job(row.job),
        begin_time: Some(timestamp(row.began_at)),
        end_time: row.ended_at.map(timestamp),
        fault_reason: row.fault_reason.clone().unwrap_or_default(),
        written_byte_count: number(n.written_bytes),
        read_byte_count: number(n.read_bytes),
        medium_written_byte_count: number(n.medium_written),
        medium_read_byte_count: number(n.medium_read),
        write_corrected_count: number(n.write_corrected),
        write_uncorrected_count: number(n.write_uncorrected),
        read_corrected_count: number(n.read_corrected),
        read_uncorrected_count: number(n.read_uncorrected),
        write_retry_count: number(n.write_retries),
        read_retry_count: number(n.read_retries),
        suspend_count: number(n.suspends),
        fatal_suspend_count: number(n.fatal_suspends),
        native_byte_count: number(n.native_bytes),
        remaining_byte_count: number(n.remaining_bytes),
        early_warning: row.early_warning,
        medium_serial: row.medium_serial.clone().unwrap_or_default(),
        load_count: number(n.load_count),
        life_written_byte_count: number(n.life_written),
        life_read_byte_count: number(n.life_read),
        alerts: alerts
            .iter()
            .map(|alert| tape_alert(alert, row.began_at))
            .collect(),
    }
}

/// Whether a drive wants to be cleaned, as stored.
fn cleaning(stored: &str) -> Cleaning {
    match stored {
        "not-wanted" => Cleaning::NotWanted,
        "requested" => Cleaning::Requested,
        "required" => Cleaning::Required,
        _ => Cleaning::Unspecified,
    }
}

/// `taf.v1.HealthService`.
#[derive(Clone)]
pub struct Healths {
    app: App,
    registry: Registry,
}

impl Healths {
    /// The service.
    pub fn new(app: App, registry: Registry) -> Self {
        Self { app, registry }
    }

    /// Takes a drive down (with a reason) or puts it up.
    async fn switch<A: prost::Message + Default>(
        &self,
        mutation: &Mutation,
        name: &str,
        reason: Option<&str>,
        answer: A,
    ) -> Result<A, Status> {
        let serial = names::drive_serial(name).map_err(|e| status::invalid("name", e))?;
        let mut client = self.app.store.client().await?;
        let tx = client.transaction().await.map_err(store::Error::from)?;
        if let Some(answer) = mutation.begin_on(&tx).await? {
            return Ok(answer);
        }
        let id = mounts::drive_id(&tx, serial)
            .await?
            .ok_or_else(|| status::not_found(name))?;
        let done = match reason {
            Some(reason) => mounts::drive_down_on(&tx, id, reason).await?,
            None => mounts::drive_up_on(&tx, id).await?,
        };
        if !done {
            return Err(match reason {
                Some(_) => status::precondition(
                    "DRIVE_DOWN",
                    format!("drive {serial} is down already: `taf drive health {serial}` says why"),
                ),
                None => status::precondition(
                    "DRIVE_NOT_DOWN",
                    format!("drive {serial} is not down: there is nothing to change"),
                ),
            });
        }
        mutation.finish_on(&tx, &answer).await?;
        tx.commit().await.map_err(store::Error::from)?;
        self.registry.wake();
        Ok(answer)
    }
}

#[tonic::async_trait]
impl HealthService for Healths {
    async fn get_drive_health(
        &self,
        request: Request<GetDriveHealthRequest>,
    ) -> Result<Response<GetDriveHealthResponse>, Status> {
        let name = request.into_inner().name;
        let serial = names::drive_serial(&name).map_err(|e| status::invalid("name", e))?;
        let client = self.app.store.client().await?;
        let ledger = Ledger::load(&client, &[serial], &[]).await?;
        let health = ledger
            .drive(serial)
            .ok_or_else(|| status::not_found(&name))?;
        let (cleaning, down_reason) = ledger.drive_state(serial);
        Ok(Response::new(GetDriveHealthResponse {
            health: Some(health),
            cleaning: cleaning.into(),
            down_reason,
            mounts: ledger.newest(|row| row.drive == serial),
        }))
    }

    async fn get_volume_health(
        &self,
        request: Request<GetVolumeHealthRequest>,
    ) -> Result<Response<GetVolumeHealthResponse>, Status> {
        let name = request.into_inner().name;
        let barcode = names::volume_barcode(&name).map_err(|e| status::invalid("name", e))?;
        let client = self.app.store.client().await?;
        let ledger = Ledger::load(&client, &[], &[barcode]).await?;
        let health = ledger
            .volume(barcode)
            .ok_or_else(|| status::not_found(&name))?;
        Ok(Response::new(GetVolumeHealthResponse {
            health: Some(health),
            mounts: ledger.newest(|row| row.volume.as_deref() == Some(barcode)),
        }))
    }

    async fn list_mounts(
        &self,
        request: Request<ListMountsRequest>,
    ) -> Result<Response<ListMountsResponse>, Status> {
        let request = request.into_inner();
        let asked = |name: &str| (!name.is_empty()).then(|| name.to_owned());
        let (drive, volume, job) = (
            asked(&request.drive),
            asked(&request.volume),
            asked(&request.job),
        );
        let wanted = Wanted {
            drive: drive
                .as_deref()
                .map(names::drive_serial)
                .transpose()
                .map_err(|e| status::invalid("drive", e))?,
            volume: volume
                .as_deref()
                .map(names::volume_barcode)
                .transpose()
                .map_err(|e| status::invalid("volume", e))?,
            job: job
                .as_deref()
                .map(names::job_number)
                .transpose()
                .map_err(|e| status::invalid("job", e))?,
        };
        let scope = format!(
            "mounts {} {} {}",
            request.drive, request.volume, request.job
        );
        let page = Page::read(
            &scope,
            request.page_size,
            &request.page_token,
            PAGE_DEFAULT,
            PAGE_MOST,
        )?;
        let before = page.after_number()?.unwrap_or(i64::MAX);
        let client = self.app.store.client().await?;
        let mut rows = mounts::mount_list(&client, wanted, before, page.limit()).await?;
        let next_page_token = page.cut(&mut rows, |row| row.id.to_string());
        let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
        let alerts = mounts::alert_list(&client, &ids).await?;
        let found = rows.iter().map(|row| {
            let own: Vec<AlertRow> = alerts
                .iter()
                .filter(|alert| alert.mount_id == row.id)
                .cloned()
                .collect();
            mount(row, &own)
        });
        Ok(Response::new(ListMountsResponse {
            mounts: found.collect(),
            next_page_token,
        }))
    }

    async fn take_drive_down(
        &self,
        request: Request<TakeDriveDownRequest>,
    ) -> Result<Response<TakeDriveDownResponse>, Status> {
        let caller = Caller::of(&request)?.clone();
        let request = request.into_inner();
        if request.reason.trim().is_empty() || request.reason.chars().count() > REASON_MOST {
            return Err(status::invalid("reason", "must be 1 to 400 characters"));
        }
        let mutation = Mutation::new(
            &caller,
            "HealthService.TakeDriveDown",
            request.name.clone(),
            &request.request_id,
            &request,
        )?;
        let (name, reason) = (&request.name, Some(request.reason.as_str()));
        let outcome = self
            .switch(&mutation, name, reason, TakeDriveDownResponse {})
            .await;
        mutation.concluded(&self.app.store, outcome).await
    }

    async fn put_drive_up(
        &self,
        request: Request<PutDriveUpRequest>,
    ) -> Result<Response<PutDriveUpResponse>, Status> {
        let caller = Caller::of(&request)?.clone();
        let request = request.into_inner();
        let mutation = Mutation::new(
            &caller,
            "HealthService.PutDriveUp",
            request.name.clone(),
            &request.request_id,
            &request,
        )?;
        let outcome = self
            .switch(&mutation, &request.name, None, PutDriveUpResponse {})
            .await;
        mutation.concluded(&self.app.store, outcome).await
    }
}
