//! Workers: one process for each device. They share nothing but the configuration and the agent's certificate.

pub mod drive;
pub mod library;

use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Between two attempts to open a device.
const DEVICE_RETRY: Duration = Duration::from_millis(500);

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
