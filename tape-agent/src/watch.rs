//! Watching the health of drive and cartridge while they work: counters at the beginning and the end of a mount, alerts in
//! between. The one reader of `TapeAlert`.
//!
//! A mount is one assignment's use of a cartridge: from when it is ready until the work ends. A cartridge that stays in the
//! drive for the next job is mounted anew for this purpose, so that errors are laid at the right job's door.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use taf_drive::health::{Alert, AlertPage, Alerts, Measure, Severity, Snapshot, Statistics};
use taf_drive::{Drive, Error};
use taf_proto::agent::{AssignmentKey, LifeUsage, RaisedAlert, ReportMountRequest, raised_alert};
use taf_proto::v1::{self, AlertSeverity, Cleaning, Fault};
use uuid::Uuid;

use crate::clock;
use crate::device::Device;
use crate::fault::{fault, of_drive};
use crate::mounts::Mounts;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Watch {
    serial: String,
    mounts: Mounts,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Flags that were reported and that the drive still shows.
    known: Alerts,
    open: Option<Open>,
}

struct Open {
    report: ReportMountRequest,
    begin: Snapshot,
    writes: bool,
    /// Flags of this mount.
    alerts: Alerts,
    /// Reason of a failure of drive or cartridge.
    failed: Option<String>,
}

/// What the drive shows.
#[derive(Clone, Copy)]
struct Shown {
    /// All of it.
    active: Alerts,
    /// What was not there when it was last read.
    fresh: Alerts,
}

impl Watch {
    /// Of the drive with this serial number.
    pub fn new(serial: &str, mounts: Mounts) -> Watch {
        Watch {
            serial: serial.to_owned(),
            mounts,
            state: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Plain values, whole after every statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A cartridge is ready for an assignment. A drive that must not be used for it is a fault.
    pub fn begin(
        &self,
        drive: &mut dyn Drive,
        key: AssignmentKey,
        barcode: &str,
        writes: bool,
    ) -> Result<(), Fault> {
        let said = |error: &Error| of_drive(error, "asking for the health of", barcode);
        let begin = Snapshot::take(drive).map_err(|e| said(&e))?;
        let mut state = self.lock();
        if let Some(open) = state.open.take() {
            // Its end was never told; what is known of it is kept.
            self.close(open);
        }
        state.open = Some(Open {
            report: ReportMountRequest {
                mount_uuid: Uuid::new_v4().as_bytes().to_vec().into(),
                key: Some(key),
                drive_serial: self.serial.clone(),
                barcode: barcode.to_owned(),
                mount: Some(v1::Mount {
                    begin_time: Some(now()),
                    ..v1::Mount::default()
                }),
                ..ReportMountRequest::default()
            },
            begin,
            writes,
            alerts: Alerts::default(),
            failed: None,
        });
        drop(state);
        self.admit(drive)
    }

    /// Looks for what forbids the work: at its beginning, and again when the tape is where it begins.
    pub fn admit(&self, drive: &mut dyn Drive) -> Result<(), Fault> {
        let mut state = self.lock();
        let Some(open) = &state.open else {
            return Ok(());
        };
        let (barcode, writes) = (open.report.barcode.clone(), open.writes);
        let shown = self
            .look(&mut state, drive)
            .map_err(|error| of_drive(&error, "asking for alerts on", &barcode))?;
        let stops = |alert: &&Alert| match alert.measure {
            // It took the drive down when it was first heard of. If the drive has work all the same, a person put it up.
            Measure::DriveDown => shown.fresh.iter().any(|fresh| fresh.flag == alert.flag),
            Measure::RefuseWriting | Measure::VolumeReadOnly => writes,
            // A failure before this work is no failure of this work.
            _ => false,
        };
        stopped_by(shown.active.iter().find(stops), &barcode)
    }

    /// The cartridge is the volume that was meant, of this density (0: not known).
    pub fn proved(&self, density: u8) {
        if let Some(open) = &mut self.lock().open {
            open.report.proved = true;
            open.report.density = density.into();
        }
    }

    /// The drive failed, although the work may go on with another cartridge.
    pub fn failed(&self, error: &Error) {
        let reason = of_drive(error, "", "").reason;
        if let Some(open) = &mut self.lock().open
            && is_of_hardware(&reason)
        {
            open.failed = Some(reason);
        }
    }

    /// Looks for alerts between two pieces of work. One that must stop it is a fault.
    pub fn check(&self, drive: &mut dyn Drive) -> Result<(), Fault> {
        let mut state = self.lock();
        let Some(open) = &state.open else {
            return Ok(());
        };
        let (barcode, writes) = (open.report.barcode.clone(), open.writes);
        let shown = self
            .look(&mut state, drive)
            .map_err(|error| of_drive(&error, "asking for alerts on", &barcode))?;
        let stops = |alert: &&Alert| alert.stops_work() || (writes && alert.stops_writing());
        stopped_by(shown.fresh.iter().find(stops), &barcode)
    }

    /// Reads the flags, and keeps those that are fresh before anybody acts on them.
    fn look(&self, state: &mut State, drive: &mut dyn Drive) -> Result<Shown, Error> {
        let Some((active, page)) = Alerts::read(drive)? else {
            return Ok(Shown {
                active: Alerts::default(),
                fresh: Alerts::default(),
            });
        };
        let fresh = match page {
            AlertPage::Response => active.since(state.known),
            AlertPage::ClearedOnRead => active,
        };
        if page == AlertPage::Response {
            state.known = active;
        }
        if let Some(open) = &mut state.open
            && !fresh.is_empty()
        {
            open.alerts = open.alerts.and(fresh);
            open.report.alerts = open.alerts.iter().map(raised).collect();
            self.mounts.keep(&open.report, true);
        }
        Ok(Shown { active, fresh })
    }

    /// The work is over. Call it on a thread that may block, before the cartridge is let go.
    pub fn end(&self, device: &Device, outcome: Option<&Fault>) {
        let mut state = self.lock();
        if state.open.is_none() {
            return;
        }
        let counted = device.look(|drive| {
            let shown = self.look(&mut state, drive)?;
            let end = Snapshot::take(drive)?;
            let position = match &state.open {
                Some(open) if open.writes => drive.position().ok(),
                _ => None,
            };
            Ok((shown, end, position))
        });
        let Some(mut open) = state.open.take() else {
            return;
        };
        if let Some(fault) = outcome.filter(|fault| is_of_hardware(&fault.reason)) {
            open.failed = Some(fault.reason.clone());
        }
        if let Some((shown, end, position)) = counted {
            count(&mut open, &end);
            open.report.cleaning = cleaning(&end.statistics, shown.active).into();
            if let (Some(position), Some(mount)) = (position, open.report.mount.as_mut()) {
                mount.early_warning = position.end_of_medium || position.programmable_early_warning;
                open.report.end_block = position.block;
            }
        }
        self.close(open);
    }

    fn close(&self, mut open: Open) {
        if let Some(mount) = open.report.mount.as_mut() {
            mount.end_time = Some(now());
            mount.fault_reason = open.failed.unwrap_or_default();
        }
        self.mounts.keep(&open.report, true);
    }
}

fn now() -> prost_types::Timestamp {
    let nanos = clock::unix_nanos();
    prost_types::Timestamp {
        seconds: nanos.div_euclid(1_000_000_000),
        nanos: nanos.rem_euclid(1_000_000_000) as i32,
    }
}

/// Whether a fault speaks of drive or cartridge, and not of people, peers or the catalog.
fn is_of_hardware(reason: &str) -> bool {
    matches!(
        reason,
        "MEDIUM_ERROR"
            | "DRIVE_FAILED"
            | "LABEL_UNREADABLE"
            | "LABEL_DIFFERS"
            | "POSITION_UNEXPECTED"
            | "TAPE_ALERT"
    )
}

fn stopped_by(alert: Option<&Alert>, barcode: &str) -> Result<(), Fault> {
    let Some(alert) = alert else {
        return Ok(());
    };
    Err(fault(
        "TAPE_ALERT",
        format!(
            "the drive raised TapeAlert {:02X}h, {}, with cartridge {barcode}: {}; committed parts are safe",
            alert.flag, alert.name, alert.meaning
        ),
        alert.action,
    ))
}

/// Puts the differences since the beginning into the report.
fn count(open: &mut Open, end: &Snapshot) {
    let Some(mount) = open.report.mount.as_mut() else {
        return;
    };
    let counts = end.statistics.since(&open.begin.statistics);
    let memory = end.memory.clone().or_else(|| open.begin.memory.clone());
    let memory = memory.unwrap_or_default();
    *mount = v1::Mount {
        written_byte_count: counts.host_written,
        read_byte_count: counts.host_read,
        medium_written_byte_count: counts.medium_written,
        medium_read_byte_count: counts.medium_read,
        write_corrected_count: counts.write.corrected,
        write_uncorrected_count: counts.write.uncorrected,
        read_corrected_count: counts.read.corrected,
        read_uncorrected_count: counts.read.uncorrected,
        write_retry_count: counts.write_retries,
        read_retry_count: counts.read_retries,
        suspend_count: counts.suspends,
        fatal_suspend_count: counts.fatal_suspends,
        native_byte_count: end.statistics.native_capacity.or(memory.capacity),
        remaining_byte_count: end.statistics.remaining.or(memory.remaining),
        medium_serial: memory.serial,
        load_count: memory.loads,
        life_written_byte_count: memory.life_written.or(end.statistics.life_written),
        life_read_byte_count: memory.life_read.or(end.statistics.life_read),
        ..std::mem::take(mount)
    };
    open.report.usage = end.statistics.usage.map(|usage| LifeUsage {
        read_retry_count: usage.read_retries,
        write_retry_count: usage.write_retries,
        unrecovered_read_count: usage.unrecovered_reads,
        unrecovered_write_count: usage.unrecovered_writes,
        suspended_read_count: usage.suspended_reads,
        suspended_write_count: usage.suspended_writes,
        fatal_suspended_read_count: usage.fatal_suspended_reads,
        fatal_suspended_write_count: usage.fatal_suspended_writes,
    });
}

/// What the drive's status says, and what its alerts say.
fn cleaning(statistics: &Statistics, active: Alerts) -> Cleaning {
    const CLEAN_NOW: u8 = 20;
    let now = active.iter().any(|alert| alert.flag == CLEAN_NOW);
    let some = active.iter().any(|alert| alert.measure == Measure::Clean);
    match (statistics.cleaning_required, statistics.cleaning_requested) {
        _ if now => Cleaning::Required,
        (Some(true), _) => Cleaning::Required,
        (_, Some(true)) => Cleaning::Requested,
        _ if some => Cleaning::Requested,
        (None, None) => Cleaning::Unspecified,
        _ => Cleaning::NotWanted,
    }
}

fn raised(alert: &Alert) -> RaisedAlert {
    use raised_alert::Measure as Wire;
    let severity = match alert.severity {
        Severity::Information => AlertSeverity::Information,
        Severity::Warning => AlertSeverity::Warning,
        Severity::Critical => AlertSeverity::Critical,
    };
    let measure = match alert.measure {
        Measure::Note => Wire::Note,
        Measure::CrossTest => Wire::CrossTest,
        Measure::Clean => Wire::Clean,
        Measure::ReplaceCleaner => Wire::ReplaceCleaner,
        Measure::DriveDown => Wire::DriveDown,
        Measure::RefuseWriting => Wire::RefuseWriting,
        Measure::VolumeReadOnly => Wire::VolumeReadOnly,
        Measure::RetireVolume => Wire::RetireVolume,
        Measure::Operator => Wire::Operator,
    };
    RaisedAlert {
        alert: Some(v1::TapeAlert {
            flag: alert.flag.into(),
            title: alert.name.to_owned(),
            severity: severity.into(),
            meaning: alert.meaning.to_owned(),
            action: alert.action.to_owned(),
            mount_time: None,
        }),
        measure: measure.into(),
    }
}
