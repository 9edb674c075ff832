//! What an inspection found on a cartridge, compared with the catalog.

use prost::Message as _;
use taf_core::attempt::Verdict;
use taf_core::inspection::{self, Expected, Found};
use taf_proto::agent::{self, InspectDone, result::Done};
use uuid::Uuid;

use super::facts::State;
use crate::store::attempts::LiveAttempt;
use crate::store::trust::volume_inspected_on;
use crate::store::{Error, Transaction, installation, volumes};

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
    if let Some(difference) = inspection::difference(&expected, &found(&done)) {
        let fault = inspection::differs(&known.barcode, &difference);
        return Ok(Verdict::Failed(fault));
    }
    let cartridge = volumes::Cartridge::reported(&done.medium_serial, 0);
    if labelled {
        volumes::volume_proved_on(tx, held.id, &cartridge).await?;
    }
    volume_inspected_on(tx, held.id).await?;
    Ok(Verdict::Succeeded { with_issues: false })
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
