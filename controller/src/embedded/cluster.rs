//! One data folder and the postmaster on it: making, starting, adopting, stopping.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::account::Account;
use super::binaries::Binaries;
use super::{Error, REQUIRED};

/// Longest path of a unix socket, without the NUL behind it (`sun_path` has 108 bytes).
const SOCKET_PATH: usize = 107;
/// The socket's name, fixed by PostgreSQL.
const SOCKET: &str = ".s.PGSQL.5432";
/// Longest wait for a server that starts, recovers or stops.
const PATIENCE: Duration = Duration::from_mins(1);

/// A private database that runs. Dropping it leaves it running; see [`Cluster::stop`].
#[derive(Debug, Clone)]
pub struct Cluster {
    binaries: Binaries,
    account: Account,
    data: PathBuf,
    log: PathBuf,
    socket: PathBuf,
    adopted: bool,
}

impl Cluster {
    /// The URL of its one database, for [`crate::store::Options`].
    pub fn url(&self) -> String {
        let mut folder = String::new();
        for byte in self.socket.as_os_str().as_encoded_bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                    folder.push(char::from(*byte));
                }
                _ => write!(folder, "%{byte:02X}").expect("writing to a String does not fail"),
            }
        }
        format!("postgresql://taf@/postgres?host={folder}&port=5432&sslmode=disable")
    }

    /// The folder of its socket.
    pub fn socket_folder(&self) -> &Path {
        &self.socket
    }

    /// Its data folder.
    pub fn data_folder(&self) -> &Path {
        &self.data
    }

    /// The folder that [`super::start`] was given.
    pub(super) fn home(&self) -> &Path {
        // The data folder is home/database/data.
        self.data.ancestors().nth(2).unwrap_or(&self.data)
    }

    /// Whether its postmaster lives, be it busy or not.
    pub fn is_alive(&self) -> bool {
        Postmaster::read(&self.data).is_some_and(|running| running.is_alive())
    }

    /// Whether it ran already when [`super::start`] was called.
    pub fn was_adopted(&self) -> bool {
        self.adopted
    }

    /// Stops the server, disconnecting whoever is connected. Blocks until it has stopped.
    pub fn stop(&self) -> Result<(), Error> {
        let output = self
            .account
            .command(&self.binaries.program("pg_ctl"))
            .arg("stop")
            .arg("-D")
            .arg(&self.data)
            .args(["-m", "fast", "-w", "-t", "60"])
            .current_dir(&self.data)
            .stdin(Stdio::null())
            .output();
        self.judge("pg_ctl stop", output)
    }

    fn judge(&self, program: &'static str, output: std::io::Result<Output>) -> Result<(), Error> {
        judge(program, output, &self.log)
    }

    fn start(&self) -> Result<(), Error> {
        // pg_ctl puts the postmaster into a session of its own: it outlives us, and a Ctrl-C meant for us.
        let mut command = self.account.command(&self.binaries.program("pg_ctl"));
        command
            .arg("start")
            .arg("-D")
            .arg(&self.data)
            .arg("-l")
            .arg(&self.log)
            .args(["-w", "-t", "60"]);
        command.current_dir(&self.data).stdin(Stdio::null());
        // The postmaster inherits pg_ctl's output, so a pipe would never end.
        let words = self.data.join("taf-start.log");
        let open = |path: &Path| {
            std::fs::OpenOptions::new()
                .create(true)
                .write(true)
                .truncate(true)
                .mode(0o600)
                .open(path)
                .map_err(Error::io(path))
        };
        let file = open(&words)?;
        self.account.own(&words)?;
        let copy = file.try_clone().map_err(Error::io(&words))?;
        let status = command.stdout(file).stderr(copy).status();
        let said = std::fs::read(&words).unwrap_or_default();
        let output = status.map(|status| Output {
            status,
            stdout: Vec::new(),
            stderr: said,
        });
        match self.judge("pg_ctl start", output) {
            // What is wrong stands in the server's log, not in what pg_ctl says.
            Err(Error::Program { program, said, log }) => Err(Error::Program {
                program,
                said: format!("{said} {}", last_words(&log)).trim().to_owned(),
                log,
            }),
            other => other,
        }
    }
}

/// See [`super::start`].
pub(super) fn start(home: &Path) -> Result<Cluster, Error> {
    std::fs::create_dir_all(home).map_err(Error::io(home))?;
    let home = &home.canonicalize().map_err(Error::io(home))?;
    let base = home.join("database");
    let data = base.join("data");
    let binaries = Binaries::find(&data)?;
    let account = Account::choose(&data)?;
    if !base.is_dir() {
        std::fs::create_dir(&base).map_err(Error::io(&base))?;
    }
    account.make_private(&data)?;
    account.check_way(&data, home)?;
    let log = data.join("server.log");
    let mut cluster = Cluster {
        binaries,
        account,
        socket: socket_folder(&base),
        log,
        data,
        adopted: false,
    };

    if let Some(running) = Postmaster::read(&cluster.data)
        && running.is_alive()
    {
        if running.wait_until_it_answers() {
            tracing::info!(
                pid = running.pid,
                "adopted the private database that was running"
            );
            cluster.socket = running.socket;
            cluster.adopted = true;
            return Ok(cluster);
        }
        if running.is_alive() {
            return Err(Error::Silent {
                folder: cluster.data,
                pid: running.pid,
                log: cluster.log,
            });
        }
    }
    if !cluster.data.join("PG_VERSION").exists() {
        make(&cluster)?;
    }
    cluster.account.make_private(&cluster.socket)?;
    configure(&cluster)?;
    cluster.start()?;
    tracing::info!(folder = %cluster.data.display(), major = cluster.binaries.major, "started the private database");
    Ok(cluster)
}

/// Beside the data; elsewhere if the path would be too long for a socket.
fn socket_folder(base: &Path) -> PathBuf {
    let beside = base.join("socket");
    if beside.as_os_str().len() + 1 + SOCKET.len() <= SOCKET_PATH {
        return beside;
    }
    let hash = blake3::hash(base.as_os_str().as_encoded_bytes()).to_hex();
    let name = format!("taf-{}", &hash[..16]);
    let root = nix::unistd::geteuid().is_root() && Path::new("/run").is_dir();
    Path::new(if root { "/run" } else { "/tmp" }).join(name)
}

fn make(cluster: &Cluster) -> Result<(), Error> {
    // A first attempt that was killed leaves a folder that initdb refuses.
    let entries = std::fs::read_dir(&cluster.data).map_err(Error::io(&cluster.data))?;
    if entries.count() > 0 {
        std::fs::remove_dir_all(&cluster.data).map_err(Error::io(&cluster.data))?;
        cluster.account.make_private(&cluster.data)?;
    }
    tracing::info!(folder = %cluster.data.display(), "making the private database");
    let output = cluster
        .account
        .command(&cluster.binaries.program("initdb"))
        .arg("-D")
        .arg(&cluster.data)
        .args([
            "--no-locale",
            "-E",
            "UTF8",
            "-U",
            "taf",
            "--auth=trust",
            "--data-checksums",
            "--no-instructions",
        ])
        .current_dir(&cluster.data)
        .stdin(Stdio::null())
        .output();
    judge("initdb", output, &cluster.log)
}

fn configure(cluster: &Cluster) -> Result<(), Error> {
    let socket = cluster.socket.to_string_lossy().replace('\'', "''");
    let text = format!(
        "# Written by the TAF controller at each start. Put your own settings into postgresql.auto.conf (ALTER SYSTEM).\n\
         listen_addresses = ''\n\
         port = 5432\n\
         unix_socket_directories = '\"{socket}\"'\n\
         unix_socket_permissions = 0700\n\
         max_connections = {}\n\
         shared_buffers = '{}MB'\n\
         max_files_per_process = {}\n\
         maintenance_work_mem = '64MB'\n\
         max_wal_size = '1GB'\n\
         fsync = on\n\
         full_page_writes = on\n\
         synchronous_commit = on\n\
         # No parallel query: it would need room in /dev/shm, which containers keep small.\n\
         max_parallel_workers_per_gather = 0\n\
         timezone = 'UTC'\n\
         log_timezone = 'UTC'\n\
         logging_collector = off\n\
         log_checkpoints = off\n",
        REQUIRED.connections,
        REQUIRED.shared_buffers >> 20,
        REQUIRED.open_files,
    );
    place(cluster, "taf.conf", &text)?;
    // The socket's folder is closed to everybody but the owner: who gets to it is the owner or root.
    place(
        cluster,
        "pg_hba.conf",
        "# Written by the TAF controller. The folder of the socket guards the way in.\nlocal all all trust\n",
    )?;
    let main = cluster.data.join("postgresql.conf");
    let text = std::fs::read_to_string(&main).map_err(Error::io(&main))?;
    let include = "include 'taf.conf'";
    if !text.lines().any(|line| line.trim() == include) {
        place(cluster, "postgresql.conf", &format!("{text}\n{include}\n"))?;
    }
    Ok(())
}

/// Writes a file of the data folder whole or not at all.
fn place(cluster: &Cluster, name: &str, text: &str) -> Result<(), Error> {
    let path = cluster.data.join(name);
    let fresh = cluster.data.join(format!("{name}.taf-new"));
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)
        .map_err(Error::io(&fresh))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(Error::io(&fresh))?;
    cluster.account.own(&fresh)?;
    std::fs::rename(&fresh, &path).map_err(Error::io(&path))
}

fn judge(program: &'static str, output: std::io::Result<Output>, log: &Path) -> Result<(), Error> {
    let said = match output {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr);
            let lines: Vec<&str> = text
                .lines()
                .map(str::trim)
                .filter(|line| !line.is_empty())
                .collect();
            let words = lines[lines.len().saturating_sub(4)..].join(" ");
            if words.is_empty() {
                output.status.to_string()
            } else {
                words
            }
        }
        Err(error) => error.to_string(),
    };
    Err(Error::Program {
        program,
        said,
        log: log.to_path_buf(),
    })
}

/// The newest complaints in the server's log.
fn last_words(log: &Path) -> String {
    let text = std::fs::read(log)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default();
    let telling = |line: &&str| {
        ["FATAL:", "PANIC:", "HINT:"]
            .iter()
            .any(|word| line.contains(word))
    };
    let lines: Vec<&str> = text.lines().filter(telling).collect();
    lines[lines.len().saturating_sub(2)..].join(" ")
}

/// What `postmaster.pid` says.
#[derive(Debug)]
struct Postmaster {
    pid: i32,
    socket: PathBuf,
}

impl Postmaster {
    fn read(data: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(data.join("postmaster.pid")).ok()?;
        let mut lines = text.lines();
        let pid = lines.next()?.trim().parse().ok().filter(|pid| *pid > 1)?;
        // Then data folder, start time, port; the socket's folder is the fifth line.
        let socket = lines.nth(3).unwrap_or_default();
        Some(Self {
            pid,
            socket: PathBuf::from(socket),
        })
    }

    /// Whether the process lives and is a `postgres`: after a crash of the host, another may have its number, and where
    /// nobody waits for orphans, as in some containers, the dead keep theirs.
    fn is_alive(&self) -> bool {
        match kill(Pid::from_raw(self.pid), None) {
            Ok(()) | Err(Errno::EPERM) => {}
            Err(_) => return false,
        }
        // proc(5): number, name in parentheses, state.
        match std::fs::read_to_string(format!("/proc/{}/stat", self.pid)) {
            Ok(stat) => ["(postgres) ", "(postmaster) "].iter().any(|name| {
                stat.split_once(name)
                    .is_some_and(|(_, rest)| !rest.starts_with('Z'))
            }),
            Err(_) => true,
        }
    }

    /// Waits while it starts, recovers or ends. Whether it came to answer.
    fn wait_until_it_answers(&self) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE && self.is_alive() {
            if answers(&self.socket.join(SOCKET)) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        false
    }
}

/// Whether a server on this socket lets us in now: the first byte of its answer to a startup message is `R`.
fn answers(socket: &Path) -> bool {
    let attempt = || -> std::io::Result<bool> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.set_write_timeout(Some(Duration::from_secs(5)))?;
        let body = b"\0\x03\0\0user\0taf\0database\0postgres\0\0";
        stream.write_all(&(body.len() as u32 + 4).to_be_bytes())?;
        stream.write_all(body)?;
        let mut first = [0];
        stream.read_exact(&mut first)?;
        // Terminate: 'X' and its length.
        stream.write_all(b"X\0\0\0\x04")?;
        Ok(first[0] == b'R')
    };
    attempt().unwrap_or(false)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_long_home_moves_the_socket_to_a_short_place() {
        let short = socket_folder(Path::new("/var/lib/taf/database"));
        assert_eq!(short, Path::new("/var/lib/taf/database/socket"));
        let base = PathBuf::from(format!("/{}", "x".repeat(100)));
        let long = socket_folder(&base);
        assert!(
            long.as_os_str().len() + 1 + SOCKET.len() <= SOCKET_PATH,
            "{}",
            long.display()
        );
        assert_eq!(long, socket_folder(&base));
    }

    #[test]
    fn a_postmaster_file_of_another_process_is_not_alive() {
        let ours = Postmaster {
            pid: std::process::id() as i32,
            socket: PathBuf::new(),
        };
        assert!(!ours.is_alive());
    }
}
