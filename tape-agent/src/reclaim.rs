//! Reclaiming a volume, in one drive: what lives on it is read into a file on the local disk and proved on the way, then another volume
//! is put in and written from there, as many times as it takes.
//!
//! ```text
//! collect: old volume → segments, files, hashes proved → spool      store: spool → new volume, flush → CommitPart (moved)
//! ```
//! So no drive is ever held while another one is waited for, and nobody but this worker sees the bytes. The spool is no journal: what a
//! killed process left in it is read again. A part belongs to its new place only when the controller has it; nothing on the old volume is
//! changed.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use taf_format::block0::{Block0, Predecessor};
use taf_format::segment;
use taf_format::table::SegmentTable;
use taf_peer::config::Size;
use taf_proto::agent::report_volume_request::Verdict;
use taf_proto::agent::{
    AssignmentKey, CollectWork, Generation, PartPlace, ReclaimDone, Recording,
    ReportVerificationRequest, StoreWork, VerifyPart,
};
use taf_proto::v1::Fault;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::append::End;
use crate::clock;
use crate::commit;
use crate::fault::{drive_reset, fault, stopped};
use crate::parts::copy::{self, Copied, Copy, Left};
use crate::ring::Segment;
use crate::ring::disk::{Disk, Stretch};
use crate::verify::{self, Checked};
use crate::worker::drive::Surroundings;
use crate::write::{self, Proved};
use crate::{indexing, read};

/// After so many volumes in a row that had no room for a part no further one is taken for full.
const BARREN_MAX: u32 = 4;

/// What waits to be stored. Cheap to clone.
#[derive(Clone, Default)]
pub struct Hold(Arc<Mutex<Option<Load>>>);

/// What was collected for an attempt.
struct Load {
    attempt: u64,
    generation: Option<Generation>,
    parts: VecDeque<Waiting>,
    disk: Disk,
    /// The volume that it was read from.
    recording: Bytes,
    barcode: String,
    /// Whether there is more to read there.
    more: bool,
    /// Volumes in a row that had no room for any of it.
    barren: u32,
}

/// A part in the spool.
#[derive(Clone)]
struct Waiting {
    part: VerifyPart,
    block0: Block0,
    table: SegmentTable,
    /// Where its first segment is in the spool.
    at: u64,
}

impl Hold {
    fn lock(&self) -> MutexGuard<'_, Option<Load>> {
        // Whole after every statement.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Other work begins: what waits will not be stored any more.
    pub fn clear(&self) {
        let dropped = self.lock().take();
        drop(dropped);
    }

    fn put(&self, load: Load) {
        *self.lock() = Some(load);
    }

    fn take(&self, key: AssignmentKey) -> Option<Load> {
        self.lock()
            .take_if(|load| (load.attempt, load.generation) == (key.attempt, key.generation))
    }
}

/// Reads what lives on the volume, as much as the spool takes.
pub async fn collect(
    around: &Surroundings,
    key: AssignmentKey,
    work: CollectWork,
    stop: &CancellationToken,
) -> Result<ReclaimDone, Fault> {
    let recording = around.begin(key, work.recording)?;
    read::begin(around, key, &recording, stop).await?;
    loop {
        let (parts, _) = verify::fetch(around, key, &recording).await?;
        if parts.is_empty() {
            return Ok(ReclaimDone::default());
        }
        around.gauge.phase("collecting what lives on it");
        let load = fill(around, key, &recording, parts, stop).await?;
        let count = load.parts.len();
        if count > 0 {
            let next_volume_reason = format!(
                "{count} parts of volume {} wait to be written to another one",
                recording.barcode
            );
            around.reclaim.put(load);
            return Ok(ReclaimDone {
                next_volume_reason,
                collected: true,
            });
        }
        // All of these were damaged, and the controller knows: there may be others.
    }
}

async fn fill(
    around: &Surroundings,
    key: AssignmentKey,
    recording: &Recording,
    parts: Vec<VerifyPart>,
    stop: &CancellationToken,
) -> Result<Load, Fault> {
    let place = around.buffering.reclaiming();
    let place = place.ok_or_else(|| no_spool(&std::io::ErrorKind::NotFound.into()))?;
    let all = parts.len();
    let limit = place.limit().map_err(|e| no_spool(&e))?;
    let batch = batch(parts, limit).map_err(|least| too_small(recording, least, limit))?;
    let bytes = batch.iter().map(|part| part.byte_count).sum();
    let (making, name) = (place, format!("reclaim-{}", key.attempt));
    let made = around
        .block(move || making.create_of(&name, bytes).map_err(|e| no_spool(&e)))
        .await?;
    let mut load = Load {
        attempt: key.attempt,
        generation: key.generation,
        parts: VecDeque::new(),
        disk: made,
        recording: recording.recording_uuid.clone(),
        barcode: recording.barcode.clone(),
        more: batch.len() < all,
        barren: 0,
    };
    let mut at = 0;
    for part in batch {
        let length = part.byte_count;
        match take(around, recording, part, &load.disk, at, stop).await? {
            Ok(waiting) => load.parts.push_back(waiting),
            Err(report) => tell(around, key, recording, report).await?,
        }
        at += length;
    }
    Ok(load)
}

/// Which of the parts, in the order of the tape, fit into so many bytes. At least one, or how many bytes the least of them takes.
fn batch(parts: Vec<VerifyPart>, limit: u64) -> Result<Vec<VerifyPart>, u64> {
    let least = parts.iter().map(|part| part.byte_count).min();
    let mut room = limit;
    let mut fitting = Vec::new();
    for part in parts {
        if part.byte_count <= room {
            room -= part.byte_count;
            fitting.push(part);
        } else if part.byte_count <= limit {
            break;
        }
    }
    if fitting.is_empty() {
        return Err(least.unwrap_or_default());
    }
    Ok(fitting)
}

/// Reads a part into the spool, or says what is wrong with it.
async fn take(
    around: &Surroundings,
    recording: &Recording,
    part: VerifyPart,
    disk: &Disk,
    at: u64,
    stop: &CancellationToken,
) -> Result<Result<Waiting, ReportVerificationRequest>, Fault> {
    let (task, recording, disk, stop) = (
        around.clone(),
        recording.clone(),
        disk.clone(),
        stop.clone(),
    );
    around
        .block(move || {
            let device = task.device.clone();
            let mut behind = at;
            let mut keep = |bytes: &[u8]| {
                let stretch = Stretch::new(behind, bytes.len() as u64);
                disk.write(stretch, bytes).map_err(|e| no_spool(&e))?;
                behind += bytes.len() as u64;
                Ok(())
            };
            let checked = device.work(|drive| {
                verify::check_part(drive, &task.gauge, &recording, &part, &stop, &mut keep)
            })?;
            Ok(match checked {
                Checked::Whole(block0, table) => Ok(Waiting {
                    part,
                    block0: *block0,
                    table,
                    at,
                }),
                Checked::Damaged(report) => Err(*report),
            })
        })
        .await
}

async fn tell(
    around: &Surroundings,
    key: AssignmentKey,
    recording: &Recording,
    report: ReportVerificationRequest,
) -> Result<(), Fault> {
    let request = ReportVerificationRequest {
        key: Some(key),
        recording_uuid: recording.recording_uuid.clone(),
        ..report
    };
    commit::persist("reporting a damaged part", || async {
        let mut catalog = around.link.catalog();
        let told = catalog.report_verification(request.clone()).await;
        told.map(|_| ())
    })
    .await
}

/// Writes what was collected.
pub async fn store(
    around: &Surroundings,
    key: AssignmentKey,
    work: StoreWork,
    stop: &CancellationToken,
) -> Result<ReclaimDone, Fault> {
    let recording = around.begin(key, work.recording)?;
    let mut load = around.reclaim.take(key).ok_or_else(lost)?;
    let mut proved = write::prove(around, key, &recording, stop).await?;
    around.gauge.phase("writing");
    // Where parts are that were stored here just now: what follows them says so.
    let mut stored = HashMap::new();
    while let Some(waiting) = load.parts.front() {
        if stop.is_cancelled() {
            return Err(stopped());
        }
        let named = (waiting.block0.archive_uuid, waiting.block0.part);
        let block0 = anew(waiting, &recording, proved.end, &stored);
        let (copied, near_end) = put(
            around,
            key,
            &recording,
            (&load, waiting, block0),
            proved,
            stop,
        )
        .await?;
        let room = match copied {
            Copied::Part(entry, end) => {
                let bytes = entry.header.byte_count;
                commit::deliver(&around.link, &entry).await?;
                around.gauge.committed(bytes);
                let at = (recording.barcode.clone(), proved.end.tape_file as u32);
                stored.insert(named, at);
                proved.end = end;
                load.parts.pop_front();
                !near_end
            }
            Copied::NoRoom(left) => {
                settle(around, key, left, &mut proved).await?;
                false
            }
            Copied::Failed(left, verdict, fault) => {
                settle(around, key, left, &mut proved).await?;
                if let Some(verdict) = verdict {
                    let (uuid, why) = (&recording.recording_uuid, &fault.message);
                    commit::volume(&around.link, key, uuid, verdict, why).await?;
                }
                return Err(fault);
            }
        };
        if !room {
            full(around, key, &recording, proved).await?;
            load.barren = if stored.is_empty() {
                load.barren + 1
            } else {
                0
            };
            if !load.parts.is_empty() && load.barren >= BARREN_MAX {
                return Err(no_room());
            }
            if !load.parts.is_empty() {
                let next_volume_reason = format!("volume {} is full", recording.barcode);
                around.reclaim.put(load);
                return Ok(ReclaimDone {
                    next_volume_reason,
                    collected: true,
                });
            }
        }
    }
    if load.more {
        return Ok(ReclaimDone {
            next_volume_reason: format!("there is more to read on volume {}", load.barcode),
            collected: false,
        });
    }
    Ok(ReclaimDone::default())
}

/// What a part says of itself in its new place.
fn anew(
    waiting: &Waiting,
    recording: &Recording,
    end: End,
    stored: &HashMap<(Uuid, u32), (String, u32)>,
) -> Block0 {
    let (part, old) = (&waiting.part, &waiting.block0);
    let predecessor = old.predecessor.as_ref().map(|written| {
        let before = stored.get(&(old.archive_uuid, old.part.wrapping_sub(1)));
        match before {
            Some((volume, tape_file)) => Predecessor {
                volume: volume.clone(),
                tape_file: *tape_file,
                bytes: None,
            },
            // The catalog does not have it: after a rebuild it may not.
            None if part.predecessor_volume.is_empty() => written.clone(),
            None => Predecessor {
                volume: part.predecessor_volume.clone(),
                tape_file: part.predecessor_tape_file as u32,
                bytes: Some(part.predecessor_byte_count).filter(|&bytes| bytes > 0),
            },
        }
    });
    Block0 {
        recording_uuid: Uuid::from_slice(&recording.recording_uuid).unwrap_or_default(),
        volume: recording.barcode.clone(),
        tape_file: end.tape_file as u32,
        block_size: recording.block_size,
        predecessor,
        copy: part.copy.saturating_add(1),
        created_at_unix_nanos: clock::unix_nanos(),
        ..old.clone()
    }
}

/// Writes a part on the drive's thread.
async fn put(
    around: &Surroundings,
    key: AssignmentKey,
    recording: &Recording,
    (load, waiting, block0): (&Load, &Waiting, Block0),
    proved: Proved,
    stop: &CancellationToken,
) -> Result<(Copied, bool), Fault> {
    let (task, waiting, disk) = (around.clone(), waiting.clone(), load.disk.clone());
    let (recording, stop) = (recording.clone(), stop.clone());
    let from = PartPlace {
        recording_uuid: load.recording.clone(),
        tape_file: waiting.part.tape_file,
    };
    around
        .block(move || {
            task.device.work(|drive| {
                if task.device.changes() != proved.changes {
                    return Err(drive_reset(
                        "it was reset, or its cartridge changed, since the volume was proved",
                    ));
                }
                let segments = waiting.table.segments();
                let begin = segments.first().map_or(0, |first| first.byte_offset);
                let copy = Copy {
                    key,
                    recording: &recording,
                    end: proved.end,
                    block0,
                    from,
                    bytes: waiting.table.byte_end() - begin,
                };
                let mut places = segments.iter();
                let mut next = || {
                    let Some(place) = places.next() else {
                        return Ok(None);
                    };
                    let at = waiting.at + (place.byte_offset - begin);
                    let stretch = Stretch::new(at, u64::from(place.stored_length));
                    let bytes = Bytes::from(disk.read(stretch).map_err(|e| no_spool(&e))?);
                    // Disks flip bits and lose writes, too.
                    let header = segment::verify(&bytes).map_err(|e| spoilt(&e))?;
                    if header.sequence != place.sequence {
                        return Err(spoilt(&"a segment is not where it was put"));
                    }
                    task.gauge.flowed(bytes.len() as u64);
                    Ok(Some(Segment { header, bytes }))
                };
                copy::copy(drive, &task.journal, &copy, &mut next, &stop)
            })
        })
        .await
}

/// Tells of what a part has left that was not finished.
async fn settle(
    around: &Surroundings,
    key: AssignmentKey,
    left: Left,
    proved: &mut Proved,
) -> Result<(), Fault> {
    if let Some(orphan) = left.orphan {
        commit::orphans(&around.link, key, vec![orphan]).await?;
    }
    match left.end {
        Some(end) => proved.end = end,
        // Whoever mounts it next finds what is there. No index is written behind what nobody knows.
        None => proved.changes = u64::MAX,
    }
    Ok(())
}

/// The volume takes no more, and gets its index in the room that is left for it.
async fn full(
    around: &Surroundings,
    key: AssignmentKey,
    recording: &Recording,
    proved: Proved,
) -> Result<(), Fault> {
    let (uuid, why) = (
        &recording.recording_uuid,
        "early warning: the end of the medium is near",
    );
    commit::volume(&around.link, key, uuid, Verdict::Full, why).await?;
    let written = indexing::append(around, key, recording, proved.end, proved.changes).await;
    if let Err(fault) = written {
        tracing::warn!(
            reason = fault.reason,
            message = fault.message,
            "the full volume has no index yet"
        );
    }
    Ok(())
}

fn no_room() -> Fault {
    fault(
        "VOLUME_FULL",
        format!("{BARREN_MAX} volumes one after the other had no room for a part"),
        "label an empty cartridge for the pool, and run it again: parts that were copied stay so",
    )
}

fn lost() -> Fault {
    fault(
        "COLLECTED_LOST",
        "what was read from the volume is not in this worker's spool any more",
        "run it again: parts that were copied stay so, and the others are read again",
    )
}

fn no_spool(error: &std::io::Error) -> Fault {
    fault(
        "SPOOL_FULL",
        format!("what is read from the volume can't be kept on this host's disk: {error}"),
        "make room in the tape agent's spool folder (`spool` in its configuration, else its state folder), and run it again",
    )
}

fn spoilt(what: &dyn std::fmt::Display) -> Fault {
    fault(
        "SPOOL_BAD",
        format!("what was read from the volume came back from this host's disk otherwise: {what}"),
        "have the disk of the tape agent's spool looked at, and run it again; nothing of it was copied",
    )
}

fn too_small(recording: &Recording, least: u64, limit: u64) -> Fault {
    fault(
        "SPOOL_TOO_SMALL",
        format!(
            "no part that lives on volume {} fits on this host's disk: the smallest has {}, and {} may be used",
            recording.barcode,
            Size(least),
            Size(limit)
        ),
        "give the tape agent a `spool` with a `spool_size` that holds a part of the pool, restart it, and run it again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(sizes: &[u64]) -> Vec<VerifyPart> {
        let part = |(file, bytes): (u64, &u64)| VerifyPart {
            tape_file: file,
            byte_count: *bytes,
            ..VerifyPart::default()
        };
        (1..).zip(sizes).map(part).collect()
    }

    fn files(sizes: &[u64], limit: u64) -> Result<Vec<u64>, u64> {
        let batch = batch(parts(sizes), limit)?;
        Ok(batch.iter().map(|part| part.tape_file).collect())
    }

    #[test]
    fn as_many_parts_are_collected_as_fit_in_the_order_of_the_tape() {
        assert_eq!(files(&[3, 4, 5], 12), Ok(vec![1, 2, 3]));
        assert_eq!(files(&[3, 4, 5], 7), Ok(vec![1, 2]));
        // What comes behind one that fits later waits for it: the drive only goes forward.
        assert_eq!(files(&[3, 6, 1], 7), Ok(vec![1]));
        // One that never fits holds up no other.
        assert_eq!(files(&[3, 9, 1], 7), Ok(vec![1, 3]));
    }

    #[test]
    fn if_none_fits_it_is_said_how_much_room_is_needed() {
        assert_eq!(files(&[9, 8], 7), Err(8));
    }
}
