//! Reports of mounts on their way to the controller.
//!
//! What a drive says of its health may be said once (page 2Eh forgets what was read): it is on disk before anything else is
//! done about it, `UUID.mount` in a folder of the drive's, and goes when the controller has it and the mount is over. A file
//! that an earlier process left is delivered by the next one. A disk that takes no file costs the report, never the backup.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prost::Message as _;
use taf_peer::faults;
use taf_proto::agent::ReportMountRequest;
use taf_proto::agent::mount_service_client::MountServiceClient;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::controller::Link;

/// After the controller could not be had.
const RETRY: Duration = Duration::from_secs(5);
/// Bytes of the largest report: 64 alerts with their texts.
const LIMIT: u64 = 256 << 10;

/// The reports of one drive. Cheap to clone.
#[derive(Clone)]
pub struct Mounts {
    folder: PathBuf,
    link: Link,
    pending: Arc<Mutex<BTreeSet<Uuid>>>,
    news: Arc<Notify>,
    /// One delivery at a time, so that a later report is never overtaken by an earlier one.
    delivering: Arc<tokio::sync::Mutex<()>>,
}

impl Mounts {
    /// Opens the folder. What is in it is of a process that is gone: its mounts are over.
    pub fn open(folder: PathBuf, link: Link) -> io::Result<Mounts> {
        fs::create_dir_all(&folder)?;
        let mut pending = BTreeSet::new();
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path.file_stem().and_then(|name| name.to_str());
            match name.and_then(|name| Uuid::try_parse(name).ok()) {
                Some(uuid) if path.extension().is_some_and(|e| e == "mount") => {
                    close(&folder, &path)?;
                    pending.insert(uuid);
                }
                _ => fs::remove_file(&path)?,
            }
        }
        Ok(Mounts {
            folder,
            link,
            pending: Arc::new(Mutex::new(pending)),
            news: Arc::default(),
            delivering: Arc::default(),
        })
    }

    /// Makes a report durable. With `send` it is also delivered, else it waits for the next one of its mount.
    pub fn keep(&self, report: &ReportMountRequest, send: bool) {
        let Ok(uuid) = Uuid::from_slice(&report.mount_uuid) else {
            return;
        };
        if let Err(error) = write(&self.folder, uuid, report) {
            tracing::error!(mount = %uuid, %error, "the report of a mount can't be kept; it is lost if the controller can't be had now");
            return;
        }
        if send {
            self.lock().insert(uuid);
            self.news.notify_one();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<Uuid>> {
        // A set of names, whole after every statement.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Delivers what there is, whenever there is something, until shutdown.
    pub async fn run(self, shutdown: CancellationToken) {
        let work = async {
            loop {
                if self.deliver().await {
                    self.news.notified().await;
                } else {
                    tokio::time::sleep(RETRY).await;
                }
            }
        };
        shutdown.run_until_cancelled(work).await;
    }

    /// Waits so long at most for the controller to have everything.
    pub async fn settle(&self, limit: Duration) {
        let _ = tokio::time::timeout(limit, self.deliver()).await;
    }

    /// Delivers what there is. False if the controller can't be had.
    async fn deliver(&self) -> bool {
        let _one = self.delivering.lock().await;
        let pending: Vec<Uuid> = self.lock().iter().copied().collect();
        for uuid in pending {
            // A report that is kept from here on is pending anew.
            self.lock().remove(&uuid);
            let path = file(&self.folder, uuid);
            let report = match read(&path) {
                Ok(report) => report,
                Err(error) => {
                    tracing::error!(mount = %uuid, %error, "the report of a mount can't be read");
                    continue;
                }
            };
            let over = report.mount.as_ref().is_some_and(|m| m.end_time.is_some());
            let answer = MountServiceClient::new(self.link.channel())
                .report_mount(report)
                .await;
            match answer {
                Ok(_) if !over => {}
                Ok(_) => remove(&path),
                Err(status) if faults::is_passing(&status) => {
                    self.lock().insert(uuid);
                    return false;
                }
                Err(status) => {
                    tracing::warn!(mount = %uuid, message = status.message(), "the controller does not take the report of a mount");
                    remove(&path);
                }
            }
        }
        true
    }
}

fn file(folder: &Path, uuid: Uuid) -> PathBuf {
    folder.join(format!("{uuid}.mount"))
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!(file = %path.display(), %error, "a report that was delivered can't be removed; it is delivered again");
    }
}

fn write(folder: &Path, uuid: Uuid, report: &ReportMountRequest) -> io::Result<()> {
    let new = folder.join(format!("{uuid}.new"));
    let mut out = File::create(&new)?;
    out.write_all(&report.encode_to_vec())?;
    out.sync_all()?;
    fs::rename(&new, file(folder, uuid))?;
    File::open(folder)?.sync_all()
}

fn read(path: &Path) -> io::Result<ReportMountRequest> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    File::open(path)?.take(LIMIT).read_to_end(&mut bytes)?;
    ReportMountRequest::decode(bytes.as_slice())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// A mount whose process is gone ended when it was last heard of.
fn close(folder: &Path, path: &Path) -> io::Result<()> {
    let heard = fs::metadata(path)?.modified()?;
    let Ok(mut report) = read(path) else {
        // Half a report says nothing.
        return fs::remove_file(path);
    };
    let (Ok(uuid), Some(mount)) = (Uuid::from_slice(&report.mount_uuid), report.mount.as_mut())
    else {
        return fs::remove_file(path);
    };
    if mount.end_time.is_none() {
        mount.end_time = Some(heard.into());
        write(folder, uuid, &report)?;
    }
    Ok(())
}
