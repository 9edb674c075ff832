//! The keys by which this host reserves a drive, on disk before the drive hears of them.
//!
//! Each path to a drive gets a key of its own, since a drive takes each path for another host. Those of earlier paths stay in
//! the file: what a drive holds by one of them is left over from a process of ours that died, and may be pre-empted. A key that
//! is not in the file is never touched.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use taf_drive::OwnKeys;

/// So many earlier keys are kept; a drive forgets what it does not hold.
const KEPT: usize = 32;

/// A file of keys, one a line in hexadecimal, the newest last.
#[derive(Debug, Clone)]
pub struct KeyFile(PathBuf);

impl KeyFile {
    /// Of the drive with this device name.
    pub fn new(state: &Path, device: &str) -> KeyFile {
        let name = blake3::hash(device.as_bytes()).to_hex();
        KeyFile(state.join(format!("reservation-{}.keys", &name[..16])))
    }

    /// A new key, which is on disk when this returns, and the earlier ones.
    pub fn next(&self) -> io::Result<OwnKeys> {
        let mut stale = self.read()?;
        let current = loop {
            let key = rand::random::<u64>();
            if key != 0 && !stale.contains(&key) {
                break key;
            }
        };
        stale.drain(..stale.len().saturating_sub(KEPT));
        let mut text = String::new();
        for key in stale.iter().chain([&current]) {
            text.push_str(&hex::encode(key.to_be_bytes()));
            text.push('\n');
        }
        let new = self.0.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &self.0)?;
        if let Some(folder) = self.0.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(OwnKeys { current, stale })
    }

    fn read(&self) -> io::Result<Vec<u64>> {
        match fs::read_to_string(&self.0) {
            // A line that is none costs a person's look at a reservation, nothing more.
            Ok(text) => Ok(text
                .lines()
                .filter_map(|line| u64::from_str_radix(line, 16).ok())
                .collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_key_is_new_and_the_earlier_ones_are_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let file = KeyFile::new(folder.path(), "unix:/drive");
        let mut before = Vec::new();
        for _ in 0..2 * KEPT {
            let keys = file.next().unwrap();
            assert!(keys.current != 0 && !before.contains(&keys.current));
            let expected = before.len().min(KEPT);
            assert_eq!(keys.stale, before[before.len() - expected..]);
            before.push(keys.current);
        }
        let other = KeyFile::new(folder.path(), "unix:/other");
        assert_eq!(other.next().unwrap().stale, Vec::<u64>::new());
    }
}
