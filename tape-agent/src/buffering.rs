//! How what is on its way to a drive is buffered, and from which speed on the drive streams. The memory is the drive's: archives that
//! are on their way to it at the same time get equal shares of it. Each of them has a file of its own on the disk.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use taf_peer::config::Size;

use crate::config::Config;
use crate::ring::disk::{Disk, Place};
use crate::ring::gate::Terms;
use crate::ring::{self, Limit, Plan};

/// A ring's share of the memory; the others get it when this is dropped.
#[derive(Debug)]
pub struct Share {
    number: u64,
    of: Buffering,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut rings = self.of.lock();
        rings.retain(|(number, _)| *number != self.number);
        self.of.divide(&rings);
    }
}

/// One drive's way of it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Buffering {
    ring: u64,
    /// The rings that there are, each by a number of its own.
    rings: Arc<Mutex<Vec<(u64, Limit)>>>,
    place: Option<Place>,
    /// For what is read from volumes that are reclaimed.
    reclaim: Option<Place>,
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
        let place = spool.and_then(prepare);
        // Without a spool there still is the state folder, and what is free beside it.
        let reclaim = place.clone().or_else(|| {
            let folder = config.state.join("reclaim-spool").join(drive);
            Place::prepare(folder, 0)
                .inspect_err(|error| tracing::error!(%error, "the drive can't reclaim volumes: see that its state folder can be written"))
                .ok()
        });
        Buffering {
            ring: config.ring.0,
            rings: Arc::default(),
            place,
            reclaim,
            floor: config.drive_floor.map(|floor| floor.0),
            wait: config.spool_wait.0,
        }
    }

    /// Bytes a second at which the drive just streams on a medium of this density; 0: it is never waited for.
    pub fn floor(&self, density: u8) -> u64 {
        self.floor.unwrap_or_else(|| floor(density))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(u64, Limit)>> {
        // Whole after every statement.
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The memory for one of so many rings.
    fn divide(&self, rings: &[(u64, Limit)]) {
        let each = self.ring / rings.len().max(1) as u64;
        for (_, ring) in rings {
            ring.set(each);
        }
    }

    /// A ring shares the memory with those that there are.
    pub fn share(&self, ring: Limit) -> Share {
        let mut rings = self.lock();
        let number = rings.last().map_or(0, |(number, _)| number + 1);
        rings.push((number, ring));
        self.divide(&rings);
        drop(rings);
        Share {
            number,
            of: self.clone(),
        }
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

    /// Where what is read from a volume that is reclaimed waits for another one; none if this host's disk can't be used.
    pub fn reclaiming(&self) -> Option<Place> {
        self.reclaim.clone()
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
    async fn rings_share_the_memory_as_long_as_there_are_several() {
        let (_folder, buffering) = buffering("ring = \"64MiB\"\nspool_size = \"32MiB\"");
        let plan = buffering.plan("1".into(), 0).await;
        let (_first, first) = ring::ring(plan);
        let shares = [buffering.share(first.limit())];
        assert_eq!(first.memory(), 64 << 20);
        let plan = buffering.plan("2".into(), 0).await;
        let (_second, second) = ring::ring(plan);
        let more = buffering.share(second.limit());
        assert_eq!([first.memory(), second.memory()], [32 << 20, 32 << 20]);
        drop(shares);
        assert_eq!(second.memory(), 64 << 20);
        drop(more);
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
