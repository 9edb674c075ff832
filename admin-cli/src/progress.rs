//! A job's progress as two lines for a terminal, or as a line at each change for everything else. Pure text: what shows
//! it is [`crate::follow`].

use std::time::Duration;

use taf_proto::v1::{Job, JobKind, JobState, Progress, VersionType};

use crate::command::version_type::word;
use crate::resource::id;
use crate::{flow, human};

/// Characters of the bar.
const BAR: usize = 20;

/// What a job is, in words: `backup of daily`.
pub fn what(job: &Job) -> String {
    match job.kind() {
        JobKind::Backup => format!("{}backup of {}", kind(job), id(&job.plan)),
        JobKind::Restore if job.target.is_none() => format!("reading of {}", version(job)),
        JobKind::Restore => format!("restore of {}", version(job)),
        JobKind::Dump => format!("dump of {}", version(job)),
        JobKind::Label => format!("label of {}", id(&job.volume)),
        JobKind::Erase => format!("erase of {}", id(&job.volume)),
        JobKind::Format => format!("format of {}", id(&job.volume)),
        JobKind::Load => format!("load of {}", id(&job.drive)),
        JobKind::Unload => format!("unload of {}", id(&job.drive)),
        JobKind::Rewind => format!("rewind of {}", id(&job.drive)),
        JobKind::Clean => format!("clean of {}", id(&job.drive)),
        JobKind::Inventory => format!("inventory of {}", id(&job.library)),
        JobKind::Move => format!("move of {}", cartridge(job)),
        JobKind::Import => format!("import of {}", cartridge(job)),
        JobKind::Export => format!("export of {}", cartridge(job)),
        JobKind::Inspect => format!("inspection of {}", id(&job.volume)),
        JobKind::Rescan => format!("rescan of {}", id(&job.volume)),
        JobKind::Reclaim => format!("reclaiming of {}", id(&job.volume)),
        JobKind::Index => format!("index of {}", id(&job.volume)),
        JobKind::Verify if job.version.is_empty() => {
            format!("verification of {}", id(&job.volume))
        }
        JobKind::Verify => format!("verification of {} on {}", version(job), id(&job.volume)),
        JobKind::RemoveSources => format!("removal of the sources of {}", version(job)),
        JobKind::RemoveExtra => format!("removal of what {} does not have", version(job)),
        JobKind::Feed => format!("reading of {} for job {}", version(job), id(&job.cause_job)),
        JobKind::Unspecified => "job".to_owned(),
    }
}

/// The version that it makes or reads.
fn version(job: &Job) -> &str {
    match job.version_title.as_str() {
        // Of a controller that does not say it.
        "" => &job.version,
        title => title,
    }
}

/// What a backup makes, if that is not a full version: `incremental `.
fn kind(job: &Job) -> String {
    let made = match job.version_type() {
        VersionType::Unspecified => job.asked_type(),
        made => made,
    };
    match made {
        VersionType::Unspecified | VersionType::Full => String::new(),
        made => format!("{} ", word(made)),
    }
}

/// Why a backup makes something else than it was asked to; none if it does not.
pub fn promotion(job: &Job) -> Option<String> {
    (!job.promotion_reason.is_empty()).then(|| {
        if job.version_type() == job.asked_type() {
            let what = word(job.version_type());
            return format!("a whole {what}: {}", job.promotion_reason);
        }
        format!(
            "{} instead of {}: {}",
            word(job.version_type()),
            word(job.asked_type()),
            job.promotion_reason
        )
    })
}

/// The cartridge that a job carries, by its barcode or by where it was.
fn cartridge(job: &Job) -> String {
    match id(&job.volume) {
        "" => format!("what is in element {}", job.from_address),
        barcode => barcode.to_owned(),
    }
}

/// A state's word.
pub fn state(state: JobState) -> &'static str {
    match state {
        JobState::Unspecified => "unknown",
        JobState::Queued => "queued",
        JobState::Running => "running",
        JobState::Succeeded => "succeeded",
        JobState::SucceededWithIssues => "succeeded with issues",
        JobState::Failed => "failed",
        JobState::Cancelled => "cancelled",
    }
}

/// Whether a job has ended.
pub fn ended(job: &Job) -> bool {
    !matches!(
        job.state(),
        JobState::Unspecified | JobState::Queued | JobState::Running
    )
}

/// The line that is printed when it differs from the one before: state, phase and what is waited for, no numbers.
pub fn quiet(job: &Job) -> String {
    let mut line = format!("job {}: {}", id(&job.name), state(job.state()));
    let phase = job.progress.as_ref().map_or("", |p| p.phase.as_str());
    if job.state() == JobState::Running && !phase.is_empty() {
        line = format!("{line}, {phase}");
    }
    for stream in streams(job) {
        line = format!("{line}, {stream}");
    }
    if !job.waiting_for.is_empty() {
        line = format!("{line}, waits: {}", job.waiting_for);
    }
    if let Some(promotion) = promotion(job) {
        line = format!("{line} ({promotion})");
    }
    line
}

/// What the drives of a job with several streams do, each in a few words.
fn streams(job: &Job) -> impl Iterator<Item = String> + '_ {
    let under_way = job.streams.iter().filter(|s| !s.dropped && !ended(job));
    under_way.filter_map(|stream| {
        let phase = stream.progress.as_ref().map_or("", |p| p.phase.as_str());
        let does = match (stream.waiting_for.as_str(), phase) {
            // A restore has one for each turn of volumes, and the first one waits without a drive.
            ("", "") if job.kind() == JobKind::Restore => return None,
            _ if id(&stream.drive).is_empty() => return None,
            ("", "") => "done",
            ("", phase) => phase,
            _ => "waits for a volume",
        };
        Some(format!("drive {} {does}", id(&stream.drive)))
    })
}

/// The two lines of a terminal.
pub fn lines(job: &Job) -> (String, String) {
    let none = Progress::default();
    let progress = job.progress.as_ref().unwrap_or(&none);
    let mut parts = vec![format!("job {} {}", id(&job.name), what(job))];
    if !job.waiting_for.is_empty() {
        parts.push(format!("waits: {}", job.waiting_for));
    } else if progress.phase.is_empty() {
        parts.push(state(job.state()).to_owned());
    } else {
        parts.push(progress.phase.clone());
    }
    if let Some(fraction) = fraction(progress) {
        let full = (fraction * BAR as f64) as usize;
        parts.push(format!(
            "[{}{}] {:.0} %",
            "#".repeat(full),
            ".".repeat(BAR - full),
            fraction * 100.0
        ));
    }
    if progress.file_count > 0 {
        parts.push(human::counted(progress.file_count, "file", "files"));
    }
    if progress.byte_count > 0 {
        parts.push(human::size(progress.byte_count));
    }
    if progress.bytes_per_second > 0 {
        parts.push(format!("{}/s", human::size(progress.bytes_per_second)));
    }
    if progress.drive_bytes_per_second > 0 {
        parts.push(format!(
            "drive {}/s",
            human::size(progress.drive_bytes_per_second)
        ));
    }
    if let Some(flow) = progress.drive_flow.as_ref().filter(|_| !ended(job)) {
        parts.extend(flow::short(flow));
    }
    parts.extend(streams(job));
    if let Some(left) = left(progress) {
        parts.push(format!("{} left", human::duration(left)));
    }
    if progress.issue_count > 0 {
        parts.push(human::counted(progress.issue_count, "issue", "issues"));
    }
    (
        parts.join("  "),
        human::path(progress.current_path.as_ref()),
    )
}

/// How much is done, from 0 to 1; none if the whole is not known or already passed, as it may be when it is guessed
/// from the version before.
fn fraction(progress: &Progress) -> Option<f64> {
    let (done, whole) = (progress.byte_count, progress.estimated_byte_count);
    (whole > 0 && done <= whole).then(|| done as f64 / whole as f64)
}

fn left(progress: &Progress) -> Option<Duration> {
    let rest = progress
        .estimated_byte_count
        .checked_sub(progress.byte_count)?;
    let known = progress.estimated_byte_count > 0 && progress.bytes_per_second > 0;
    known.then(|| Duration::from_secs(rest / progress.bytes_per_second))
}

/// How many issues there are, by reason if that is known.
pub fn issues(progress: &Progress) -> String {
    let counts = progress.issue_counts.iter();
    let reasons: Vec<String> = counts
        .map(|of| format!("{} {}", of.reason, human::count(of.count)))
        .collect();
    let all = human::counted(progress.issue_count, "issue", "issues");
    match reasons.as_slice() {
        [] => all,
        reasons => format!("{all} ({})", reasons.join(", ")),
    }
}

/// What came of it, in numbers.
pub fn summary(job: &Job) -> String {
    let mut parts = Vec::new();
    let took = human::between(job.start_time.as_ref(), job.end_time.as_ref());
    if let Some(progress) = &job.progress
        && matches!(
            job.kind(),
            JobKind::Backup
                | JobKind::Restore
                | JobKind::Verify
                | JobKind::RemoveSources
                | JobKind::RemoveExtra
                | JobKind::Feed
                | JobKind::Dump
        )
    {
        parts.push(human::counted(progress.file_count, "file", "files"));
        if job.kind() != JobKind::Verify {
            parts.push(human::counted(
                progress.directory_count,
                "directory",
                "directories",
            ));
        }
        parts.push(human::size(progress.byte_count));
        if job.kind() == JobKind::Backup && progress.committed_byte_count > 0 {
            parts.push(format!(
                "{} on tape",
                human::size(progress.committed_byte_count)
            ));
        }
        if progress.kept_count > 0 {
            parts.push(format!(
                "{} kept",
                human::counted(progress.kept_count, "entry", "entries")
            ));
        }
        if progress.issue_count > 0 {
            parts.push(issues(progress));
        }
    }
    if let Some(took) = took {
        let bytes = job.progress.as_ref().map_or(0, |p| p.byte_count);
        let speed = bytes as f64 / took.as_secs_f64().max(0.001);
        parts.push(if bytes > 0 {
            format!(
                "in {} ({}/s)",
                human::duration(took),
                human::size(speed as u64)
            )
        } else {
            format!("in {}", human::duration(took))
        });
    }
    let mut line = format!(
        "job {}: {} {}",
        id(&job.name),
        what(job),
        state(job.state())
    );
    if !parts.is_empty() {
        line = format!("{line}: {}", parts.join(", "));
    }
    if job.kind() == JobKind::Backup && !job.version.is_empty() && job.error.is_none() {
        line = format!("{line}; {}", version(job));
    }
    if let Some(promotion) = promotion(job) {
        line = format!("{line} ({promotion})");
    }
    line
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use prost_types::Timestamp;

    fn job() -> Job {
        Job {
            name: "jobs/7".into(),
            kind: JobKind::Backup.into(),
            state: JobState::Running.into(),
            plan: "plans/daily".into(),
            progress: Some(Progress {
                phase: "writing".into(),
                file_count: 1200,
                byte_count: 1 << 30,
                estimated_byte_count: 2 << 30,
                bytes_per_second: 1 << 20,
                current_path: Some(taf_proto::path::from_raw(&b"/a\x1b"[..])),
                ..Progress::default()
            }),
            ..Job::default()
        }
    }

    #[test]
    fn a_terminal_sees_numbers_and_no_control_characters() {
        let (first, second) = lines(&job());
        assert_eq!(
            first,
            "job 7 backup of daily  writing  [##########..........] 50 %  1,200 files  1.00 GiB  1.00 MiB/s  17m 04s left"
        );
        assert_eq!(second, "/a\\x1b");
    }

    #[test]
    fn everything_else_sees_changes_only() {
        let mut job = job();
        assert_eq!(quiet(&job), "job 7: running, writing");
        job.state = JobState::Queued.into();
        job.waiting_for = "every drive is busy".into();
        assert_eq!(quiet(&job), "job 7: queued, waits: every drive is busy");
    }

    #[test]
    fn a_backup_says_what_it_makes_and_why_that_is_something_else() {
        let mut job = job();
        job.asked_type = VersionType::Incremental.into();
        assert_eq!(what(&job), "incremental backup of daily");
        assert_eq!(promotion(&job), None);
        job.version_type = VersionType::Full.into();
        job.promotion_reason = "there is no version to build on".into();
        assert_eq!(what(&job), "backup of daily");
        let said = "full instead of incremental: there is no version to build on";
        assert_eq!(promotion(&job).unwrap(), said);
        assert_eq!(quiet(&job), format!("job 7: running, writing ({said})"));
        assert!(summary(&job).ends_with(&format!("({said})")));
    }

    #[test]
    fn every_stream_says_what_its_drive_does() {
        let mut job = job();
        let stream = |serial: &str, phase: &str| taf_proto::v1::JobStream {
            drive: format!("drives/{serial}"),
            progress: Some(Progress {
                phase: phase.into(),
                ..Progress::default()
            }),
            ..taf_proto::v1::JobStream::default()
        };
        job.streams = vec![stream("D1", "writing"), stream("D2", "mounting")];
        assert_eq!(
            quiet(&job),
            "job 7: running, writing, drive D1 writing, drive D2 mounting"
        );
        assert!(
            lines(&job)
                .0
                .contains("drive D1 writing  drive D2 mounting")
        );
        job.kind = JobKind::Restore.into();
        job.streams = vec![
            stream("", "waiting"),
            stream("D1", ""),
            stream("D2", "reading"),
        ];
        assert_eq!(quiet(&job), "job 7: running, writing, drive D2 reading");
    }

    #[test]
    fn the_summary_counts() {
        let mut job = job();
        job.state = JobState::SucceededWithIssues.into();
        job.start_time = Some(Timestamp {
            seconds: 100,
            nanos: 0,
        });
        job.end_time = Some(Timestamp {
            seconds: 164,
            nanos: 0,
        });
        job.progress.as_mut().unwrap().issue_count = 1;
        assert_eq!(
            summary(&job),
            "job 7: backup of daily succeeded with issues: 1,200 files, 0 directories, 1.00 GiB, 1 issue, in 1m 04s (16.0 MiB/s)"
        );
        job.kind = JobKind::Restore.into();
        job.target = Some(taf_proto::path::from_raw(&b"/"[..]));
        job.version = "lines/1/versions/2".into();
        job.version_title = "daily@2".into();
        let progress = job.progress.as_mut().unwrap();
        progress.kept_count = 1_000;
        progress.issue_count = 3;
        progress.issue_counts = [("DAMAGED", 1), ("EXISTS", 2)]
            .map(|(reason, count)| taf_proto::v1::IssueCount {
                reason: reason.into(),
                count,
            })
            .into();
        assert_eq!(
            summary(&job),
            "job 7: restore of daily@2 succeeded with issues: 1,200 files, 0 directories, 1.00 GiB, 1,000 entries kept, 3 issues (DAMAGED 1, EXISTS 2), in 1m 04s (16.0 MiB/s)"
        );
    }
}
