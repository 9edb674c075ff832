//! Copies one tree to another by walk and write, as a backup and its restore would.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::Path;

use taf_format::entry::Kind;
use taf_tree::walk::{Item, Options};
use taf_tree::{Collision, Event, Issue, Target, Walk, Warning, compare};

pub fn open(directory: &Path) -> OwnedFd {
    std::fs::File::open(directory).unwrap().into()
}

pub fn walk(directory: &Path) -> Walk {
    Walk::beneath(open(directory), Options::new(vec![b"/".to_vec()])).unwrap()
}

pub fn copy(from: &Path, to: &Path) -> (Vec<Issue>, Vec<Warning>) {
    let mut target = Target::open(to, Collision::Always).unwrap();
    let (mut issues, mut warnings) = (Vec::new(), Vec::new());
    let mut links: HashMap<(u64, u64), Vec<u8>> = HashMap::new();
    for event in walk(from) {
        match event {
            Event::Enter(directory) => {
                warnings.extend(target.directory(&directory.path, &directory.meta).unwrap());
            }
            Event::Entry(item) => {
                let group = (item.device, item.meta.inode);
                if item.meta.links > 1 {
                    if let Some(first) = links.get(&group) {
                        target.hard_link(&item.path, first).unwrap();
                        continue;
                    }
                    links.insert(group, item.path.clone());
                }
                warnings.extend(entry(&mut target, item));
            }
            Event::Leave { complete, .. } => assert!(complete),
            Event::Issue(issue) => issues.push(issue),
        }
    }
    target
        .finish_directories(|warning| warnings.push(warning.unwrap()))
        .unwrap();
    (issues, warnings)
}

fn entry(target: &mut Target, item: Item) -> Vec<Warning> {
    let (path, meta) = (&item.path, &item.meta);
    match meta.kind {
        Kind::File => {
            let file = item.file.unwrap();
            let extents = file.extents(1000).unwrap();
            let mut writer = target.file(path, meta, extents.as_deref()).unwrap();
            let mut reader = file.into_reader(extents);
            let mut buffer = vec![0; 65_537];
            loop {
                match reader.read(&mut buffer) {
                    0 => break,
                    got => writer.write(&buffer[..got]).unwrap(),
                }
            }
            assert_eq!(reader.finish(), None);
            writer.finish(target).unwrap()
        }
        Kind::Symlink => target.symlink(path, meta).unwrap(),
        Kind::Fifo => target.fifo(path, meta).unwrap(),
        Kind::CharDevice | Kind::BlockDevice => target.device(path, meta).unwrap(),
        Kind::Directory => unreachable!(),
    }
}

pub fn differences(a: &Path, b: &Path) -> Vec<String> {
    let options = compare::Options {
        owners: rustix::process::geteuid().is_root(),
        ..compare::Options::default()
    };
    compare::compare(open(a), open(b), options)
        .unwrap()
        .map(|difference| difference.to_string())
        .collect()
}

/// Runs the named test of this file again as an ordinary user, when we are root; true if it did.
pub fn again_as_user(test: &str) -> bool {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    if !rustix::process::geteuid().is_root() {
        return false;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.path().join("again");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let output = std::process::Command::new(&program)
        .args(["--exact", test, "--nocapture"])
        .current_dir("/")
        .env("TMPDIR", "/tmp")
        .uid(65_534)
        .gid(65_534)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
    true
}
