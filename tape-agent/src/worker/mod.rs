//! Workers: one process for each device. They share nothing but the configuration and the agent's certificate.

pub mod drive;
pub mod library;

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Between two attempts to open a device.
const DEVICE_RETRY: Duration = Duration::from_millis(500);
/// Between two looks whether an earlier worker has ended.
const LOCK_RETRY: Duration = Duration::from_millis(100);

/// Cancelled by SIGTERM, by SIGINT, and when the supervisor is gone: it holds the other end of our standard input.
pub fn shutdown() -> std::io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let cancelled = token.clone();
    tokio::spawn(async move {
        let mut byte = [0; 1];
        let mut stdin = tokio::io::stdin();
        let orphaned = async { while matches!(stdin.read(&mut byte).await, Ok(1..)) {} };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = orphaned => {}
        }
        cancelled.cancel();
    });
    Ok(token)
}

/// Makes this process the only worker of the device, for as long as the file is held; waits while there is another: after
/// the death of a supervisor its workers still clean up when those of the next begin, and two would drive one tape. `None` at
/// shutdown.
pub async fn alone(
    state: &Path,
    device: &str,
    shutdown: &CancellationToken,
) -> io::Result<Option<File>> {
    let name = blake3::hash(device.as_bytes()).to_hex();
    let path = state.join(format!("worker-{}.lock", &name[..16]));
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)?;
    let mut said = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
        if !said {
            tracing::info!(
                device,
                "waiting for an earlier worker of this device to end"
            );
            said = true;
        }
        let pause = tokio::time::sleep(LOCK_RETRY);
        if shutdown.run_until_cancelled(pause).await.is_none() {
            return Ok(None);
        }
    }
}

/// A name for files, made from a serial number.
fn file_name(serial: &str) -> String {
    serial
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '-' {
                c
            } else {
                '_'
            }
        })
        .collect()
}
