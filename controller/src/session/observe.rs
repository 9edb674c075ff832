//! What units report, as rows.

use std::collections::HashSet;

use jiff::Timestamp;
use prost::Message as _;
use taf_proto::agent::{
    self, SourceAbility, drive_observation::Medium, element, observation::Seen,
};
use uuid::Uuid;

use crate::catalog::trust;
use crate::store::{
    Error, Store,
    attempts::{self, Report},
    clip, drives,
    drives::Unit,
    libraries::{self, Condition, ElementRow, UnitIdentity},
};

/// Most elements that a library may report.
const ELEMENTS_MAX: usize = 20_000;
/// Longest progress that is kept, bytes. It is shown to people, nothing more.
const PROGRESS_MAX: usize = 64 << 10;
/// Longest text of a fault, characters.
const FAULT_MAX: usize = 2000;
/// Most attempts that share a drive.
const SHARERS_MAX: usize = 16;
/// What a drive's worker says when it works for nobody.
const IDLE: &str = "idle";

/// A unit has said who it is. Returns its place.
pub(super) async fn connect(
    store: &Store,
    (agent_id, name): (i64, &str),
    incarnation: Uuid,
    hello: &agent::Hello,
) -> Result<Option<Unit>, Error> {
    // Before anything else: it gets work only when it has said what it saw.
    if let Some(highest) = &hello.highest_generation {
        let seen = (highest.epoch as i64, highest.counter as i64);
        trust::heard(store, name, seen).await?;
    }
    let mut client = store.client().await?;
    let tx = client.transaction().await?;
    drives::agent_seen_on(&tx, agent_id, &clip(&hello.program_version, 64)).await?;
    let identity = |serial: &str, vendor: &str, product: &str| {
        (clip(serial, 64), clip(vendor, 32), clip(product, 32))
    };
    let unit = match &hello.unit {
        Some(agent::hello::Unit::Source(source)) => {
            let host = clip(&source.host_name, 255);
            let mut abilities = source.abilities();
            let incomplete = abilities.any(|it| it == SourceAbility::IncompleteVersions);
            drives::source_connect_on(&tx, agent_id, incarnation, &host, incomplete).await?;
            Some(Unit::Source(agent_id))
        }
        Some(agent::hello::Unit::Drive(drive)) if !drive.serial.is_empty() => {
            let (serial, vendor, product) = identity(&drive.serial, &drive.vendor, &drive.product);
            let unit = UnitIdentity {
                serial: &serial,
                vendor: &vendor,
                product: &product,
                agent_id,
                incarnation,
            };
            let addresses = clip(&drive.addresses.join(" "), 1024);
            let firmware = clip(&drive.revision, 32);
            let id = drives::drive_connect_on(&tx, &unit, &firmware, &addresses).await?;
            Some(Unit::Drive(id))
        }
        Some(agent::hello::Unit::Library(library)) if !library.serial.is_empty() => {
            let (serial, vendor, product) =
                identity(&library.serial, &library.vendor, &library.product);
            let unit = UnitIdentity {
                serial: &serial,
                vendor: &vendor,
                product: &product,
                agent_id,
                incarnation,
            };
            Some(Unit::Library(
                libraries::library_connect_on(&tx, &unit).await?,
            ))
        }
        _ => None,
    };
    tx.commit().await?;
    Ok(unit)
}

/// A unit has seen something.
pub(super) async fn observe(
    store: &Store,
    unit: Unit,
    incarnation: Uuid,
    observation: &agent::Observation,
) -> Result<(), Error> {
    let mut client = store.client().await?;
    let tx = client.transaction().await?;
    // The unit's row first, as in everything that locks a unit and an attempt.
    drives::unit_heard(&tx, unit, incarnation, true).await?;
    let attempt = observation.key.as_ref().and_then(attempt_of);
    match (&observation.seen, unit) {
        (Some(Seen::Progress(progress)), Unit::Source(_)) => {
            if let Some((attempt, generation)) = attempt {
                let encoded = progress.encode_to_vec();
                if encoded.len() <= PROGRESS_MAX {
                    attempts::attempt_progress_on(&tx, attempt, generation, unit, &encoded).await?;
                }
            }
        }
        (Some(Seen::Drive(drive)), Unit::Drive(id)) => {
            let medium = match drive.medium() {
                Medium::Unspecified => "unknown",
                Medium::Empty => "empty",
                Medium::Loaded => "loaded",
                Medium::Unloaded => "unloaded",
            };
            let barcode = Some(clip(&drive.barcode, 64)).filter(|b| !b.is_empty());
            let hung = drive.hung_since.and_then(|since| {
                Some(drives::Hung {
                    since: Timestamp::new(since.seconds, since.nanos).ok()?,
                    command: clip(&drive.hung_command, 64),
                })
            });
            let current = drives::drive_observe_on(
                &tx,
                id,
                incarnation,
                medium,
                barcode.as_deref(),
                hung.as_ref(),
            )
            .await?;
            if current && observation.key.is_none() && drive.phase == IDLE {
                attempts::attempt_drive_idle_on(&tx, id).await?;
            }
            for (attempt, seen) in each_alone(attempt, drive) {
                let (id, generation) = attempt;
                let encoded = seen.encode_to_vec();
                if encoded.len() <= PROGRESS_MAX {
                    attempts::attempt_progress_on(&tx, id, generation, unit, &encoded).await?;
                }
            }
        }
        (Some(Seen::Library(library)), Unit::Library(id)) => {
            if library.elements.len() > ELEMENTS_MAX {
                tracing::warn!(
                    elements = library.elements.len(),
                    most = ELEMENTS_MAX,
                    "a library shows more elements than are kept"
                );
            }
            // An address that comes twice would be refused for ever.
            let mut addresses = HashSet::new();
            let elements: Vec<ElementRow> = library
                .elements
                .iter()
                .take(ELEMENTS_MAX)
                .filter_map(element_row)
                .filter(|element| addresses.insert(element.address))
                .collect();
            let text = |t: &str| Some(clip(t, 400)).filter(|t| !t.is_empty());
            let condition = Condition {
                pause: text(&library.pause),
                picker_exception: text(&library.picker_exception),
            };
            let is_current =
                libraries::library_condition_on(&tx, id, incarnation, &condition).await?;
            // Behind an open door nothing can be read, and what was there is still believed.
            if is_current && !(elements.is_empty() && condition.pause.is_some()) {
                libraries::library_inventory_on(&tx, id, &elements).await?;
            }
        }
        _ => {}
    }
    tx.commit().await?;
    Ok(())
}

/// Row and generation of an attempt.
type AttemptId = (i64, (i64, i64));

fn attempt_of(key: &agent::AssignmentKey) -> Option<AttemptId> {
    let generation = key.generation?;
    Some((
        key.attempt as i64,
        (generation.epoch as i64, generation.counter as i64),
    ))
}

/// What a drive does for each attempt that it works for.
fn each_alone(
    first: Option<AttemptId>,
    drive: &agent::DriveObservation,
) -> Vec<(AttemptId, agent::DriveObservation)> {
    let alone = agent::DriveObservation {
        beside: Vec::new(),
        ..drive.clone()
    };
    let mut each = Vec::new();
    for writing in drive.beside.iter().take(SHARERS_MAX) {
        let Some(attempt) = writing.key.as_ref().and_then(attempt_of) else {
            continue;
        };
        let seen = agent::DriveObservation {
            phase: writing.phase.clone(),
            received_byte_count: writing.received_byte_count,
            committed_byte_count: writing.committed_byte_count,
            bytes_per_second: writing.bytes_per_second,
            flow: writing.flow,
            ..alone.clone()
        };
        each.push((attempt, seen));
    }
    each.extend(first.map(|first| (first, alone)));
    // In one order always, so that two of these never wait for each other.
    each.sort_by_key(|(attempt, _)| *attempt);
    each
}

fn element_row(element: &agent::Element) -> Option<ElementRow> {
    let kind = match element.r#type() {
        element::Type::Slot => "slot",
        element::Type::MailSlot => "mail-slot",
        element::Type::Drive => "drive",
        element::Type::Unspecified => return None,
    };
    let text = |t: &str| Some(clip(t, 64)).filter(|t| !t.is_empty());
    Some(ElementRow {
        address: i32::try_from(element.address).ok()?,
        kind: kind.to_owned(),
        occupied: element.full,
        barcode: text(&element.barcode).filter(|_| element.full),
        drive_serial: text(&element.drive_serial),
        source_address: i32::try_from(element.source_address)
            .ok()
            .filter(|a| *a > 0),
        exception: Some(clip(&element.exception, 400)).filter(|t| !t.is_empty()),
    })
}

/// A unit has finished an assignment.
pub(super) async fn finish(store: &Store, unit: Unit, result: &agent::Result) -> Result<(), Error> {
    let Some((key, generation)) = result.key.as_ref().and_then(|k| Some((k, k.generation?))) else {
        return Ok(());
    };
    let mut kept = result.clone();
    if let Some(fault) = &mut kept.fault {
        for text in [&mut fault.reason, &mut fault.message, &mut fault.next_step] {
            *text = clip(text, FAULT_MAX);
        }
    }
    let mut client = store.client().await?;
    let tx = client.transaction().await?;
    let report = Report {
        attempt: key.attempt as i64,
        generation: (generation.epoch as i64, generation.counter as i64),
        step: key.step as i32,
        unit,
        result: &kept.encode_to_vec(),
        fault: kept.fault.as_ref().map(|f| f.reason.as_str()),
    };
    attempts::attempt_result_on(&tx, &report).await?;
    tx.commit().await?;
    Ok(())
}
