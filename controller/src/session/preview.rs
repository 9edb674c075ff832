//! Previews under way: from the person who waits to the agent's session, and what it finds back to the person.
//!
//! They live in memory, at the controller that the agent's session is with, and end with whoever goes first. Nothing is remembered.

use std::collections::HashMap;
use std::time::Duration;

use taf_proto::agent::FetchPreviewResponse;
use taf_proto::v1::PreviewSourceResponse;
use tokio::sync::{mpsc, watch};
use tonic::{Code, Status};
use uuid::Uuid;

use super::{Registry, Unit};
use crate::services::status;

/// Messages that may wait for a slow reader; then the agent waits, too.
const AHEAD: usize = 4;
/// The agent takes a preview on within this time.
const BEGIN: Duration = Duration::from_secs(30);
/// Between two messages: one directory's listing may take long.
const BETWEEN: Duration = Duration::from_mins(10);

/// What the agent finds, or why it ends.
pub type Found = Result<PreviewSourceResponse, Status>;

/// The previews of one unit.
pub(super) struct Waiting {
    all: HashMap<Uuid, Preview>,
    ids: watch::Sender<Vec<Uuid>>,
}

struct Preview {
    /// Until the agent has taken it on: the messages that tell it what to do.
    asked: Option<Vec<FetchPreviewResponse>>,
    /// Until the agent sends.
    found: Option<mpsc::Sender<Found>>,
}

impl Waiting {
    pub(super) fn new() -> (Self, watch::Receiver<Vec<Uuid>>) {
        let (ids, receiver) = watch::channel(Vec::new());
        let all = HashMap::new();
        (Self { all, ids }, receiver)
    }

    fn tell(&self) {
        self.ids.send_replace(self.all.keys().copied().collect());
    }
}

/// A preview that somebody waits for; dropping it ends it.
pub struct Awaited {
    registry: Registry,
    unit: Unit,
    id: Uuid,
    found: mpsc::Receiver<Found>,
    begun: bool,
    ended: bool,
}

impl Awaited {
    /// What the agent finds next; none at the end.
    pub async fn next(&mut self) -> Option<Found> {
        if self.ended {
            return None;
        }
        let patience = if self.begun { BETWEEN } else { BEGIN };
        let found = match tokio::time::timeout(patience, self.found.recv()).await {
            Ok(Some(found)) => found,
            Ok(None) => Err(status::fault(
                Code::Unavailable,
                "AGENT_LOST",
                "the agent went away before the preview was complete; try again when it is back",
            )),
            Err(_) => Err(status::fault(
                Code::Unavailable,
                "AGENT_SILENT",
                "the agent says nothing about the preview; see its log, and that it has the controller's version",
            )),
        };
        self.begun = true;
        let complete =
            |found: &PreviewSourceResponse| found.summary.as_ref().is_some_and(|sum| sum.complete);
        self.ended = found.as_ref().map_or(true, complete);
        Some(found)
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        if let Some(entry) = self.registry.lock().get_mut(&self.unit)
            && entry.previews.all.remove(&self.id).is_some()
        {
            entry.previews.tell();
        }
    }
}

impl Registry {
    /// Asks a unit for a preview. None if it is not connected here.
    pub fn preview(&self, unit: Unit, asked: Vec<FetchPreviewResponse>) -> Option<Awaited> {
        let (sender, found) = mpsc::channel(AHEAD);
        let id = Uuid::new_v4();
        let mut units = self.lock();
        let entry = units.get_mut(&unit)?;
        let preview = Preview {
            asked: Some(asked),
            found: Some(sender),
        };
        entry.previews.all.insert(id, preview);
        entry.previews.tell();
        drop(units);
        Some(Awaited {
            registry: self.clone(),
            unit,
            id,
            found,
            begun: false,
            ended: false,
        })
    }

    /// What a unit is asked for; none if nobody waits, or it was given already.
    pub(crate) fn preview_asked(&self, unit: Unit, id: Uuid) -> Option<Vec<FetchPreviewResponse>> {
        let mut units = self.lock();
        units
            .get_mut(&unit)?
            .previews
            .all
            .get_mut(&id)?
            .asked
            .take()
    }

    /// Where what a unit finds goes; none if nobody waits, or it is given already.
    pub(crate) fn preview_found(&self, unit: Unit, id: Uuid) -> Option<mpsc::Sender<Found>> {
        let mut units = self.lock();
        units
            .get_mut(&unit)?
            .previews
            .all
            .get_mut(&id)?
            .found
            .take()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_preview_is_taken_on_once_and_ends_with_who_waits() {
        let registry = Registry::default();
        let unit = Unit::Source(1);
        assert!(registry.preview(unit, Vec::new()).is_none());
        let seat = registry.join(unit, Uuid::new_v4());
        let asked = vec![FetchPreviewResponse::default()];
        let mut awaited = registry.preview(unit, asked).unwrap();
        let ids = seat.previews.borrow().clone();
        assert_eq!(ids.len(), 1);
        assert!(registry.preview_asked(Unit::Source(2), ids[0]).is_none());
        assert!(registry.preview_asked(unit, ids[0]).is_some());
        assert!(registry.preview_asked(unit, ids[0]).is_none());
        let sender = registry.preview_found(unit, ids[0]).unwrap();
        sender
            .send(Ok(PreviewSourceResponse::default()))
            .await
            .unwrap();
        assert!(awaited.next().await.unwrap().is_ok());
        drop(sender);
        let lost = awaited.next().await.unwrap().unwrap_err();
        assert_eq!(lost.code(), Code::Unavailable);
        assert!(awaited.next().await.is_none());
        drop(awaited);
        assert!(seat.previews.borrow().is_empty());
    }

    #[tokio::test]
    async fn a_preview_ends_with_the_agents_session() {
        let registry = Registry::default();
        let unit = Unit::Source(1);
        let seat = registry.join(unit, Uuid::new_v4());
        let mut awaited = registry.preview(unit, Vec::new()).unwrap();
        registry.leave(unit, &seat);
        assert!(awaited.next().await.unwrap().is_err());
    }
}
