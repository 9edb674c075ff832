//! A library's logical units as unix sockets: `DIR/sockets/{changer,drive0,drive1,…}.sock`, and `control.sock`
//! for orders.
//!
//! A client that goes away leaves the state of the unit as it is: killing the agent does not kill the drive.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use taf_scsi::target::Target;
use taf_scsi::transport::unix;

use crate::Library;

/// Longest path of a unix socket in bytes (`sun_path` without its final zero).
const PATH_MAX: usize = 107;

/// A library can't be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system's limit.
    #[error("the socket path {} has {} bytes, the system allows {PATH_MAX}; choose a shorter folder or a relative path", .0.display(), .0.as_os_str().len())]
    PathTooLong(PathBuf),
    /// The system refused.
    #[error("can't {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A logical unit that is being served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// `changer` or `drive0`, `drive1`, ….
    pub unit: String,
    /// The device's name: `unix:PATH`.
    pub device: String,
    /// Its serial number.
    pub serial: String,
}

/// Where the sockets of the library in `dir` are.
pub fn sockets(dir: &Path) -> PathBuf {
    dir.join("sockets")
}

/// Where the library in `dir` takes orders (see [`crate::control`]).
pub fn control(dir: &Path) -> PathBuf {
    sockets(dir).join("control.sock")
}

/// Serves every logical unit of `library` in threads of their own, as long as the process lives. When this
/// returns, clients can connect.
pub fn serve(library: &Library) -> Result<Vec<Served>, Error> {
    let dir = sockets(library.dir());
    std::fs::create_dir_all(&dir).map_err(|source| Error::Io {
        action: "make",
        path: dir.clone(),
        source,
    })?;
    let mut served = vec![unit(
        &dir,
        "changer",
        library.spec().changer_serial(),
        library.changer_target(),
    )?];
    for (number, drive) in library.drives().iter().enumerate() {
        let serial = drive.lock().options().serial.clone();
        served.push(unit(
            &dir,
            &format!("drive{number}"),
            serial,
            drive.target(),
        )?);
    }
    let listener = listen(&control(library.dir()))?;
    let orders = library.control();
    spawn("control", &control(library.dir()), move || {
        crate::control::serve(&listener, &orders)
    })?;
    Ok(served)
}

fn unit<T: Target + 'static>(
    dir: &Path,
    name: &str,
    serial: String,
    target: Arc<Mutex<T>>,
) -> Result<Served, Error> {
    let path = dir.join(format!("{name}.sock"));
    let listener = listen(&path)?;
    spawn(name, &path, move || unix::serve(&listener, &target))?;
    Ok(Served {
        unit: name.to_owned(),
        device: format!("unix:{}", path.display()),
        serial,
    })
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

fn listen(path: &Path) -> Result<UnixListener, Error> {
    if path.as_os_str().as_bytes().len() > PATH_MAX {
        return Err(Error::PathTooLong(path.to_owned()));
    }
    // The library's lock is ours, so a socket that is there was left behind by a dead process.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove the stale socket", path)(error));
        }
        _ => {}
    }
    UnixListener::bind(path).map_err(failed("listen on", path))
}

fn spawn(
    name: &str,
    path: &Path,
    serve: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> Result<(), Error> {
    let unit = name.to_owned();
    thread::Builder::new()
        .name(unit.clone())
        .spawn(move || {
            if let Err(error) = serve() {
                tracing::error!(unit, %error, "nobody is served there any more");
            }
        })
        .map(|_| ())
        .map_err(failed("start a thread for", path))
}
