//! The supervisor: one worker process for each device, started again when it dies. It does nothing else, so that nothing that
//! hangs in a worker can hold up another.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use taf_peer::backoff::Backoff;
use taf_peer::identity::Role;
use taf_peer::material::Material;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::Config;

/// A worker gets so long to end by itself.
const GRACE: Duration = Duration::from_secs(15);
/// A worker that was killed is gone within this, unless it hangs in its device.
const KILLED: Duration = Duration::from_secs(5);
/// Between a death and the next start.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// A worker that lived so long is started again at once.
const STEADY: Duration = Duration::from_secs(30);

/// Runs the workers until SIGTERM or SIGINT.
pub async fn run(config: &Config, file: &Path) -> anyhow::Result<()> {
    // Workers without an identity would die again and again.
    Material::load_as(&config.state, Role::TapeAgent)?;
    let program = std::env::current_exe()?;
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut workers = JoinSet::new();
    let drives = config.drives.iter().map(|device| ("drive", device));
    let libraries = config.libraries.iter().map(|device| ("library", device));
    for (kind, device) in libraries.chain(drives) {
        let worker = Worker {
            program: program.clone(),
            config: file.to_owned(),
            kind,
            device: device.clone(),
        };
        workers.spawn(worker.keep(stop.clone()));
    }
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    stop.cancel();
    while workers.join_next().await.is_some() {}
    Ok(())
}

struct Worker {
    program: PathBuf,
    config: PathBuf,
    kind: &'static str,
    device: String,
}

impl Worker {
    async fn keep(self, stop: CancellationToken) {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            let begun = Instant::now();
            match self.start() {
                Ok(mut child) => {
                    // Held until the worker has ended; `wait` would close it.
                    let _alive = child.stdin.take();
                    tokio::select! {
                        () = stop.cancelled() => return end(&mut child).await,
                        status = child.wait() => {
                            let status = status.map_or_else(|e| e.to_string(), |s| s.to_string());
                            tracing::warn!(device = self.device, status, "a worker ended; starting it again");
                        }
                    }
                }
                Err(error) => {
                    tracing::error!(device = self.device, %error, "a worker could not be started");
                }
            }
            if begun.elapsed() > STEADY {
                backoff.reset();
            }
            if stop
                .run_until_cancelled(tokio::time::sleep(backoff.next()))
                .await
                .is_none()
            {
                return;
            }
        }
    }

    fn start(&self) -> std::io::Result<Child> {
        Command::new(&self.program)
            .arg("worker")
            .arg(self.kind)
            .arg("--config")
            .arg(&self.config)
            .arg("--device")
            .arg(&self.device)
            // A worker whose input ends knows that its supervisor is gone.
            .stdin(Stdio::piped())
            .spawn()
    }
}

async fn end(child: &mut Child) {
    let Some(id) = child.id() else { return };
    if let Err(error) = kill(Pid::from_raw(id as i32), Signal::SIGTERM) {
        tracing::debug!(%error, "the worker has ended already");
    }
    if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
        tracing::warn!(id, "a worker does not end; killing it");
        if let Err(error) = child.start_kill() {
            tracing::debug!(%error, "the worker has ended already");
        }
        // One that hangs in its drive can't be killed. It holds the lock on its device until it is gone, so that the next one
        // waits for it and nobody else has to.
        if tokio::time::timeout(KILLED, child.wait()).await.is_err() {
            tracing::error!(
                id,
                "a worker hangs in its device even when killed; it ends when the device answers or is switched off"
            );
        }
    }
}
