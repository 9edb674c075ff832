//! Units made up for tests, over real mTLS: a library with a model of its elements that obeys, drives and source agents that
//! do and say what the test tells them.
#![allow(dead_code)]

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use taf_peer::channel;
use taf_peer::material::Material;
use taf_peer::session::{Connector, Session};
use taf_peer::tls::{Expect, Trust, client_config};
use taf_proto::agent::assignment::Work;
use taf_proto::agent::drive_observation::Medium;
use taf_proto::agent::element::Type;
use taf_proto::agent::observation::Seen;
use taf_proto::agent::result::Done;
use taf_proto::agent::{
    AssignmentKey, DriveObservation, DriveUnit, Element, Hello, LibraryObservation, LibraryUnit,
    MoveWork, Observation, Result as WorkResult, SourceUnit, hello,
};
use taf_proto::v1::Fault;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Nothing that is waited for takes longer.
pub const PATIENCE: Duration = Duration::from_secs(25);

/// Waits, but not for ever.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("waited too long for: {what}"))
}

/// Where the controller is now.
pub type Address = Arc<Mutex<String>>;

/// One process of a unit.
pub struct Unit {
    pub session: Session,
    pub incarnation: Uuid,
    seen: Mutex<HashSet<AssignmentKey>>,
    stop: CancellationToken,
}

impl Drop for Unit {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Unit {
    /// A process with this incarnation connects, and stays connected until it is dropped.
    pub fn start(address: &Address, own: &Material, incarnation: Uuid, unit: hello::Unit) -> Self {
        Self::start_seen(address, own, (incarnation, unit), None)
    }

    /// The same that has seen what is in this file: an epoch and a counter.
    pub fn start_seen(
        address: &Address,
        own: &Material,
        (incarnation, unit): (Uuid, hello::Unit),
        generation_file: Option<PathBuf>,
    ) -> Self {
        let trust = Trust::Authority(own.authority().clone());
        let expect = Expect::controller(Some(own.identity().installation));
        let tls = client_config(trust, Some(own), expect).unwrap();
        let address = Arc::clone(address);
        let connector: Connector = Box::new(move || {
            let (address, tls) = (address.lock().unwrap().clone(), Arc::clone(&tls));
            Box::pin(async move {
                let connected = channel::connect(&address, tls).await;
                connected.map_err(|error| error.to_string())
            })
        });
        let hello = Hello {
            program_version: "test".into(),
            incarnation: incarnation.as_bytes().to_vec().into(),
            highest_generation: None,
            unit: Some(unit),
        };
        let stop = CancellationToken::new();
        Self {
            session: Session::start(connector, hello, generation_file, stop.clone()),
            incarnation,
            seen: Mutex::default(),
            stop,
        }
    }

    pub async fn connected(&self) {
        let mut connected = self.session.connected();
        let connected = connected.wait_for(|connected| *connected);
        within("a session", connected).await.unwrap();
    }

    /// The next work that was not given before.
    pub async fn given(&self) -> (AssignmentKey, Work) {
        let mut assignments = self.session.assignments();
        let fresh = |key: &AssignmentKey| !self.seen.lock().unwrap().contains(key);
        let set = assignments.wait_for(|set| set.iter().any(|a| fresh(&a.key.unwrap())));
        let set = within("work", set).await.unwrap().clone();
        let given = set.into_iter().find(|a| fresh(&a.key.unwrap())).unwrap();
        let key = given.key.unwrap();
        self.seen.lock().unwrap().insert(key);
        (key, given.work.unwrap())
    }

    /// Whether the work is in the newest set.
    pub fn has(&self, key: &AssignmentKey) -> bool {
        let assignments = self.session.assignments();
        let set = assignments.borrow();
        set.iter().any(|a| a.key.as_ref() == Some(key))
    }

    /// Waits until the work is not asked for any more.
    pub async fn withdrawn(&self, key: &AssignmentKey) {
        let mut assignments = self.session.assignments();
        let gone = assignments.wait_for(|set| set.iter().all(|a| a.key.as_ref() != Some(key)));
        within("work to be withdrawn", gone).await.unwrap();
    }

    pub fn finish(&self, key: AssignmentKey, done: Option<Done>) {
        self.session.finish(WorkResult {
            key: Some(key),
            fault: None,
            done,
        });
    }

    pub fn fail(&self, key: AssignmentKey, reason: &str) {
        self.session.finish(WorkResult {
            key: Some(key),
            fault: Some(Fault {
                reason: reason.into(),
                message: "as the test wants it".into(),
                next_step: "look at the test".into(),
            }),
            done: None,
        });
    }

    /// Waits until the controller has the result.
    pub async fn acknowledged(&self, key: &AssignmentKey) {
        within("an acknowledgement", async {
            while self.session.is_finished(key) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }

    /// A drive says what it does and what is in it.
    pub fn show_drive(&self, key: Option<AssignmentKey>, medium: Medium, phase: &str) {
        self.session.observe(Observation {
            key,
            seen: Some(Seen::Drive(DriveObservation {
                medium: medium.into(),
                phase: phase.into(),
                ..DriveObservation::default()
            })),
        });
    }
}

pub fn source_unit() -> hello::Unit {
    hello::Unit::Source(SourceUnit {
        host_name: "host".into(),
        ..SourceUnit::default()
    })
}

pub fn drive_unit(serial: &str) -> hello::Unit {
    hello::Unit::Drive(DriveUnit {
        serial: serial.into(),
        vendor: "TAF".into(),
        product: "drive".into(),
        revision: "1".into(),
        addresses: vec!["127.0.0.1:9".into()],
    })
}

pub fn library_unit(serial: &str) -> hello::Unit {
    hello::Unit::Library(LibraryUnit {
        serial: serial.into(),
        vendor: "TAF".into(),
        product: "library".into(),
    })
}

pub fn slot(address: u32, barcode: &str) -> Element {
    Element {
        r#type: Type::Slot.into(),
        address,
        full: !barcode.is_empty(),
        barcode: barcode.into(),
        ..Element::default()
    }
}

pub fn drive_element(address: u32, serial: &str, barcode: &str, from: u32) -> Element {
    Element {
        r#type: Type::Drive.into(),
        drive_serial: serial.into(),
        source_address: from,
        ..slot(address, barcode)
    }
}

/// What is where, and what the robot did.
#[derive(Default)]
pub struct Model {
    pub elements: Vec<Element>,
    pub moves: Vec<(String, u32, u32)>,
    /// The reason why the next move fails.
    pub fault: Option<&'static str>,
    /// Why the robot moves nothing now.
    pub pause: String,
    /// How often it was asked to look anew.
    pub scans: u32,
}

/// A library with one robot. The model outlives its worker's processes.
#[derive(Clone)]
pub struct Library {
    pub model: Arc<Mutex<Model>>,
    /// Whether moves wait.
    held: watch::Sender<bool>,
}

/// A process that works for it.
pub struct Robot {
    pub unit: Arc<Unit>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Robot {
    fn drop(&mut self) {
        self.unit.stop.cancel();
        self.task.abort();
    }
}

impl Library {
    pub fn new(elements: Vec<Element>) -> Self {
        let model = Model {
            elements,
            ..Model::default()
        };
        Self {
            model: Arc::new(Mutex::new(model)),
            held: watch::channel(false).0,
        }
    }

    pub fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    pub fn moves(&self) -> Vec<(String, u32, u32)> {
        self.model.lock().unwrap().moves.clone()
    }

    /// A person changes what is in it. A running worker sees it by `Robot::look`.
    pub fn put(&self, elements: Vec<Element>) {
        self.model.lock().unwrap().elements = elements;
    }

    pub fn worker(&self, address: &Address, own: &Material) -> Robot {
        let unit = Unit::start(address, own, Uuid::new_v4(), library_unit("L1"));
        let unit = Arc::new(unit);
        self.show(&unit);
        let task = tokio::spawn(self.clone().obey(Arc::clone(&unit)));
        Robot { unit, task }
    }

    pub fn show(&self, unit: &Unit) {
        let observation = {
            let model = self.model.lock().unwrap();
            LibraryObservation {
                elements: model.elements.clone(),
                pause: model.pause.clone(),
                picker_exception: String::new(),
            }
        };
        unit.session.observe(Observation {
            key: None,
            seen: Some(Seen::Library(observation)),
        });
    }

    async fn obey(self, unit: Arc<Unit>) {
        loop {
            let (key, work) = loop {
                let mut assignments = unit.session.assignments();
                let fresh = |key: &AssignmentKey| !unit.seen.lock().unwrap().contains(key);
                let set = assignments.wait_for(|set| set.iter().any(|a| fresh(&a.key.unwrap())));
                let Ok(set) = set.await.map(|set| set.clone()) else {
                    return;
                };
                if let Some(next) = set.into_iter().find(|a| fresh(&a.key.unwrap())) {
                    unit.seen.lock().unwrap().insert(next.key.unwrap());
                    break (next.key.unwrap(), next.work.unwrap());
                }
            };
            let mut held = self.held.subscribe();
            held.wait_for(|held| !held).await.unwrap();
            let outcome = match work {
                Work::Move(work) => self.carry(&work),
                Work::Scan(_) => {
                    self.model.lock().unwrap().scans += 1;
                    Ok(())
                }
                other => panic!("a robot moves and looks: {other:?}"),
            };
            self.show(&unit);
            match outcome {
                Ok(()) => unit.finish(key, None),
                Err(reason) => unit.fail(key, reason),
            }
        }
    }

    fn carry(&self, work: &MoveWork) -> Result<(), &'static str> {
        let mut model = self.model.lock().unwrap();
        if let Some(fault) = model.fault.take() {
            return Err(fault);
        }
        let holds = |model: &Model, address| {
            let mut at = model.elements.iter().filter(|e| e.address == address);
            at.any(|e| e.full && e.barcode == work.barcode)
        };
        if holds(&model, work.to_address) {
            return Ok(());
        }
        if !holds(&model, work.from_address) {
            return Err("CARTRIDGE_MOVED");
        }
        for element in &mut model.elements {
            if element.address == work.from_address {
                element.full = false;
                element.barcode.clear();
            }
            if element.address == work.to_address {
                if element.full {
                    return Err("MOVE_FAILED");
                }
                element.full = true;
                element.barcode.clone_from(&work.barcode);
                element.source_address = work.from_address;
            }
        }
        let done = (work.barcode.clone(), work.from_address, work.to_address);
        model.moves.push(done);
        Ok(())
    }
}
