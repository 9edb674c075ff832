//! Verifying: what a drive's worker is to read back, and what it found.

use bytes::Bytes;
use taf_core::sampling;
use taf_proto::agent::{FetchVerificationRequest, ReportVerificationRequest, VerifyPart};

use super::Error;
use super::report::{self, Side, uuid};
use crate::store::issues::{self, Issue};
use crate::store::reclaims::{self, Living};
use crate::store::verifications::{self, Verifiable};
use crate::store::{Store, bigint};

/// Damaged files that are named of one part.
const NAMED: usize = 1_000;
/// The issue of parts that went to another volume before they were read.
const MOVED: &str = "PART_MOVED";
/// Numbers of issues that one tape file may use, so that a report that comes again has the same. Lower ones are of parts that went before
/// anything was read.
const NUMBERS: i64 = 2_000;

/// The parts that a verify assignment is to read, in their order, and for how many seconds at most; 0 for as long as it takes.
pub async fn parts(
    store: &Store,
    agent: &str,
    request: &FetchVerificationRequest,
) -> Result<(Vec<VerifyPart>, u64), Error> {
    let mut client = store.client().await?;
    let assignment = report::assignment(&client, request.key.as_ref(), agent, Side::Tape).await?;
    let recording = uuid(&request.recording_uuid, "the recording")?;
    report::is_reserved(&client, &assignment, recording).await?;
    if assignment.kind == "reclaim" {
        let living = reclaims::living_list(&client, recording, assignment.attempt_id).await?;
        return Ok((living.into_iter().map(copied).collect(), 0));
    }
    let elsewhere = reclaims::job_parts_elsewhere(&client, assignment.job_id, recording).await?;
    if !elsewhere.is_empty() {
        let issues: Vec<Issue> = (1..)
            .zip(&elsewhere)
            .map(|(number, (barcode, count))| Issue {
                attempt_id: assignment.attempt_id,
                number,
                path: Vec::new(),
                reason: MOVED.to_owned(),
                message: moved(*count, barcode.as_deref()),
            })
            .collect();
        let tx = client.transaction().await?;
        issues::issue_add_on(&tx, assignment.attempt_id, &issues).await?;
        tx.commit().await?;
    }
    let wanted = verifications::job_part_ids(&client, assignment.job_id).await?;
    let parts = verifications::verifiable_list(&client, recording).await?;
    let wanted = |part: &Verifiable| wanted.binary_search(&part.id).is_ok();
    let mut parts: Vec<VerifyPart> = parts.into_iter().filter(wanted).map(message).collect();
    let sample = verifications::job_sample(&client, assignment.job_id).await?;
    let limited = sample.and_then(|sample| Some((sample.seed, sample.seconds?)));
    let Some((seed, seconds)) = limited else {
        return Ok((parts, 0));
    };
    let first = sampling::first(parts.len(), seed);
    parts.rotate_left(first);
    Ok((parts, seconds as u64))
}

/// Why parts that a job was to read were not read, for people.
fn moved(count: i64, barcode: Option<&str>) -> String {
    let parts = match count {
        1 => "1 part that was to be read is".to_owned(),
        count => format!("{count} parts that were to be read are"),
    };
    match barcode {
        Some(barcode) => format!(
            "{parts} on volume {barcode} now, and proved there by `taf volume verify {barcode}`"
        ),
        None => format!("{parts} on no volume any more"),
    }
}

fn message(part: Verifiable) -> VerifyPart {
    VerifyPart {
        archive_uuid: Bytes::copy_from_slice(part.archive.as_bytes()),
        archive_ordinal: part.ordinal as u32,
        part_number: part.part_number as u32,
        tape_file: part.tape_file as u64,
        first_block: part.first_block as u64,
        byte_count: part.byte_count as u64,
        first_sequence: part.sequences.0 as u64,
        last_sequence: part.sequences.1 as u64,
        first_tar_offset: part.tar_offsets.0 as u64,
        end_tar_offset: part.tar_offsets.1 as u64,
        digest: part.digest.into(),
        ..VerifyPart::default()
    }
}

/// A part that is to be stored elsewhere.
fn copied(living: Living) -> VerifyPart {
    let (volume, tape_file, bytes) = living.predecessor.unwrap_or_default();
    VerifyPart {
        copy: living.copy as u32,
        predecessor_volume: volume,
        predecessor_tape_file: tape_file as u64,
        predecessor_byte_count: bytes.unwrap_or_default() as u64,
        ..message(living.part)
    }
}

/// Keeps what was found of a part, with its damaged files as issues.
pub async fn report(
    store: &Store,
    agent: &str,
    request: &ReportVerificationRequest,
) -> Result<(), Error> {
    let mut client = store.client().await?;
    let assignment = report::assignment(&client, request.key.as_ref(), agent, Side::Tape).await?;
    let recording = uuid(&request.recording_uuid, "the recording")?;
    report::is_reserved(&client, &assignment, recording).await?;
    if request.damaged.len() > NAMED {
        return Err(Error::Invalid(format!("it names more than {NAMED} files")));
    }
    let tape_file = bigint(request.tape_file)?;
    let first = tape_file
        .checked_mul(NUMBERS)
        .ok_or_else(|| Error::Invalid("there is no such tape file".into()))?;
    let issue = |number: i64, path: &[u8], reason: &str, message: String| Issue {
        attempt_id: assignment.attempt_id,
        number: first + number,
        path: [b"/", path].concat(),
        reason: reason.to_owned(),
        message,
    };
    let mut rows: Vec<Issue> = (1..)
        .zip(&request.damaged)
        .map(|(number, file)| issue(number, &file.path, "DAMAGED_ON_TAPE", file.reason.clone()))
        .collect();
    if !request.damage.is_empty() {
        let further = request
            .damaged_count
            .saturating_sub(request.damaged.len() as u64);
        let mut said = format!("tape file {tape_file}: {}", request.damage);
        if further > 0 {
            said = format!("{said}; {further} further damaged files are not named");
        }
        if request.unnamed_count > 0 {
            said.push_str("; for some of the lost bytes no name could be found");
        }
        rows.push(issue(0, b"", "PART_DAMAGED", said));
    }
    let tx = client.transaction().await?;
    let damage = (!request.damage.is_empty()).then_some(request.damage.as_str());
    if !verifications::part_verified_on(&tx, recording, tape_file, damage).await? {
        // One that was copied to another volume meanwhile is dated when it is read there.
        let elsewhere = reclaims::job_parts_elsewhere(&tx, assignment.job_id, recording).await?;
        if elsewhere.is_empty() {
            return Err(Error::Invalid(format!("tape file {tape_file} is no part")));
        }
        if assignment.kind == "verify" && damage.is_none() {
            let said = format!(
                "tape file {tape_file} went to another volume while it was read, and is not proved there: `taf volume verify` does that"
            );
            rows.push(issue(0, b"", MOVED, said));
        }
    }
    issues::issue_add_on(&tx, assignment.attempt_id, &rows).await?;
    tx.commit().await?;
    if let Some(damage) = damage {
        tracing::warn!(%recording, tape_file, damage, "a part is damaged");
    }
    Ok(())
}
