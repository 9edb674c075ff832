//! What an inspection found on a cartridge, compared with the catalog.

use prost::Message as _;
use taf_core::attempt::Verdict;
use taf_core::inspection::{self, Expected, Found, Instead};
use taf_proto::agent::{self, InspectDone, result::Done};
use uuid::Uuid;

use super::facts::State;
use crate::services::names;
use crate::store::attempts::LiveAttempt;
use crate::store::trust::{volume_inspected_on, volume_replaced_on};
use crate::store::volumes::PlannedVolume;
use crate::store::{Error, Transaction, installation, versions, volumes};

/// The verdict on an inspection whose drive has done its part: it failed if what is there is not what the catalog says. Else the
/// volume may be written again.
pub(super) async fn verdict_on(
    tx: &Transaction<'_>,
    state: &State,
    live: &LiveAttempt,
) -> Result<Verdict, Error> {
    let done = done(live).ok_or(Error::Corrupt("an inspection's result"))?;
    let held = live.volume.ok_or(Error::Stale("volume"))?;
    let known = state.volumes.get(&held.id).ok_or(Error::Stale("volume"))?;
    let labelled = !["labelling", "unlabelled"].contains(&known.state.as_str());
    let expected = Expected {
        installation: installation::installation_uuid_on(tx).await?,
        volume: known.volume_uuid,
        recording: known.recording_uuid,
        end_block: labelled.then_some(known.next_block as u64),
    };
    let (barcode, found) = (&known.barcode, found(&done));
    if let Some(serial) = &known.medium_serial
        && !done.medium_serial.is_empty()
        && *serial != done.medium_serial
    {
        let difference = format!(
            "its cartridge has serial number {}, and that of the volume is {serial}",
            done.medium_serial
        );
        return Ok(Verdict::Failed(inspection::differs(barcode, &difference)));
    }
    if let Some(difference) = inspection::difference(&expected, &found) {
        // Nobody doubts that a volume which was trusted all along is what it was; a person is to look at it.
        if let Some(instead) = inspection::instead(&expected, &found).filter(|_| known.suspect) {
            replaced_on(tx, live, known, instead, done.block_size).await?;
            if instead == Instead::Nothing {
                return Ok(Verdict::Failed(inspection::blank(barcode)));
            }
        }
        return Ok(Verdict::Failed(inspection::differs(barcode, &difference)));
    }
    let cartridge = volumes::Cartridge::reported(&done.medium_serial, 0);
    if labelled {
        volumes::volume_proved_on(tx, held.id, &cartridge).await?;
    }
    volume_inspected_on(tx, held.id).await?;
    Ok(Verdict::Succeeded { with_issues: false })
}

/// The recording that the catalog has is not on the cartridge any more: what needs it is lost. What is there instead is not known yet.
async fn replaced_on(
    tx: &Transaction<'_>,
    live: &LiveAttempt,
    known: &PlannedVolume,
    instead: Instead<Uuid>,
    block_size: u32,
) -> Result<(), Error> {
    let barcode = &known.barcode;
    let reason = format!(
        "an inspection of volume {barcode} ({}) found that the recording is gone",
        names::job(live.job_id)
    );
    versions::version_lost_on(tx, known.recording_uuid, &reason).await?;
    tracing::warn!(barcode, ?instead, "a recording is gone");
    match instead {
        Instead::Nothing => {
            volumes::volume_erased_on(tx, known.id, Uuid::new_v4(), "an inspection found it blank")
                .await
        }
        Instead::Recording {
            recording,
            label_end_block,
        } => {
            let size =
                i32::try_from(block_size).map_err(|_| Error::Corrupt("an inspection's result"))?;
            volume_replaced_on(tx, known.id, recording, size, label_end_block as i64).await
        }
    }
}

fn done(live: &LiveAttempt) -> Option<InspectDone> {
    let result = agent::Result::decode(live.drive_result.as_deref()?).ok()?;
    match result.done? {
        Done::Inspect(done) => Some(done),
        _ => None,
    }
}

fn found(done: &InspectDone) -> Found<Uuid> {
    let uuid = |bytes: &[u8]| Uuid::from_slice(bytes).unwrap_or_default();
    if done.blank {
        Found::Blank
    } else if !done.foreign.is_empty() {
        Found::Foreign(done.foreign.clone())
    } else {
        Found::Label {
            installation: uuid(&done.installation_uuid),
            volume: uuid(&done.volume_uuid),
            recording: uuid(&done.recording_uuid),
            label_end_block: done.label_end_block,
            end_block: done.end_block,
        }
    }
}
