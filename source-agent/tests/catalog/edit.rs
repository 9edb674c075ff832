//! Random edits of a tree: everything that people and programs do to files between two backups.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Edits one tree; the same seed makes the same edits.
pub struct Editor {
    top: PathBuf,
    random: StdRng,
    made: u32,
}

impl Editor {
    pub fn new(top: &Path, seed: u64) -> Self {
        Self {
            top: top.to_owned(),
            random: StdRng::seed_from_u64(seed),
            made: 0,
        }
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.random.random_range(0..end)
    }

    pub fn chance(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }

    pub fn edit(&mut self, times: usize) {
        for _ in 0..times {
            self.once();
        }
    }

    /// All paths, directories or others, in an order that does not depend on the file system.
    fn paths(&self, directories: bool) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut coming = vec![self.top.clone()];
        while let Some(directory) = coming.pop() {
            for entry in fs::read_dir(&directory).unwrap() {
                let entry = entry.unwrap();
                let is_directory = entry.file_type().unwrap().is_dir();
                if is_directory {
                    coming.push(entry.path());
                }
                if is_directory == directories {
                    found.push(entry.path());
                }
            }
        }
        found.sort();
        found
    }

    fn pick(&mut self, directories: bool) -> Option<PathBuf> {
        let mut paths = self.paths(directories);
        if paths.is_empty() {
            return None;
        }
        let index = self.below(paths.len());
        Some(paths.swap_remove(index))
    }

    /// A path that may or may not be taken.
    fn place(&mut self) -> PathBuf {
        let directory = if self.chance(4) {
            None
        } else {
            self.pick(true)
        };
        let directory = directory.unwrap_or_else(|| self.top.clone());
        let depth = directory.components().count() - self.top.components().count();
        let directory = if depth > 4 {
            self.top.clone()
        } else {
            directory
        };
        let name = b"abcdefghijklmn"[self.below(14)] as char;
        directory.join(name.to_string())
    }

    fn content(&mut self) -> Vec<u8> {
        self.made += 1;
        // Few sizes, so that others than the size must tell.
        let length = [0, 3, 600, 300_000][self.below(4)];
        let mut content = vec![b'.'; length];
        for (to, from) in content.iter_mut().zip(self.made.to_le_bytes()) {
            *to = from;
        }
        content
    }

    fn once(&mut self) {
        match self.below(20) {
            0..=5 => {
                let (path, content) = (self.place(), self.content());
                if path.symlink_metadata().is_err() {
                    fs::write(path, content).unwrap();
                }
            }
            6 | 7 => {
                let path = self.place();
                let _ = fs::create_dir(path);
            }
            8 | 9 => self.rewrite(),
            10 => {
                if let Some(path) = self.pick(false).filter(|path| !path.is_symlink()) {
                    let mode = [0o600, 0o644, 0o640][self.below(3)];
                    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
                }
            }
            11 => {
                if let Some(path) = self.pick(true) {
                    let mode = [0o700, 0o755][self.below(2)];
                    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
                }
            }
            12 => {
                if let Some(path) = self.pick(false) {
                    fs::remove_file(path).unwrap();
                }
            }
            13 => {
                if let Some(path) = self.pick(true) {
                    fs::remove_dir_all(path).unwrap();
                }
            }
            14 => {
                let (from, to) = (self.pick(false), self.place());
                if let Some(from) = from.filter(|_| !to.is_dir()) {
                    fs::rename(from, to).unwrap();
                }
            }
            15 => {
                let (from, to) = (self.pick(true), self.place());
                if let Some(from) = from.filter(|from| !to.starts_with(from)) {
                    // Where something is that it can't replace, nothing happens.
                    let _ = fs::rename(from, to);
                }
            }
            16 => self.swap(),
            17 => self.change_kind(),
            18 => {
                let (from, to) = (self.pick(false), self.place());
                if let Some(from) = from {
                    let _ = fs::hard_link(from, to);
                }
            }
            _ => {
                let (path, target) = (self.place(), self.below(3));
                let _ = symlink(format!("target{target}"), path);
            }
        }
    }

    /// A new content, sometimes of the same size, sometimes with the old modification time.
    fn rewrite(&mut self) {
        let Some(path) = self.pick(false).filter(|path| !path.is_symlink()) else {
            return;
        };
        let before = path.metadata().unwrap();
        let mut content = self.content();
        if self.chance(2) {
            content.resize(before.len() as usize, b'=');
        }
        fs::write(&path, content).unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        match self.below(3) {
            0 => file.set_modified(before.modified().unwrap()).unwrap(),
            1 => {
                let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_400_000_000);
                file.set_modified(old).unwrap();
            }
            _ => {}
        }
    }

    fn swap(&mut self) {
        if let (Some(a), Some(b)) = (self.pick(true), self.pick(true))
            && !a.starts_with(&b)
            && !b.starts_with(&a)
        {
            let aside = self.top.join("aside");
            fs::rename(&a, &aside).unwrap();
            fs::rename(&b, &a).unwrap();
            fs::rename(&aside, &b).unwrap();
        }
    }

    fn change_kind(&mut self) {
        if self.chance(2) {
            if let Some(path) = self.pick(false) {
                fs::remove_file(&path).unwrap();
                fs::create_dir(&path).unwrap();
                fs::write(path.join("within"), "x").unwrap();
            }
        } else if let Some(path) = self.pick(true) {
            fs::remove_dir_all(&path).unwrap();
            let content = self.content();
            fs::write(path, content).unwrap();
        }
    }
}
