//! Trees of files: making simple ones, comparing any, removing stubborn ones.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use rand::rngs::StdRng;
use rand::{RngCore as _, SeedableRng as _};
use taf_tree::compare;

/// Makes `files` files of `size` bytes that no compressor shrinks, 100 a directory.
pub fn build_random(top: &Path, seed: u64, files: usize, size: usize) -> Result<()> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut content = vec![0; size];
    for number in 0..files {
        let folder = top.join(format!("folder-{:05}", number / 100));
        if number % 100 == 0 {
            fs::create_dir_all(&folder)?;
        }
        random.fill_bytes(&mut content);
        fs::write(folder.join(format!("file-{number:07}")), &content)?;
    }
    Ok(())
}

/// Makes files of `bytes` in all, from 4 KB to 64 MB, a third random, a third text, a third in between.
pub fn build_mixed(top: &Path, seed: u64, bytes: u64) -> Result<()> {
    const SIZES: [usize; 6] = [4_000, 60_000, 400_000, 3_000_000, 20_000_000, 64_000_000];
    let mut random = StdRng::seed_from_u64(seed);
    let mut left = bytes;
    let mut number = 0_usize;
    let mut block = vec![0; 1 << 16];
    while left > 0 {
        // As many small files as large ones would be all small files: weigh them a little.
        let size = SIZES[(random.next_u32() % 6).min(random.next_u32() % 6) as usize];
        let size = (size as u64).min(left);
        left -= size;
        let folder = top.join(format!("folder-{:04}", number / 50));
        if number.is_multiple_of(50) {
            fs::create_dir_all(&folder)?;
        }
        let mut file = File::create(folder.join(format!("file-{number:06}")))?;
        let mut rest = size as usize;
        while rest > 0 {
            let part = rest.min(block.len());
            fill(&mut random, &mut block[..part], number % 3);
            file.write_all(&block[..part])?;
            rest -= part;
        }
        number += 1;
    }
    Ok(())
}

fn fill(random: &mut StdRng, block: &mut [u8], kind: usize) {
    const WORDS: [&str; 8] = [
        "backup", "of ", "the ", "file\n", "server ", "to ", "tape ", "and ",
    ];
    if kind == 0 {
        random.fill_bytes(block);
        return;
    }
    // Sixteen letters hold four bits a byte, words less than one.
    let mut at = 0;
    while at < block.len() {
        let bits = random.next_u32();
        if kind == 1 {
            let word = WORDS[(bits % 8) as usize].as_bytes();
            let part = word.len().min(block.len() - at);
            block[at..at + part].copy_from_slice(&word[..part]);
            at += part;
        } else {
            block[at] = b'a' + (bits % 16) as u8;
            at += 1;
        }
    }
}

/// In what the second tree differs from the first, for people. The tops' own metadata counts. Owners and, where
/// named, further attributes count only for root, who alone can set them.
pub fn differences(a: &Path, b: &Path) -> Result<Vec<String>> {
    let found = compared(a, b)?;
    Ok(found.map(|difference| difference.to_string()).collect())
}

/// The paths below both tops at which the second tree differs from the first, and what differs, for people.
pub fn differing(a: &Path, b: &Path) -> Result<BTreeMap<PathBuf, String>> {
    let found = compared(a, b)?;
    Ok(found
        .map(|difference| {
            let path = PathBuf::from(OsStr::from_bytes(&difference.path));
            (path, difference.to_string())
        })
        .collect())
}

fn compared(a: &Path, b: &Path) -> Result<compare::Compare> {
    let open = |path: &Path| -> Result<_> {
        Ok(File::open(path)
            .with_context(|| path.display().to_string())?
            .into())
    };
    let options = compare::Options {
        owners: nix::unistd::geteuid().is_root(),
        ..compare::Options::default()
    };
    Ok(compare::compare(open(a)?, open(b)?, options)?)
}

/// Fails, naming the first differences, unless both trees are equal.
pub fn ensure_equal(a: &Path, b: &Path) -> Result<()> {
    let mut found = differences(a, b)?;
    let count = found.len();
    found.truncate(20);
    ensure!(
        count == 0,
        "{count} differences between {} and {}:\n{}",
        a.display(),
        b.display(),
        found.join("\n")
    );
    Ok(())
}

/// Copies a tree as it is now, hard links and times included.
///
/// # Errors
/// `cp` fails.
pub fn copy(tree: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp").arg("-a").args([tree, to]).status()?;
    ensure!(status.success(), "cp -a {}: {status}", tree.display());
    Ok(())
}

/// Opens every directory of a tree to its owner, so that it can be removed by an ordinary user.
pub fn make_removable(top: &Path) {
    let Ok(found) = fs::symlink_metadata(top) else {
        return;
    };
    if !found.is_dir() {
        return;
    }
    if found.permissions().mode() & 0o700 != 0o700 {
        // What can't be opened can't be removed, and the removal says so.
        let _ = fs::set_permissions(top, fs::Permissions::from_mode(0o700));
    }
    let Ok(entries) = fs::read_dir(top) else {
        return;
    };
    for entry in entries.flatten() {
        make_removable(&entry.path());
    }
}
