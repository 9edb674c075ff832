//! A whole TAF of real processes in a temporary folder: virtual library, controller with its private PostgreSQL, tape
//! agent, source agent; and the `taf` command to use it with.
//!
//! Nothing in here knows more than an administrator: programs are started with their configuration files and asked
//! through `taf`. What it starts it ends, the database included, and also when the test is killed.

mod operator;
mod processes;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rand::Rng as _;
use serde_json::Value;
use tempfile::TempDir;

use crate::patience::until;
use crate::said::{self, Running, Said};
use crate::trees;

pub use processes::Process;

/// How long any command may take. Generous: the tests share two cores with each other.
pub const PATIENCE: Duration = Duration::from_mins(3);
/// How long a process may take to be there.
const START: Duration = Duration::from_mins(1);
/// The administrator of every system.
const ADMINISTRATOR: &str = "admin";
/// The tape agent of every system.
pub const TAPE_AGENT: &str = "tapes";
/// The source agent of every system.
pub const SOURCE_AGENT: &str = "files";
/// The virtual library as an iSCSI target.
const IQN: &str = "iqn.2026-11.internal.taf:test";
/// Tells the processes of one system from all others.
const MARK: &str = "TAF_TEST_HOME";

/// The programs of a system.
pub const PROGRAMS: [&str; 5] = [
    "taf",
    "taf-controller",
    "taf-emulator",
    "taf-source-agent",
    "taf-tape-agent",
];

/// Whose drives and robot a system has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Devices {
    /// Those of a virtual library of its own, over sockets.
    Sockets,
    /// The same as an iSCSI target.
    Iscsi,
    /// Others, by their names; there is no virtual library then that the system knows of.
    Named {
        /// Of the drives.
        drives: Vec<String>,
        /// Of the robot.
        library: String,
    },
}

/// How a system is made.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whose drives they are.
    pub devices: Devices,
    /// Drives.
    pub drives: u16,
    /// Blank cartridges, TAF001L8 and so on, in twice as many slots and two more.
    pub cartridges: u16,
    /// Slots beside those.
    pub further_slots: u16,
    /// Capacity of each, as in `4GB`.
    pub capacity: String,
    /// Further arguments of `taf-emulator serve`.
    pub emulator: Vec<String>,
    /// Bytes that a file of the emulator may have at most: stands for a full disk.
    pub emulator_file_limit: Option<u64>,
    /// The same for the source agent.
    pub source_agent_file_limit: Option<u64>,
    /// Bytes a second below which the drives don't stream, as in `100MB`; no test waits for a source unless it wants to.
    pub drive_floor: String,
    /// After this long a silent unit is lost, as in `5s`.
    pub lease: String,
    /// Further lines of the controller's configuration.
    pub controller: String,
    /// Further lines of the source agent's configuration.
    pub source_agent: String,
    /// Further lines of the tape agent's configuration.
    pub tape_agent: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            devices: Devices::Sockets,
            drives: 2,
            cartridges: 3,
            further_slots: 0,
            capacity: "4GB".into(),
            emulator: Vec::new(),
            emulator_file_limit: None,
            source_agent_file_limit: None,
            drive_floor: "0".into(),
            lease: "15s".into(),
            controller: String::new(),
            source_agent: String::new(),
            tape_agent: String::new(),
        }
    }
}

/// A running system.
#[derive(Debug)]
pub struct System {
    home: TempDir,
    programs: PathBuf,
    options: Options,
    port: u16,
    /// Of the virtual library's iSCSI target, if it is one.
    portal: u16,
    running: BTreeMap<Process, Child>,
    _watchdog: Child,
}

/// Where the programs are: `TAF_PROGRAMS`, or beside the test in the build folder.
pub fn programs() -> Result<PathBuf> {
    let folder = if let Some(folder) = std::env::var_os("TAF_PROGRAMS") {
        PathBuf::from(folder)
    } else {
        let own = std::env::current_exe()?;
        let beside = own.parent().context("the test has no folder")?;
        let profile = if beside.ends_with("deps") {
            beside.parent().unwrap_or(beside)
        } else {
            beside
        };
        profile.to_owned()
    };
    for program in PROGRAMS {
        ensure!(
            folder.join(program).is_file(),
            "there is no {program} in {}: run `cargo build --workspace` first",
            folder.display()
        );
    }
    Ok(folder)
}

impl System {
    /// Starts everything, signs in, and waits until drives and library are shown.
    pub fn start(options: Options) -> Result<Self> {
        let mut system = Self::prepare(options)?;
        if !matches!(system.options.devices, Devices::Named { .. }) {
            system.begin(Process::Emulator)?;
        }
        system.set_up()?;
        Ok(system)
    }

    /// Makes the installation and its agents, and signs in.
    fn set_up(&mut self) -> Result<()> {
        self.begin(Process::Controller)?;
        self.sign_in()?;
        self.enrol(TAPE_AGENT, "tape", "taf-tape-agent")?;
        self.enrol(SOURCE_AGENT, "source", "taf-source-agent")?;
        self.begin(Process::TapeAgent)?;
        self.begin(Process::SourceAgent)?;
        self.until_ready()
    }

    /// After everything was forgotten: a new controller and new agents, for the installation of this id.
    pub fn begin_anew(&mut self, installation: &str) -> Result<()> {
        let line = format!("installation = \"{installation}\"\n");
        self.options.controller.push_str(&line);
        self.configure()?;
        self.set_up()
    }

    /// Only the folders and configuration files.
    fn prepare(options: Options) -> Result<Self> {
        let programs = programs()?;
        let home = tempfile::Builder::new().prefix("taf-").tempdir()?;
        // As root, PostgreSQL runs as another user, who must be able to get to its folder.
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o711))?;
        for folder in ["etc", "log", "data", "restored"] {
            fs::create_dir(home.path().join(folder))?;
        }
        let system = Self {
            port: free_port()?,
            portal: free_port()?,
            _watchdog: watchdog(home.path())?,
            home,
            programs,
            options,
            running: BTreeMap::new(),
        };
        system.configure()?;
        Ok(system)
    }

    fn configure(&self) -> Result<()> {
        let home = self.home().display();
        let address = self.address();
        let (drives, library) = self.devices();
        let lease = &self.options.lease;
        self.write(
            "etc/controller.toml",
            &format!(
                "listen = \"{address}\"\nhome = \"{home}/controller\"\ndatabase = \"embedded\"\nlease = \"{lease}\"\n{}",
                self.options.controller
            ),
        )?;
        self.write(
            "etc/tape-agent.toml",
            &format!(
                "controller = \"{address}\"\nstate = \"{home}/tape-agent\"\nlisten = \"127.0.0.1\"\ndrives = {drives:?}\nlibraries = [{library:?}]\ndrive_floor = \"{}\"\n{}",
                self.options.drive_floor, self.options.tape_agent
            ),
        )?;
        self.write(
            "etc/source-agent.toml",
            &format!(
                "controller = \"{address}\"\nstate = \"{home}/source-agent\"\nbackup_allowed = [\"{home}/data\"]\nrestore_allowed = [\"{home}/restored\"]\n{}",
                self.options.source_agent
            ),
        )
    }

    /// Names of the drives and of the robot.
    pub fn devices(&self) -> (Vec<String>, String) {
        let numbers = 0..self.options.drives;
        match &self.options.devices {
            Devices::Sockets => {
                let sockets = format!("unix:{}/library/sockets", self.home().display());
                (
                    numbers
                        .map(|number| format!("{sockets}/drive{number}.sock"))
                        .collect(),
                    format!("{sockets}/changer.sock"),
                )
            }
            Devices::Iscsi => {
                let target = format!("iscsi://127.0.0.1:{}/{IQN}", self.portal);
                (
                    numbers
                        .map(|number| format!("{target}/{}", number + 1))
                        .collect(),
                    format!("{target}/0"),
                )
            }
            Devices::Named { drives, library } => (drives.clone(), library.clone()),
        }
    }

    fn write(&self, path: &str, text: &str) -> Result<()> {
        let path = self.home().join(path);
        fs::write(&path, text).with_context(|| path.display().to_string())
    }

    /// The folder that everything is in.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Where what is backed up lies: the source agent may read below it.
    pub fn data(&self) -> PathBuf {
        self.home().join("data")
    }

    /// A folder to restore into: the source agent may write below it.
    pub fn restored(&self, name: &str) -> Result<PathBuf> {
        let folder = self.home().join("restored").join(name);
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// host:port of the controller.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The file of a cartridge.
    pub fn cartridge(&self, barcode: &str) -> PathBuf {
        self.home()
            .join("library/cartridges")
            .join(format!("{barcode}.tape"))
    }

    /// The folder of the programs.
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// A command that knows this system: a program of ours by its name, or any other.
    pub fn command(&self, program: &str) -> Command {
        let ours = self.programs.join(program);
        let mut command = if ours.is_file() {
            Command::new(ours)
        } else {
            Command::new(program)
        };
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut folders = vec![self.programs.clone()];
        folders.extend(std::env::split_paths(&path));
        if let Ok(path) = std::env::join_paths(folders) {
            command.env("PATH", path);
        }
        command
            .current_dir(self.home())
            .env("LC_ALL", "C")
            .env("TAF_HOME", self.home())
            .env("TAF_CONFIG", self.home().join("login.toml"))
            .env(MARK, self.home())
            .stdin(Stdio::null());
        command
    }

    /// Runs `taf`.
    pub fn taf(&self, arguments: &[&str]) -> Result<Said> {
        self.start_taf(arguments)?.wait(PATIENCE)
    }

    /// Runs `taf`, which must end with 0, and gives what it prints with `--json`.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let arguments = [arguments, &["--json"]].concat();
        self.taf(&arguments)?.expect(0)?.json()
    }

    /// Starts `taf`.
    pub fn start_taf(&self, arguments: &[&str]) -> Result<Running> {
        let mut command = self.command("taf");
        command.args(arguments);
        Running::start(command)
    }

    /// Runs a line of shell in a folder, failing if any program of a pipe fails.
    pub fn shell(&self, folder: &Path, line: &str) -> Result<Said> {
        let mut command = self.command("bash");
        command
            .args(["-o", "pipefail", "-c", line])
            .current_dir(folder);
        Running::start(command)?.wait(PATIENCE)
    }

    fn sign_in(&self) -> Result<()> {
        self.write("etc/administrator.password", "correct horse\n")?;
        fs::set_permissions(
            self.home().join("etc/administrator.password"),
            fs::Permissions::from_mode(0o600),
        )?;
        let socket = self.home().join("controller/controller.sock");
        let password = self.path("etc/administrator.password");
        self.taf(&[
            "account",
            "create-first",
            "--socket",
            &socket.display().to_string(),
            "--user",
            ADMINISTRATOR,
            "--password-file",
            &password,
        ])?
        .expect(0)?;
        self.login(ADMINISTRATOR, &password)?.expect(0)?;
        Ok(())
    }

    /// Signs in as this user.
    pub fn login(&self, user: &str, password_file: &str) -> Result<Said> {
        self.taf(&[
            "login",
            "--server",
            &self.address(),
            "--authority",
            &self.path("controller/authority.pem"),
            "--user",
            user,
            "--password-file",
            password_file,
        ])
    }

    /// A path below the home folder, as an argument.
    pub fn path(&self, below: &str) -> String {
        self.home().join(below).display().to_string()
    }

    fn enrol(&self, agent: &str, role: &str, program: &str) -> Result<()> {
        let token = self.path(&format!("etc/{agent}.token"));
        self.taf(&["agent", "token", agent, "--role", role, "--output", &token])?
            .expect(0)?;
        self.enrol_with(program, &token, program.trim_start_matches("taf-"))?
            .expect(0)?;
        Ok(())
    }

    /// Runs `PROGRAM enrol` with a token's file and a folder for state below the home folder.
    pub fn enrol_with(&self, program: &str, token_file: &str, state: &str) -> Result<Said> {
        let mut command = self.command(program);
        command.args(["enrol", "--controller", &self.address()]);
        command.args(["--token-file", token_file, "--state", &self.path(state)]);
        Running::start(command)?.wait(PATIENCE)
    }

    /// How large a file the source agent may make from its next start on.
    pub fn limit_source_agent(&mut self, bytes: Option<u64>) {
        self.options.source_agent_file_limit = bytes;
    }

    /// Starts a process that was not started, or has ended. Does not wait until it is of use.
    pub fn begin(&mut self, process: Process) -> Result<()> {
        let (program, mut arguments) = match process {
            Process::Emulator => ("taf-emulator", self.emulator_arguments()),
            Process::Controller | Process::Postgres => {
                ("taf-controller", self.run_arguments("controller"))
            }
            Process::TapeAgent | Process::DriveWorker | Process::LibraryWorker => {
                ("taf-tape-agent", self.run_arguments("tape-agent"))
            }
            Process::SourceAgent => ("taf-source-agent", self.run_arguments("source-agent")),
        };
        let limit = match process {
            Process::Emulator => self.options.emulator_file_limit,
            Process::SourceAgent => self.options.source_agent_file_limit,
            _ => None,
        };
        let mut command = match limit {
            Some(limit) => {
                let mut command = self.command("sh");
                let line = "trap '' XFSZ; ulimit -f \"$1\"; shift; exec \"$@\"";
                command.args(["-c", line, "sh", &(limit / 512).to_string(), program]);
                command
            }
            None => self.command(program),
        };
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log(process))?;
        command
            .args(arguments.drain(..))
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = command
            .spawn()
            .with_context(|| format!("can't start {program}"))?;
        self.running.insert(process, child);
        match process {
            Process::Emulator => self.until_socket(process, "library/sockets/changer.sock"),
            Process::Controller => self.until_socket(process, "controller/controller.sock"),
            _ => Ok(()),
        }
    }

    fn emulator_arguments(&self) -> Vec<String> {
        let Options {
            drives,
            cartridges,
            further_slots,
            capacity,
            emulator,
            ..
        } = &self.options;
        let slots = cartridges * 2 + 2 + further_slots;
        let mut arguments: Vec<String> = format!(
            "serve --dir {} --create --drives {drives} --slots {slots} --cartridges {cartridges} --capacity {capacity}",
            self.path("library")
        )
        .split(' ')
        .map(str::to_owned)
        .collect();
        if self.options.devices == Devices::Iscsi {
            let target = format!("--iscsi 127.0.0.1:{} --iscsi-name {IQN}", self.portal);
            arguments.extend(target.split(' ').map(str::to_owned));
        }
        arguments.extend_from_slice(emulator);
        arguments
    }

    fn run_arguments(&self, name: &str) -> Vec<String> {
        let config = self.path(&format!("etc/{name}.toml"));
        ["run", "--config", &config].map(str::to_owned).into()
    }

    fn log(&self, process: Process) -> PathBuf {
        self.home().join("log").join(format!("{process:?}.log"))
    }

    /// Waits until somebody listens on the socket.
    fn until_socket(&mut self, process: Process, socket: &str) -> Result<()> {
        let socket = self.home().join(socket);
        let what = format!("{}", socket.display());
        until(&what, START, || {
            self.see_that_it_runs(process)?;
            Ok(std::os::unix::net::UnixStream::connect(&socket)
                .is_ok()
                .then_some(()))
        })
    }

    fn see_that_it_runs(&mut self, process: Process) -> Result<()> {
        if let Some(child) = self.running.get_mut(&process)
            && let Some(status) = child.try_wait()?
        {
            bail!(
                "{process:?} has ended with {status}; it said:\n{}",
                last_lines(&self.log(process), 20)
            );
        }
        Ok(())
    }

    /// Waits until the controller answers and shows every drive as free, the library, and both agents as connected.
    pub fn until_ready(&mut self) -> Result<()> {
        until("drives, library and agents", START, || {
            for process in self.running.keys().copied().collect::<Vec<_>>() {
                self.see_that_it_runs(process)?;
            }
            let asked = self.taf(&["drive", "list", "--json"])?;
            if asked.status != Some(0) {
                return Ok(None);
            }
            let drives = asked.json()?;
            let free = said::values(&drives, "state").into_iter().filter(|state| {
                matches!(
                    state.as_str(),
                    Some("DRIVE_STATE_EMPTY" | "DRIVE_STATE_LOADED")
                )
            });
            if free.count() != usize::from(self.options.drives) {
                return Ok(None);
            }
            let agents = self.json(&["agent", "list"])?;
            let libraries = self.json(&["library", "list"])?;
            let connected = |list: &Value| {
                said::values(list, "connected")
                    .into_iter()
                    .filter(|connected| **connected == Value::Bool(true))
                    .count()
            };
            Ok((connected(&agents) == 2 && connected(&libraries) == 1).then_some(()))
        })
        .with_context(|| self.logs())
    }

    /// The last lines of every log, for the message of a failure.
    pub fn logs(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        let mut logs: Vec<PathBuf> = fs::read_dir(self.home().join("log"))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        logs.sort();
        for log in logs {
            let name = log.file_name().unwrap_or_default().display();
            writeln!(text, "---- {name}\n{}", last_lines(&log, 40))
                .expect("writing to a String does not fail");
        }
        text
    }
}

/// Where an absolute path lies below a folder.
pub fn below(folder: &Path, origin: &Path) -> PathBuf {
    folder.join(origin.strip_prefix("/").unwrap_or(origin))
}

fn last_lines(file: &Path, count: usize) -> String {
    let text = fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// A port that nobody uses, below those that the system gives to outgoing connections: it must be free again when the
/// controller is restarted.
fn free_port() -> Result<u16> {
    for _ in 0..100 {
        let port = rand::rng().random_range(15_000..32_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port is free")
}

/// A process that ends the database and removes the folder when this process has ended, however it came to that: it
/// sees the end of a pipe that nobody writes to.
fn watchdog(home: &Path) -> Result<Child> {
    use std::os::unix::process::CommandExt as _;
    let script = r#"
        read -r _
        for entry in /proc/[0-9]*; do
            tr '\0' '\n' <"$entry/environ" 2>/dev/null | grep -qxF "$2=$1" && [ "${entry#/proc/}" != $$ ] && kill -KILL "${entry#/proc/}"
        done
        pid=$(head -n 1 "$1/controller/database/data/postmaster.pid" 2>/dev/null) && kill -QUIT "$pid" && while kill -0 "$pid"; do sleep 0.1; done
        rm -rf "$1"
    "#;
    Ok(Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(home)
        .arg(MARK)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()?)
}

impl Drop for System {
    fn drop(&mut self) {
        if std::thread::panicking() || std::env::var_os("TAF_TEST_LOGS").is_some() {
            eprintln!("{}", self.logs());
        }
        self.end();
        if !nix::unistd::geteuid().is_root() {
            trees::make_removable(self.home());
        }
    }
}
