//! An iSCSI target in front of a library (RFC 7143): one target, whose unit 0 is the robot and units 1, 2, … the drives.
//!
//! Any number of initiators may be logged in. Each is one nexus by its name and session id, also after it comes again:
//! reservations are its own still, and it is told that the connection was lost. A session is one connection, without
//! recovery below the session. A second login with the same name and id ends the first session.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use taf_scsi::target::{Gate, Nexus, Target};
use taf_scsi::transport::iscsi::chap::Secrets;
use taf_scsi::transport::iscsi::keys::Wishes;

use crate::Library;

mod login;
mod outlet;
mod session;
mod task;

use outlet::Outlet;

/// More connections at once are not taken.
const CONNECTIONS_MAX: usize = 64;
/// Initiators that are remembered when they are gone.
const KNOWN_MAX: usize = 1024;
/// An old session ends within this when its initiator begins another.
const DISPLACING: Duration = Duration::from_secs(10);

/// What kind of target it is.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its name, such as `iqn.2026-11.com.example:library`.
    pub name: String,
    /// Who may log in; anybody without proof if there are none.
    pub secrets: Secrets,
    /// What is agreed to at logins.
    pub wishes: Wishes,
    /// Initiators are sent on to this `HOST:PORT`.
    pub redirect: Option<String>,
    /// An initiator that is silent for so long is asked whether it is there, and given up after six times as long.
    pub ping: Duration,
}

impl Options {
    /// A target of this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            secrets: Secrets::default(),
            wishes: Wishes::default(),
            redirect: None,
            ping: Duration::from_secs(15),
        }
    }

    /// The name of a library's target if none is given.
    pub fn default_name(library: &Library) -> String {
        let serial = library.spec().changer_serial().to_ascii_lowercase();
        let fitting = serial.chars().filter(char::is_ascii_alphanumeric);
        format!(
            "iqn.2026-11.internal.taf:library.{}",
            fitting.collect::<String>()
        )
    }
}

/// A logical unit of the target.
struct Unit {
    target: Arc<Mutex<dyn Target>>,
    /// Grows with each reset: commands from before are gone.
    resets: AtomicU64,
}

impl Unit {
    fn lock(&self) -> MutexGuard<'_, dyn Target + 'static> {
        self.target.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reset(&self) {
        self.resets.fetch_add(1, Ordering::SeqCst);
        self.lock().reset();
    }
}

/// An initiator's port: its name and session id.
type Port = (String, [u8; 6]);

/// A session of somebody who is logged in.
struct Live {
    handle: u16,
    outlet: Arc<Outlet>,
    /// Open when it has ended.
    gone: Gate,
}

#[derive(Default)]
struct Register {
    last_handle: u16,
    live: HashMap<Port, Live>,
    known: HashMap<Port, Nexus>,
}

/// What all connections share.
struct Front {
    options: Options,
    units: Vec<Unit>,
    register: Mutex<Register>,
    connections: AtomicUsize,
}

/// The place of one who is logged in; gone with it.
struct Seat {
    front: Arc<Front>,
    port: Port,
    handle: u16,
    nexus: Nexus,
}

impl Front {
    fn register(&self) -> MutexGuard<'_, Register> {
        self.register.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets an initiator in, after its session from before has ended.
    fn admit(self: &Arc<Self>, port: Port, outlet: &Arc<Outlet>) -> Seat {
        loop {
            let mut register = self.register();
            let Some(old) = register.live.get(&port) else {
                return self.seat(&mut register, port, outlet);
            };
            tracing::info!(
                initiator = port.0,
                "a new session in the place of the old one"
            );
            old.outlet.close();
            let gone = old.gone.clone();
            drop(register);
            if !gone.wait(DISPLACING) {
                // Its thread hangs somewhere; what it still says goes nowhere.
                self.register().live.remove(&port);
            }
        }
    }

    fn seat(self: &Arc<Self>, register: &mut Register, port: Port, outlet: &Arc<Outlet>) -> Seat {
        loop {
            register.last_handle = register.last_handle.wrapping_add(1).max(1);
            let taken = |one: &Live| one.handle == register.last_handle;
            if !register.live.values().any(taken) {
                break;
            }
        }
        if register.known.len() >= KNOWN_MAX {
            let live = &register.live;
            register.known.retain(|port, _| live.contains_key(port));
        }
        let known = register.known.get(&port).copied();
        let nexus = *register
            .known
            .entry(port.clone())
            .or_insert_with(Nexus::new);
        let handle = register.last_handle;
        let live = Live {
            handle,
            outlet: Arc::clone(outlet),
            gone: Gate::default(),
        };
        register.live.insert(port.clone(), live);
        for unit in &self.units {
            unit.lock().connected(nexus, known.is_some());
        }
        Seat {
            front: Arc::clone(self),
            port,
            handle,
            nexus,
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        for unit in &self.front.units {
            unit.lock().disconnected(self.nexus);
        }
        let mut register = self.front.register();
        let own = register.live.get(&self.port);
        if own.is_some_and(|live| live.handle == self.handle)
            && let Some(live) = register.live.remove(&self.port)
        {
            live.gone.open();
        }
    }
}

/// A target that is being served.
pub struct Portal {
    front: Arc<Front>,
    address: SocketAddr,
}

impl Portal {
    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many initiators are logged in.
    pub fn sessions(&self) -> usize {
        self.front.register().live.len()
    }

    /// Tells all initiators that the target goes, and closes their connections.
    pub fn close(&self) {
        for live in self.front.register().live.values() {
            live.outlet.farewell();
            live.outlet.close();
        }
    }
}

/// Serves a library's robot and drives to whoever connects to `listener`, as long as the process lives.
pub fn serve(listener: TcpListener, library: &Library, options: Options) -> io::Result<Portal> {
    let robot: Arc<Mutex<dyn Target>> = library.changer_target();
    let drives = library.drives().iter().map(|drive| {
        let target: Arc<Mutex<dyn Target>> = drive.target();
        target
    });
    let units = std::iter::once(robot).chain(drives).collect();
    serve_units(listener, units, options)
}

/// The same for any logical units, numbered from 0.
pub fn serve_units(
    listener: TcpListener,
    units: Vec<Arc<Mutex<dyn Target>>>,
    options: Options,
) -> io::Result<Portal> {
    let units = units.into_iter().map(|target| Unit {
        target,
        resets: AtomicU64::new(0),
    });
    let front = Arc::new(Front {
        options,
        units: units.collect(),
        register: Mutex::default(),
        connections: AtomicUsize::new(0),
    });
    let address = listener.local_addr()?;
    let served = Arc::clone(&front);
    thread::Builder::new()
        .name("iscsi".to_owned())
        .spawn(move || {
            if let Err(error) = accept(&listener, &served) {
                tracing::error!(%error, "nobody can log in to the iSCSI target any more");
            }
        })?;
    Ok(Portal { front, address })
}

fn accept(listener: &TcpListener, front: &Arc<Front>) -> io::Result<()> {
    loop {
        let (stream, peer) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
                ) =>
            {
                continue;
            }
            Err(error) => return Err(error),
        };
        if front.connections.load(Ordering::SeqCst) >= CONNECTIONS_MAX {
            tracing::warn!(%peer, "too many connections; one is turned away");
            continue;
        }
        front.connections.fetch_add(1, Ordering::SeqCst);
        let guest = Guest(Arc::clone(front));
        thread::Builder::new()
            .name("iscsi-session".to_owned())
            .spawn(move || guest.converse(stream, peer))?;
    }
}

/// A connection that counts.
struct Guest(Arc<Front>);

impl Guest {
    fn converse(self, stream: TcpStream, peer: SocketAddr) {
        if let Err(reason) = session::converse(stream, &self.0) {
            tracing::info!(%peer, reason, "an iSCSI connection ended");
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::SeqCst);
    }
}
