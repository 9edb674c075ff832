//! The streams of a job that has several, and their sum.

use std::collections::BTreeMap;

use taf_proto::v1::{IssueCount, Job, JobStream, Progress};

use super::{counted, is_over, said, step};
use crate::services::names;
use crate::store::streams::StreamRow;

/// The job with its streams, and its progress as the sum over them.
pub(super) fn with(job: Job, rows: &[&StreamRow], ended: bool) -> Job {
    let streams: Vec<JobStream> = rows.iter().map(|row| message(row, ended)).collect();
    let first = job.progress.clone().unwrap_or_default();
    let further = streams
        .iter()
        .skip(1)
        .filter_map(|stream| stream.progress.as_ref());
    let progress = further.fold(first, sum);
    let mut volumes: Vec<String> = Vec::new();
    for volume in streams.iter().flat_map(|stream| &stream.volumes) {
        if !volumes.contains(volume) {
            volumes.push(volume.clone());
        }
    }
    Job {
        progress: Some(progress),
        volumes,
        streams,
        ..job
    }
}

fn message(row: &StreamRow, job_ended: bool) -> JobStream {
    let dropped = row.stream > 0 && row.verdict == "cancelled";
    let mut progress = said(
        "backup",
        row.progress.as_deref(),
        row.drive_progress.as_deref(),
    );
    counted(&mut progress, row.source_result.as_deref(), None);
    progress.committed_byte_count = row.committed_bytes as u64;
    progress.issue_count = row.issue_count as u64;
    if job_ended || row.ended {
        is_over(&mut progress);
    } else if let Some(step) = step(Some(&row.step_kind), "backup") {
        step.clone_into(&mut progress.phase);
    }
    JobStream {
        number: row.stream as u32 + 1,
        drive: row.drive.as_deref().map(names::drive).unwrap_or_default(),
        volumes: row.volumes.iter().map(|v| names::volume(v)).collect(),
        progress: Some(progress),
        waiting_for: row.waiting_for.clone().unwrap_or_default(),
        dropped,
    }
}

/// Counts and rates add up; what can't be added stays that of the first.
fn sum(all: Progress, one: &Progress) -> Progress {
    Progress {
        file_count: all.file_count + one.file_count,
        directory_count: all.directory_count + one.directory_count,
        byte_count: all.byte_count + one.byte_count,
        stored_byte_count: all.stored_byte_count + one.stored_byte_count,
        committed_byte_count: all.committed_byte_count + one.committed_byte_count,
        bytes_per_second: all.bytes_per_second + one.bytes_per_second,
        drive_bytes_per_second: all.drive_bytes_per_second + one.drive_bytes_per_second,
        issue_count: all.issue_count + one.issue_count,
        kept_count: all.kept_count + one.kept_count,
        issue_counts: merged(&all.issue_counts, &one.issue_counts),
        ..all
    }
}

/// Counts by reason, by its letters.
fn merged(all: &[IssueCount], one: &[IssueCount]) -> Vec<IssueCount> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for of in all.iter().chain(one) {
        *counts.entry(of.reason.clone()).or_default() += of.count;
    }
    let count = |(reason, count)| IssueCount { reason, count };
    counts.into_iter().map(count).collect()
}
