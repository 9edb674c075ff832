//! What drives and volumes are worth, as people see it: shared by `taf drive health` and `taf volume health`.

use taf_proto::v1::{AlertSeverity, Health, HealthGrade, HealthVerdict, Mount, TapeAlert};

use crate::failure::Failure;
use crate::human;
use crate::output::{Output, Rows};
use crate::resource::id;

/// The grade and the score in a few characters.
pub fn short(health: Option<&Health>) -> String {
    let Some(health) = health else {
        return String::new();
    };
    let word = match health.grade() {
        HealthGrade::Unspecified => return String::new(),
        HealthGrade::Good => "good",
        HealthGrade::Fair => "fair",
        HealthGrade::Poor => "poor",
        HealthGrade::Critical => "critical",
    };
    health
        .score
        .map_or_else(|| word.to_owned(), |score| format!("{word} {score}"))
}

/// Shows it all: score, reasons, verdict, alerts.
pub fn show(health: &Health, out: &mut Output) -> Result<(), Failure> {
    let verdict = match health.verdict() {
        HealthVerdict::Unspecified | HealthVerdict::Clear => String::new(),
        HealthVerdict::Guilty => format!("it is this one: {} agree", witnesses(health)),
        HealthVerdict::Excused => format!(
            "not this one: it failed with {} only, known bad",
            witnesses(health)
        ),
        HealthVerdict::Unknown => format!("unknown: it failed with {}", witnesses(health)),
    };
    let score = match short(Some(health)) {
        none if none.is_empty() => "unknown: nothing was counted yet".to_owned(),
        some => some,
    };
    for (key, value) in [
        ("health", score),
        (
            "by its life",
            health
                .seed_score
                .map(|score| score.to_string())
                .unwrap_or_default(),
        ),
        ("verdict", verdict),
        ("next", health.next_step.clone()),
        (
            "wear",
            health
                .wear_percent
                .map(|p| format!("{p} %: {}", health.wear))
                .unwrap_or_default(),
        ),
        ("retire", health.retire_reason.clone()),
        ("mounts", human::count(health.mount_count)),
    ] {
        if !value.is_empty() {
            out.line(format!("{key:<13} {}", human::clean(&value)))?;
        }
    }
    for reason in &health.reasons {
        out.line(format!(
            "{:<13} -{} {}",
            "because",
            reason.points,
            human::clean(&reason.message)
        ))?;
    }
    alerts(&health.alerts, out)
}

fn witnesses(health: &Health) -> String {
    let names: Vec<&str> = health.witnesses.iter().map(|name| id(name)).collect();
    names.join(" and ")
}

/// One line an alert, and what to do.
pub fn alerts(alerts: &[TapeAlert], out: &mut Output) -> Result<(), Failure> {
    for alert in alerts {
        let severity = match alert.severity() {
            AlertSeverity::Critical => "critical",
            AlertSeverity::Warning => "warning",
            AlertSeverity::Information | AlertSeverity::Unspecified => "information",
        };
        let text = format!(
            "{:02X}h {} ({severity}, {}): {}; {}",
            alert.flag,
            alert.title,
            human::time(alert.mount_time.as_ref()),
            alert.meaning,
            alert.action
        );
        out.line(format!("{:<13} {}", "alert", human::clean(&text)))?;
    }
    Ok(())
}

/// Mounts as a table.
pub fn mounts(mounts: &[Mount]) -> Rows {
    let mut rows = Rows::new(&[
        "BEGUN",
        "DRIVE",
        "VOLUME",
        ">JOB",
        ">WRITTEN",
        ">READ",
        ">CORRECTED",
        ">LOST",
        ">WENT BACK",
        "ALERTS",
        "FAULT",
    ]);
    for mount in mounts {
        let size = |bytes: Option<u64>| bytes.map(human::size).unwrap_or_default();
        let sum = |one: Option<u64>, other: Option<u64>| match (one, other) {
            (None, None) => String::new(),
            (one, other) => human::count(one.unwrap_or(0).saturating_add(other.unwrap_or(0))),
        };
        let flags: Vec<String> = mount
            .alerts
            .iter()
            .map(|a| format!("{:02X}h", a.flag))
            .collect();
        rows.push([
            human::time(mount.begin_time.as_ref()),
            id(&mount.drive).to_owned(),
            id(&mount.volume).to_owned(),
            id(&mount.job).to_owned(),
            size(mount.written_byte_count),
            size(mount.read_byte_count),
            sum(mount.write_corrected_count, mount.read_corrected_count),
            sum(mount.write_uncorrected_count, mount.read_uncorrected_count),
            sum(mount.suspend_count, mount.fatal_suspend_count),
            flags.join(" "),
            mount.fault_reason.clone(),
        ]);
    }
    rows
}
