//! Files on this host that name paths to take. They lie where they may be backed up from, or nothing is read of them.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use taf_proto::path::display;

use crate::allow::{AllowList, Purpose};
use crate::config::{Config, plain};
use crate::fault::{self, Error, fault};

/// Longest list.
const BYTES_MAX: u64 = 256 << 20;

/// The paths of all lists.
///
/// # Errors
/// One of them may not or can't be read, or is no list of absolute paths: a run without it would drop files in silence.
pub(super) fn read(config: &Config, lists: &[impl AsRef<[u8]>]) -> Result<Vec<Vec<u8>>, Error> {
    let allowed = AllowList::new(Purpose::Backup, &config.backup_allowed);
    let mut paths = Vec::new();
    for list in lists {
        let shown = display(list.as_ref());
        let path = plain(list.as_ref())
            .ok_or_else(|| fault::protocol(format!("the list {shown} is not an absolute path")))?;
        allowed.check(&path)?;
        let unusable = |why: String| {
            fault(
                "PATH_LIST_UNUSABLE",
                format!("the list of paths {shown} {why}"),
                "mend the file, or take it out of the source",
            )
        };
        let text = whole(&path).map_err(|error| unusable(format!("can't be read: {error}")))?;
        for line in lines(&text) {
            if line.first() != Some(&b'/') {
                return Err(unusable(format!(
                    "names {}, which is not an absolute path",
                    display(line)
                )));
            }
            paths.push(line.to_vec());
        }
    }
    Ok(paths)
}

fn whole(path: &[u8]) -> std::io::Result<Vec<u8>> {
    use std::os::unix::ffi::OsStrExt as _;
    // What is no file might block, and a link might lead to where nothing may be read.
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = File::options()
        .read(true)
        .custom_flags(flags.bits() as i32)
        .open(Path::new(std::ffi::OsStr::from_bytes(path)))?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("it is not a regular file"));
    }
    let mut text = Vec::new();
    file.take(BYTES_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > BYTES_MAX {
        return Err(std::io::Error::other("it is over 256 MiB"));
    }
    Ok(text)
}

/// Entries of a list: ended by NUL bytes if it has any, else lines.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let end = if text.contains(&0) { 0 } else { b'\n' };
    text.split(move |byte| *byte == end)
        .filter(|line| !line.is_empty())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_lines_or_ended_by_zeros() {
        let read = |text: &'static [u8]| lines(text).collect::<Vec<_>>();
        assert_eq!(read(b"/a\n/b c\n\n/d"), [&b"/a"[..], b"/b c", b"/d"]);
        assert_eq!(read(b"/a\nb\0/c\0"), [&b"/a\nb"[..], b"/c"]);
    }

    #[test]
    fn a_list_that_cannot_be_used_ends_the_run() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().canonicalize().unwrap();
        let config = Config {
            controller: "c:1".into(),
            state: "/var/lib/taf/agent".into(),
            backup_allowed: vec![top.clone()],
            restore_allowed: Vec::new(),
            remove_allowed: Vec::new(),
            readers: 1,
            exclude: Vec::new(),
            spool: None,
            log_json: false,
        };
        let list = |name: &str| top.join(name).into_os_string().into_encoded_bytes();
        std::fs::write(top.join("good"), "/x\n/y\n").unwrap();
        std::fs::write(top.join("bad"), "/x\ny\n").unwrap();
        std::os::unix::fs::symlink("good", top.join("link")).unwrap();
        assert_eq!(read(&config, &[list("good")]).unwrap(), [b"/x", b"/y"]);
        for name in ["bad", "gone", "link"] {
            let fault = read(&config, &[list(name)]).unwrap_err().into_fault();
            assert_eq!(fault.reason, "PATH_LIST_UNUSABLE", "{name}: {fault:?}");
        }
        let outside = read(&config, &[b"/etc/hosts".to_vec()]).unwrap_err();
        assert_eq!(outside.into_fault().reason, "PATH_NOT_ALLOWED");
    }
}
