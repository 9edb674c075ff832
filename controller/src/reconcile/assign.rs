//! What every unit is to do, from the rows of live attempts.

use std::collections::HashMap;

use bytes::Bytes;
use prost::Message as _;
use taf_proto::agent::{self, Assignment, AssignmentKey, Generation, assignment::Work};
use taf_proto::v1::{self, CompressionMethod};
use uuid::Uuid;

use super::facts::State;
use super::stage::is_alone;
use crate::session::Unit;
use crate::store::attempts::LiveAttempt;
use crate::store::drives::DriveRow;
use crate::store::volumes::PlannedVolume;

/// Step of the source agent's assignment: always the same one, since it goes on while the drive's steps change.
const SOURCE_STEP: u32 = 1;

/// Complete sets, each for one process of a unit.
pub(super) type Sets = HashMap<Unit, (Uuid, Vec<Assignment>)>;

/// An attempt whose work goes to these processes from now on.
pub(super) struct Binding {
    pub attempt: i64,
    pub drive: Option<Uuid>,
    pub source: Option<Uuid>,
}

pub(super) fn sets(state: &State, installation: Uuid) -> (Sets, Vec<Binding>) {
    let mut sets = Sets::new();
    let mut bindings = Vec::new();
    for live in &state.attempts {
        let drive = live.drive_id.and_then(|id| state.drives.get(&id));
        if live.drive_id.is_some() && drive.is_none() {
            continue;
        }
        let mut give = |unit: Unit, incarnation: Uuid, key: AssignmentKey, work: Work| {
            let assignment = Assignment {
                key: Some(key),
                work: Some(work),
            };
            sets.entry(unit)
                .or_insert_with(|| (incarnation, Vec::new()))
                .1
                .push(assignment);
        };
        // Work belongs to the processes that it was given to; the attempt fails if they are gone.
        let is_theirs = |given: Option<Uuid>, now| given.is_none_or(|given| given == now);
        // The source agent works from the first volume to the last, whatever the drive does in between.
        let begun = live.step_kind == "work" || live.source_incarnation.is_some() || is_alone(live);
        if is_alone(live)
            && live.source_incarnation.is_none()
            && let Some(source) = live.source.as_ref().and_then(|s| s.incarnation)
        {
            bindings.push(Binding {
                attempt: live.id,
                drive: None,
                source: Some(source),
            });
        }
        if begun
            && live.verdict == "none"
            && live.source_result.is_none()
            && let Some(agent) = &live.source
            && let Some(incarnation) = agent.incarnation
            && is_theirs(live.source_incarnation, incarnation)
            && let Some(work) = source_work(state, live, drive, installation)
        {
            let key = AssignmentKey {
                step: SOURCE_STEP,
                ..key(live)
            };
            give(Unit::Source(agent.id), incarnation, key, work);
        }
        // With a verdict the work is withdrawn, but not a step towards the mount: it may be half done, and the end of the attempt
        // waits for its end.
        let withdrawn = live.verdict != "none" && live.step_kind == "work";
        if withdrawn || (live.step_kind != "work" && live.drive_result.is_some()) {
            continue;
        }
        match (live.step_kind.as_str(), drive) {
            ("unload", Some(drive)) => give(
                Unit::Drive(drive.id),
                drive.incarnation,
                key(live),
                Work::Unload(agent::UnloadWork {}),
            ),
            ("clean", Some(drive)) => give(
                Unit::Drive(drive.id),
                drive.incarnation,
                key(live),
                Work::Clean(agent::CleanWork {
                    barcode: live.cartridge.clone().unwrap_or_default(),
                }),
            ),
            ("clear" | "mount" | "carry" | "scan", _) => {
                let detail = live.step_detail.as_deref().map(agent::MoveWork::decode);
                let work = match detail {
                    Some(Ok(detail)) => Some(Work::Move(detail)),
                    None if live.step_kind == "scan" => Some(Work::Scan(agent::ScanWork {})),
                    _ => None,
                };
                if let (Some(library), Some(work)) = (state.library_of(live), work) {
                    give(
                        Unit::Library(library.id),
                        library.incarnation,
                        key(live),
                        work,
                    );
                }
            }
            ("work", Some(drive)) => {
                if live.drive_incarnation.is_none() {
                    bindings.push(Binding {
                        attempt: live.id,
                        drive: Some(drive.incarnation),
                        source: live.source.as_ref().and_then(|s| s.incarnation),
                    });
                }
                if live.drive_result.is_none()
                    && is_theirs(live.drive_incarnation, drive.incarnation)
                    && let volume = live.volume.and_then(|held| state.volumes.get(&held.id))
                    && let Some(work) = drive_work(live, volume, state, installation)
                {
                    give(Unit::Drive(drive.id), drive.incarnation, key(live), work);
                }
            }
            _ => {}
        }
    }
    (sets, bindings)
}

fn key(live: &LiveAttempt) -> AssignmentKey {
    AssignmentKey {
        attempt: live.id as u64,
        generation: Some(Generation {
            epoch: live.generation.0 as u64,
            counter: live.generation.1 as u64,
        }),
        step: live.step as u32,
    }
}

fn drive_work(
    live: &LiveAttempt,
    volume: Option<&PlannedVolume>,
    state: &State,
    installation: Uuid,
) -> Option<Work> {
    let recording = volume.map(|volume| recording(volume, installation));
    let peer_agent_id = live
        .source
        .as_ref()
        .map(|s| s.name.clone())
        .unwrap_or_default();
    let barcode = live.cartridge.clone().unwrap_or_default();
    Some(match live.kind.as_str() {
        "backup" => Work::Write(agent::WriteWork {
            recording: Some(recording?),
            archive: Some(archive(live, installation)?),
            peer_agent_id,
            part_size: live.archive.as_ref()?.part_size as u64,
            continues: live.volumes.len() > 1,
            beside: state.sharers(live).map(|other| other.id as u64).collect(),
        }),
        "restore" | "feed" => Work::Read(agent::ReadWork {
            recording: Some(recording?),
            peer_agent_id,
        }),
        "verify" => Work::Verify(agent::VerifyWork {
            recording: Some(recording?),
        }),
        "reclaim" if live.reclaimed == live.volume.map(|held| held.id) => {
            Work::Collect(agent::CollectWork {
                recording: Some(recording?),
            })
        }
        "reclaim" => Work::Store(agent::StoreWork {
            recording: Some(recording?),
        }),
        "inspect" => Work::Inspect(agent::InspectWork { barcode }),
        "rescan" => Work::Rescan(agent::RescanWork { barcode, recording }),
        "index" => Work::Index(agent::IndexWork {
            recording: Some(recording?),
        }),
        "label" => Work::Label(agent::LabelWork {
            recording: Some(recording?),
            expired: volume.and_then(|volume| volume.former).map(expired),
            force: live.task.forced,
        }),
        "erase" | "format" => Work::Erase(agent::EraseWork {
            barcode,
            method: match (live.kind.as_str(), live.task.thorough) {
                ("format", _) => agent::EraseMethod::Format,
                (_, true) => agent::EraseMethod::Long,
                (_, false) => agent::EraseMethod::Quick,
            }
            .into(),
            installation_uuid: installation.as_bytes().to_vec().into(),
            volume_uuid: volume
                .map(|v| v.volume_uuid.as_bytes().to_vec().into())
                .unwrap_or_default(),
            // The controller has made sure that nothing lives on it, or was told to force it.
            expired: volume
                .map(|v| v.former.unwrap_or((v.recording_uuid, v.next_block)))
                .map(expired),
            force: live.task.forced,
            medium_serial: volume
                .and_then(|v| v.medium_serial.clone())
                .unwrap_or_default(),
        }),
        "drive-load" => Work::Load(agent::LoadWork { barcode }),
        "drive-rewind" => Work::Rewind(agent::RewindWork {}),
        "drive-unload" => Work::Unload(agent::UnloadWork {}),
        _ => return None,
    })
}

fn expired((recording, end): (Uuid, i64)) -> agent::ExpiredRecording {
    agent::ExpiredRecording {
        recording_uuid: recording.as_bytes().to_vec().into(),
        next_block: end as u64,
    }
}

fn source_work(
    state: &State,
    live: &LiveAttempt,
    drive: Option<&DriveRow>,
    installation: Uuid,
) -> Option<Work> {
    let worker = drive.map(|drive| agent::Worker {
        agent_id: drive.agent.clone(),
        addresses: drive
            .addresses
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
    });
    if live.kind == "restore" {
        let request = v1::RestoreVersionRequest::decode(live.restore_request.as_deref()?).ok()?;
        return Some(Work::Restore(agent::RestoreWork {
            worker,
            collision: request.collision,
            target: request.target,
            entry_count: live.totals.0 as u64,
            byte_count: live.totals.1 as u64,
            strip_prefix: relative(request.strip_prefix.as_ref()),
            prefix: relative(request.prefix.as_ref()),
            owner_rules: request.owner_rules,
            verify_only: request.verify_only,
            dump_format: match live.dump_format.as_deref() {
                None => v1::DumpFormat::Unspecified,
                Some("file") => v1::DumpFormat::File,
                Some(_) => v1::DumpFormat::Tar,
            }
            .into(),
            leader_attempt: match live.stream {
                0 => 0,
                _ => state.first_of(live.job_id)?.id as u64,
            },
        }));
    }
    if live.kind == "feed" {
        let feed = state.feed(live.job_id)?;
        return Some(Work::Feed(agent::FeedWork {
            worker,
            // Until the backup has begun nobody takes what it reads.
            backup_attempt: state.first_of(feed.backup)?.id as u64,
            streamed_archive: feed.streamed_archive as u32,
            spool_byte_count: feed.spool_bytes as u64,
            entry_count: live.totals.0 as u64,
            byte_count: live.totals.1 as u64,
        }));
    }
    if live.kind == "remove-extra" {
        let request = v1::RestoreVersionRequest::decode(live.restore_request.as_deref()?).ok()?;
        return Some(Work::RemoveExtra(agent::RemoveExtraWork {
            target: request.target,
            list_only: request.dry_run,
            strip_prefix: relative(request.strip_prefix.as_ref()),
            prefix: relative(request.prefix.as_ref()),
        }));
    }
    if live.kind == "remove-sources" {
        let request = v1::RemoveSourcesRequest::decode(live.removal.as_deref()?).ok()?;
        return Some(Work::Remove(agent::RemoveWork {
            empty_directories: request.empty_directories,
        }));
    }
    let of = live.archive.as_ref()?;
    let base = of.has_base().then_some(agent::Base {
        head_version: of.parent as u64,
        full_version: if of.differential { of.floor as u64 } else { 0 },
        resumes: of.resumes,
    });
    Some(Work::Backup(agent::BackupWork {
        archive: Some(archive(live, installation)?),
        // With a base it asks for a drive when it has something to store.
        worker: worker.filter(|_| base.is_none() && !of.synthetic),
        synthetic: of.synthetic,
        compression_level: of.compression_level,
        compression_threads: of.compression_threads,
        compression_method: CompressionMethod::from(of.compression_method).into(),
        one_file_system: of.one_file_system,
        base,
        detection: Some(of.detection),
        streams: of.streams as u32,
        leader_attempt: match live.stream {
            0 => 0,
            _ => state.first_of(live.job_id)?.id as u64,
        },
    }))
}

/// A path that was checked when it was asked for, without the leading slash.
fn relative(path: Option<&v1::Path>) -> Bytes {
    let raw = path.and_then(|path| taf_proto::path::to_raw(path).ok());
    let raw = raw.unwrap_or_default();
    Bytes::copy_from_slice(raw.strip_prefix(b"/").unwrap_or(&raw))
}

fn archive(live: &LiveAttempt, installation: Uuid) -> Option<agent::Archive> {
    let of = live.archive.as_ref()?;
    Some(agent::Archive {
        archive_uuid: of.archive_uuid.as_bytes().to_vec().into(),
        line_uuid: of.line_uuid.as_bytes().to_vec().into(),
        version: of.version as u64,
        ordinal: of.ordinal as u32,
        attempt: live.id as u64,
        plan: of.plan.clone(),
        source: of.source.clone(),
        installation_uuid: installation.as_bytes().to_vec().into(),
    })
}

fn recording(volume: &PlannedVolume, installation: Uuid) -> agent::Recording {
    agent::Recording {
        barcode: volume.barcode.clone(),
        volume_uuid: volume.volume_uuid.as_bytes().to_vec().into(),
        recording_uuid: volume.recording_uuid.as_bytes().to_vec().into(),
        installation_uuid: installation.as_bytes().to_vec().into(),
        pool: volume.pool.clone(),
        block_size: volume.block_size as u32,
        next_tape_file: volume.next_tape_file as u64,
        next_block: volume.next_block as u64,
        medium_serial: volume.medium_serial.clone().unwrap_or_default(),
    }
}
