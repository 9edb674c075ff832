//! The drive that a restore reads from: one volume after another, perhaps in one drive after another.
//!
//! The controller brings the volumes. When everything of one has come, its worker is told which one is needed next, which ends
//! its assignment; the controller hears of it, has the next one mounted, and says where. The first volume is
//! there without asking.

use std::time::Duration;

use bytes::Bytes;
use taf_peer::backoff::Backoff;
use taf_peer::faults;
use taf_peer::material::Material;
use taf_proto::agent::catalog_service_client::CatalogServiceClient;
use taf_proto::agent::{
    AssignmentKey, LocateVolumeRequest, ReadNextVolume, ReadRange, ReadRequest, Worker,
    read_request, read_response,
};
use tonic::transport::Channel;

use super::parts::Volume;
use crate::dial::{self, Opened};
use crate::fault::{self, Error};

/// Between two questions where a volume is.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// See the module.
pub struct Tape<'a> {
    own: &'a Material,
    controller: Channel,
    key: AssignmentKey,
    /// Those of the pass under way, by their numbers.
    volumes: Vec<Volume>,
    /// All that the drive may have for us, also from an earlier pass.
    known: Vec<Volume>,
    /// The worker whose drive has, or had last, one of the volumes for us.
    worker: Worker,
    open: Option<Open>,
    /// Whether the drive was left to others.
    resting: bool,
}

struct Open {
    /// The recording in place.
    recording: Bytes,
    call: Opened<dial::Read>,
}

impl<'a> Tape<'a> {
    /// A restore's drive, by its first worker.
    pub fn new(
        own: &'a Material,
        controller: Channel,
        key: AssignmentKey,
        worker: Worker,
        volumes: &[Volume],
    ) -> Self {
        let mut tape = Self {
            own,
            controller,
            key,
            volumes: Vec::new(),
            known: Vec::new(),
            worker,
            open: None,
            resting: false,
        };
        tape.turn_to(volumes);
        tape
    }

    /// From now on volumes are numbered so.
    pub fn turn_to(&mut self, volumes: &[Volume]) {
        self.volumes = volumes.to_vec();
        for volume in volumes {
            if !self.known.contains(volume) {
                self.known.push(volume.clone());
            }
        }
    }

    /// Whether this volume is in place.
    pub fn has(&self, volume: usize) -> bool {
        let wanted = &self.volumes[volume].recording;
        self.open
            .as_ref()
            .is_some_and(|open| open.recording == *wanted)
    }

    /// Waits until this volume is in place, however long that takes: whether it takes too long is the controller's to say.
    ///
    /// # Errors
    /// As [`dial::open`]; a volume that the restore has nothing on.
    pub async fn mount(&mut self, volume: usize) -> Result<(), Error> {
        let wanted = self.volumes[volume].clone();
        loop {
            let open = if let Some(open) = self.open.take() {
                open
            } else {
                if self.resting {
                    self.worker = self.locate(&wanted).await?;
                    self.resting = false;
                }
                self.dial(Some(&wanted)).await?
            };
            if open.recording == wanted.recording {
                self.open = Some(open);
                return Ok(());
            }
            tracing::info!(
                from = self.barcode(&open.recording),
                to = wanted.barcode,
                "the restore goes on with another volume"
            );
            let next = ReadNextVolume {
                recording_uuid: wanted.recording.clone(),
            };
            let Opened {
                requests,
                mut responses,
            } = open.call;
            // A worker that has gone is found by the next look.
            let _ = requests
                .send(say(read_request::Message::NextVolume(next)))
                .await;
            drop(requests);
            while let Ok(Some(response)) = responses.message().await {
                if let Some(read_response::Message::Fault(fault)) = response.message {
                    return Err(Error::Fault(fault));
                }
            }
            self.worker = self.locate(&wanted).await?;
        }
    }

    async fn dial(&self, wanted: Option<&Volume>) -> Result<Open, Error> {
        let opening = Box::pin(dial::open::<dial::Read>(self.own, &self.worker, self.key));
        let opened = tokio::select! {
            opened = opening => opened,
            lost = Box::pin(self.lost(wanted)) => return Err(lost),
        };
        let (call, recording) = opened?;
        // A restore that has nothing to read needs no drive, so there is a volume.
        if !self
            .known
            .iter()
            .any(|volume| volume.recording == recording)
        {
            return Err(fault::protocol(
                "the drive has a volume that is not of this version",
            ));
        }
        Ok(Open { recording, call })
    }

    /// Why the drive will never have a volume for us, as soon as that is so. A worker says no more than that it is not ready: one that
    /// has failed to mount the volume, and one that was started anew, have forgotten us.
    async fn lost(&self, wanted: Option<&Volume>) -> Error {
        let Some(wanted) = wanted else {
            return std::future::pending().await;
        };
        loop {
            tokio::time::sleep(RETRY.1).await;
            if let Err(error) = self.located(wanted).await {
                return error;
            }
        }
    }

    fn barcode(&self, recording: &Bytes) -> &str {
        let known = self
            .known
            .iter()
            .find(|known| known.recording == *recording);
        known.map_or("", |known| known.barcode.as_str())
    }

    /// Where the volume is, as soon as it is there.
    async fn locate(&self, volume: &Volume) -> Result<Worker, Error> {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            if let Some(worker) = self.located(volume).await? {
                return Ok(worker);
            }
            tokio::time::sleep(backoff.next()).await;
        }
    }

    async fn located(&self, volume: &Volume) -> Result<Option<Worker>, Error> {
        let mut client = CatalogServiceClient::new(self.controller.clone());
        let request = LocateVolumeRequest {
            key: Some(self.key),
            recording_uuid: volume.recording.clone(),
        };
        match client.locate_volume(request).await {
            Ok(answer) => Ok(answer.into_inner().worker),
            Err(status) if faults::is_passing(&status) => Ok(None),
            Err(status) => Err(fault::from_status(
                &status,
                "CONTROLLER_LOST",
                "the controller did not say where the next volume is",
            )),
        }
    }

    /// Asks for a range of the volume in place.
    pub async fn ask(&mut self, range: ReadRange) {
        if let Some(open) = &self.open {
            // If the call has ended, its answers say why.
            let message = say(read_request::Message::Range(range));
            let _ = open.call.requests.send(message).await;
        }
    }

    /// What the worker says next; waits for ever without one.
    ///
    /// # Errors
    /// The call broke, or ended too early.
    pub async fn hear(&mut self) -> Result<read_response::Message, Error> {
        let Some(open) = &mut self.open else {
            return std::future::pending().await;
        };
        loop {
            match open.call.responses.message().await {
                Ok(Some(response)) => {
                    if let Some(message) = response.message {
                        return Ok(message);
                    }
                }
                Ok(None) => {
                    return Err(fault::peer_lost(
                        "the tape agent ended the transfer before everything was read",
                    ));
                }
                Err(status) => {
                    let what = "the connection to the tape agent broke";
                    return Err(match faults::reason_of(&status) {
                        Some(_) => fault::from_status(&status, "PEER_LOST", what),
                        None => fault::peer_lost(format!("{what}: {}", fault::words(&status))),
                    });
                }
            }
        }
    }

    /// Leaves the drive to others until a volume is needed again. If that fails it stays with us, which harms nobody.
    pub async fn rest(&mut self) {
        if self.resting {
            return;
        }
        let open = match self.open.take() {
            Some(open) => open,
            None => match self.dial(self.volumes.first()).await {
                Ok(open) => open,
                Err(error) => {
                    tracing::debug!(%error, "the drive can't be left to others");
                    return;
                }
            },
        };
        let next = ReadNextVolume::default();
        let mut call = open.call;
        let said = call
            .requests
            .send(say(read_request::Message::NextVolume(next)));
        if said.await.is_err() {
            return;
        }
        drop(call.requests);
        // Until it has hung up it may still need us.
        while let Ok(Some(_)) = call.responses.message().await {}
        self.resting = true;
    }

    /// Hangs up; the volume stays where it is.
    pub fn close(&mut self) {
        self.open = None;
    }
}

fn say(message: read_request::Message) -> ReadRequest {
    ReadRequest {
        message: Some(message),
    }
}
