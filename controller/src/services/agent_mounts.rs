//! `taf.agent.v1.MountService`: what drives' workers count and hear of alerts, and what follows from it.

use taf_core::health::Measure;
use taf_core::health::measure::{Raised, consequences};
use taf_core::health::seed::{self, Usage};
use taf_proto::agent::mount_service_server::MountService;
use taf_proto::agent::{
    LifeUsage, RaisedAlert, ReportMountRequest, ReportMountResponse, raised_alert,
};
use taf_proto::v1::{AlertSeverity, Cleaning};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::health::{measure_name, measure_of};
use super::status;
use crate::access::Caller;
use crate::session::Registry;
use crate::store::mounts::{self, AlertRow, Numbers, Reported, Scope};
use crate::store::volumes::{self, Cartridge};
use crate::store::{self, Store, Transaction, bigint, cleaning, orphans};

/// Flags that there are.
const FLAGS: usize = 64;

/// The service.
#[derive(Clone)]
pub struct AgentMounts {
    store: Store,
    registry: Registry,
}

impl AgentMounts {
    /// The service. What follows from a report wakes the reconciler.
    pub fn new(store: Store, registry: Registry) -> Self {
        Self { store, registry }
    }
}

#[tonic::async_trait]
impl MountService for AgentMounts {
    async fn report_mount(
        &self,
        request: Request<ReportMountRequest>,
    ) -> Result<Response<ReportMountResponse>, Status> {
        let agent = Caller::agent(&request)?.id.clone();
        let request = request.into_inner();
        let reported = read(&request)?;
        let mut client = self.store.client().await?;
        let tx = client.transaction().await.map_err(store::Error::from)?;
        let scope = scope_on(&tx, &agent, &request).await?;
        let mount = mounts::mount_put_on(&tx, &scope, &reported).await?;
        let alerts: Vec<AlertRow> = request
            .alerts
            .iter()
            .filter_map(|alert| alert_row(mount, alert))
            .collect();
        let fresh = mounts::alert_add_on(&tx, mount, &alerts).await?;
        if let (true, Some((volume, _))) = (request.proved, scope.volume) {
            let serial = reported.medium_serial.as_deref().unwrap_or_default();
            let cartridge = Cartridge::reported(serial, request.density);
            volumes::volume_proved_on(&tx, volume, &cartridge).await?;
        }
        let acted = act_on(&tx, &scope, &request, &alerts, &fresh).await?;
        tx.commit().await.map_err(store::Error::from)?;
        if acted {
            self.registry.wake();
        }
        Ok(Response::new(ReportMountResponse {}))
    }
}

async fn scope_on(
    tx: &Transaction<'_>,
    agent: &str,
    request: &ReportMountRequest,
) -> Result<Scope, Status> {
    let key = request.key.unwrap_or_default();
    let generation = key.generation.unwrap_or_default();
    let stale = || {
        status::precondition(
            "STALE_ASSIGNMENT",
            format!(
                "attempt {} of drive {} is not known",
                key.attempt, request.drive_serial
            ),
        )
    };
    let number = |number| bigint(number).map_err(|_| stale());
    let key = (
        number(key.attempt)?,
        number(generation.epoch)?,
        number(generation.counter)?,
    );
    mounts::mount_scope(tx, key, agent, &request.drive_serial, &request.barcode)
        .await?
        .ok_or_else(stale)
}

/// What the report says, with everything checked.
fn read(request: &ReportMountRequest) -> Result<Reported, Status> {
    let bad = |field, why: &str| status::invalid(field, why);
    let mount_uuid =
        Uuid::from_slice(&request.mount_uuid).map_err(|_| bad("mount_uuid", "is not 16 bytes"))?;
    let mount = request
        .mount
        .as_ref()
        .ok_or_else(|| bad("mount", "is missing"))?;
    if request.alerts.len() > FLAGS {
        return Err(bad("alerts", "has more than there are flags"));
    }
    let time = |stamp: &prost_types::Timestamp| {
        jiff::Timestamp::new(stamp.seconds, stamp.nanos)
            .map_err(|_| bad("mount", "has a time that there is not"))
    };
    let began = mount
        .begin_time
        .as_ref()
        .ok_or_else(|| bad("mount.begin_time", "is missing"))?;
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    // What no counter reaches is one that is broken: it is not known.
    let number = |number: Option<u64>| number.and_then(|number| i64::try_from(number).ok());
    Ok(Reported {
        mount_uuid,
        began_at: time(began)?,
        ended_at: mount.end_time.as_ref().map(time).transpose()?,
        fault_reason: text(&mount.fault_reason),
        numbers: Numbers {
            written_bytes: number(mount.written_byte_count),
            read_bytes: number(mount.read_byte_count),
            medium_written: number(mount.medium_written_byte_count),
            medium_read: number(mount.medium_read_byte_count),
            write_corrected: number(mount.write_corrected_count),
            write_uncorrected: number(mount.write_uncorrected_count),
            read_corrected: number(mount.read_corrected_count),
            read_uncorrected: number(mount.read_uncorrected_count),
            write_retries: number(mount.write_retry_count),
            read_retries: number(mount.read_retry_count),
            suspends: number(mount.suspend_count),
            fatal_suspends: number(mount.fatal_suspend_count),
            native_bytes: number(mount.native_byte_count),
            remaining_bytes: number(mount.remaining_byte_count),
            load_count: number(mount.load_count),
            life_written: number(mount.life_written_byte_count),
            life_read: number(mount.life_read_byte_count),
        },
        early_warning: mount.early_warning,
        end_block: number(Some(request.end_block)).filter(|&block| block > 0),
        medium_serial: text(&mount.medium_serial),
        seed_score: request
            .usage
            .as_ref()
            .map(|usage| i16::from(seed_score(usage))),
    })
}

fn seed_score(usage: &LifeUsage) -> u8 {
    seed::score(&Usage {
        read_retries: usage.read_retry_count,
        write_retries: usage.write_retry_count,
        unrecovered_reads: usage.unrecovered_read_count,
        unrecovered_writes: usage.unrecovered_write_count,
        suspended_reads: usage.suspended_read_count,
        suspended_writes: usage.suspended_write_count,
        fatal_suspended_reads: usage.fatal_suspended_read_count,
        fatal_suspended_writes: usage.fatal_suspended_write_count,
    })
}

/// A flag that there is not says nothing.
fn alert_row(mount: i64, raised: &RaisedAlert) -> Option<AlertRow> {
    let alert = raised.alert.as_ref()?;
    let flag = i16::try_from(alert.flag)
        .ok()
        .filter(|flag| (1..=64).contains(flag))?;
    let severity = match alert.severity() {
        AlertSeverity::Critical => "critical",
        AlertSeverity::Warning => "warning",
        AlertSeverity::Information | AlertSeverity::Unspecified => "information",
    };
    Some(AlertRow {
        mount_id: mount,
        flag,
        title: alert.title.clone(),
        severity: severity.to_owned(),
        measure: measure_name(measure(raised.measure())).to_owned(),
        meaning: alert.meaning.clone(),
        advice: alert.action.clone(),
    })
}

fn measure(measure: raised_alert::Measure) -> Measure {
    use raised_alert::Measure as Wire;
    match measure {
        Wire::Unspecified | Wire::Note => Measure::Note,
        Wire::CrossTest => Measure::CrossTest,
        Wire::Clean => Measure::Clean,
        Wire::ReplaceCleaner => Measure::ReplaceCleaner,
        Wire::DriveDown => Measure::DriveDown,
        Wire::RefuseWriting => Measure::RefuseWriting,
        Wire::VolumeReadOnly => Measure::VolumeReadOnly,
        Wire::RetireVolume => Measure::RetireVolume,
        Wire::Operator => Measure::Operator,
    }
}

/// Does what follows from alerts that are new. Says whether anything changed that others decide by.
async fn act_on(
    tx: &Transaction<'_>,
    scope: &Scope,
    request: &ReportMountRequest,
    alerts: &[AlertRow],
    fresh: &[i16],
) -> Result<bool, store::Error> {
    let asked = match request.cleaning() {
        Cleaning::Unspecified => "unknown",
        Cleaning::NotWanted => "not-wanted",
        Cleaning::Requested => "requested",
        Cleaning::Required => "required",
    };
    let mut acted = cleaning::cleaning_asked_on(tx, scope.drive_id, asked).await?;
    let raised: Vec<Raised> = alerts
        .iter()
        .filter(|alert| fresh.contains(&alert.flag))
        .map(|alert| Raised {
            flag: alert.flag as u8,
            name: alert.title.clone(),
            meaning: alert.meaning.clone(),
            measure: measure_of(&alert.measure),
        })
        .collect();
    for alert in &raised {
        tracing::warn!(
            drive = request.drive_serial,
            barcode = request.barcode,
            flag = alert.flag,
            name = alert.name,
            "the drive raised an alert"
        );
    }
    let found = consequences(&raised);
    if let Some(reason) = &found.drive_down {
        acted |= mounts::drive_down_on(tx, scope.drive_id, reason).await?;
        tracing::warn!(
            drive = request.drive_serial,
            reason,
            "the drive gets no more work"
        );
    }
    if let Some((volume, recording)) = scope.volume {
        if let Some(reason) = &found.volume_read_only {
            acted |= orphans::recording_verdict_on(tx, recording, "read-only", reason).await?;
        }
        if let Some(reason) = &found.retire_volume {
            mounts::volume_retire_on(tx, volume, reason).await?;
        }
    }
    Ok(acted)
}
