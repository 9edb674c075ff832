//! How what is on its way to a drive is buffered, and from which speed on the drive streams.

use std::path::PathBuf;
use std::time::Duration;

use taf_peer::config::Size;

use crate::config::Config;
use crate::ring::disk::{Disk, Place};
use crate::ring::gate::Terms;
use crate::ring::{self, Plan};

/// One drive's way of it.
#[derive(Debug, Clone)]
pub struct Buffering {
    ring: u64,
    place: Option<Place>,
    floor: Option<u64>,
    wait: Duration,
}

impl Buffering {
    /// As configured, for the drive whose files have this name. A spool that can't be had is said, and done without.
    pub fn new(config: &Config, drive: &str) -> Buffering {
        let spool = config.spool.clone().zip(config.spool_size);
        let prepare = |(folder, size): (PathBuf, Size)| {
            let folder = folder.join(drive);
            let named = folder.display().to_string();
            Place::prepare(folder, size.0)
                .inspect_err(|error| {
                    tracing::error!(
                        folder = named,
                        %error,
                        "the drive goes without a spool: see that this user may write into the folder, and start again"
                    );
                })
                .ok()
        };
        Buffering {
            ring: config.ring.0,
            place: spool.and_then(prepare),
            floor: config.drive_floor.map(|floor| floor.0),
            wait: config.spool_wait.0,
        }
    }

    /// Bytes a second at which the drive just streams on a medium of this density; 0: it is never waited for.
    pub fn floor(&self, density: u8) -> u64 {
        self.floor.unwrap_or_else(|| floor(density))
    }

    /// What a transfer's ring is made of. A spool for which there is no room is said, and done without.
    pub async fn plan(&self, name: String, floor: u64) -> Plan {
        Plan {
            memory: self.ring,
            disk: self.disk(name).await,
            terms: Terms {
                floor,
                wait: self.wait,
            },
            clock: ring::clock(),
        }
    }

    async fn disk(&self, name: String) -> Option<Disk> {
        let place = self.place.clone()?;
        let making = place.clone();
        let made = tokio::task::spawn_blocking(move || making.create(&name)).await;
        made.unwrap_or_else(|died| Err(std::io::Error::other(died)))
            .inspect_err(|error| {
                tracing::error!(
                    folder = %place.folder().display(),
                    %error,
                    "{} can't be had for a spool; this archive goes on with memory alone: make room there, or set `spool_size` lower",
                    Size(place.size())
                );
            })
            .ok()
    }
}

/// The slowest speed at which full-height drives stream on an LTO medium. Half-height ones go lower, which costs nothing: they
/// are only collected for where they need not be.
fn floor(density: u8) -> u64 {
    const MB: u64 = 1_000_000;
    match density {
        // The drive does not say: a virtual one, most likely.
        0 => 0,
        0x40 | 0x42 | 0x44 => 20 * MB,
        0x46 => 40 * MB,
        0x58 => 47 * MB,
        0x5a => 54 * MB,
        0x5c | 0x5d => 101 * MB,
        0x5e => 112 * MB,
        // LTO-9, and what comes after it.
        _ => 177 * MB,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn buffering(further: &str) -> (tempfile::TempDir, Buffering) {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "controller = \"c:1\"\nstate = \"/s\"\ndrives = [\"unix:/a\"]\nspool = \"{}\"\n{further}\n",
            folder.path().join("spool").display()
        );
        let file = folder.path().join("tape-agent.toml");
        std::fs::write(&file, text).unwrap();
        let buffering = Buffering::new(&Config::load(&file).unwrap(), "A1");
        (folder, buffering)
    }

    #[tokio::test]
    async fn a_transfer_has_a_file_in_the_drives_folder() {
        let (folder, buffering) = buffering("spool_size = \"64MiB\"\nspool_wait = \"1m\"");
        let plan = buffering.plan("7".into(), buffering.floor(0x60)).await;
        let disk = plan.disk.unwrap();
        assert_eq!(disk.path(), folder.path().join("spool/A1/7.spool"));
        assert_eq!(disk.size(), 64 << 20);
        assert_eq!(plan.terms.floor, 177_000_000);
        assert_eq!(plan.terms.wait, Duration::from_mins(1));
        assert_eq!(buffering.floor(0), 0);
    }

    #[tokio::test]
    async fn without_room_it_goes_with_memory_alone() {
        let (folder, buffering) = buffering("spool_size = \"4000000TiB\"\ndrive_floor = \"0\"");
        let plan = buffering.plan("7".into(), buffering.floor(0x60)).await;
        assert!(plan.disk.is_none());
        assert_eq!(plan.terms.floor, 0);
        // The folder can't be had at all.
        std::fs::remove_dir_all(folder.path().join("spool")).unwrap();
        std::fs::write(folder.path().join("spool"), "a file").unwrap();
        let config = Config::load(&folder.path().join("tape-agent.toml")).unwrap();
        let plan = Buffering::new(&config, "A1").plan("7".into(), 0).await;
        assert!(plan.disk.is_none());
    }
}
