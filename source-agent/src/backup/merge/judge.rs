//! Whether an entry is still what the base has of it (design.md, "The catalog", rule 7).

use taf_format::entry::{Kind, Metadata, Time};
use taf_format::page::{DirectoryStat, Entry, FLAG_XATTRS_OMITTED, xattr_digest};

/// Times this near to the time of reading prove nothing, seconds.
const RACY_SECONDS: i64 = 2;

/// What a difference means, as the source's options and its file system say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rules {
    /// A different status change time says nothing.
    pub ignore_ctime: bool,
    /// A different inode number says nothing.
    pub ignore_inode: bool,
    /// Every content is read and compared.
    pub always_compare: bool,
}

/// What is to be done with an entry of which the base has something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It is as it was: bytes, place and hash are the base's.
    Unchanged,
    /// Its content must be read: if the hash is the base's, so are the bytes. Before its extended attributes are known it
    /// only means that they must be read.
    Compare,
    /// It is stored.
    Store,
}

/// Judges an entry that is no directory by its metadata. `examined` says whether they have its extended attributes, which need
/// not be read as long as the status change time, which they change, counts and is the same.
pub fn judge(old: &Entry, meta: &Metadata, examined: bool, rules: Rules) -> Verdict {
    let content = (
        old.kind,
        old.size,
        old.mtime,
        old.rdev_major,
        old.rdev_minor,
    ) == (
        meta.kind,
        meta.size,
        meta.mtime,
        meta.rdev_major,
        meta.rdev_minor,
    ) && old.link_target == meta.link_target;
    if !content || old.place.is_none() {
        return Verdict::Store;
    }
    if examined && old.xattrs != xattr_digest(&meta.xattrs) {
        return Verdict::Store;
    }
    let rest = (old.mode, old.uid, old.gid) == (meta.mode, meta.uid, meta.gid)
        && (rules.ignore_ctime || old.ctime == meta.ctime)
        && (rules.ignore_inode || old.inode == meta.inode);
    let attributes = examined || !rules.ignore_ctime;
    if meta.kind == Kind::File {
        let doubtful = old.racy || rules.always_compare;
        return match old.hash {
            _ if rest && attributes && !doubtful => Verdict::Unchanged,
            Some(_) => Verdict::Compare,
            None => Verdict::Store,
        };
    }
    // What these hold was compared above, so a racy mark says nothing, and a header costs less than a doubt.
    match (rest, attributes) {
        (true, true) => Verdict::Unchanged,
        (true, false) => Verdict::Compare,
        (false, _) => Verdict::Store,
    }
}

/// Whether an entry may change after it was read at `seen` without its times telling.
pub fn is_racy(meta: &Metadata, seen: Time, rules: Rules) -> bool {
    let limit = Time {
        seconds: seen.seconds.saturating_sub(RACY_SECONDS),
        ..seen
    };
    meta.mtime >= limit || (!rules.ignore_ctime && meta.ctime >= limit)
}

/// The entry of something whose bytes are still the base's: unchanged, or compared and found equal.
pub fn kept(old: &Entry, meta: &Metadata, seen: Time, rules: Rules) -> Entry {
    let mut entry = Entry::new(old.name.clone(), meta);
    entry.racy = is_racy(meta, seen, rules);
    entry.place = old.place;
    entry.tar_length = old.tar_length;
    entry.hash = old.hash;
    entry.xattrs = old.xattrs;
    // What is ignored may not make a difference of its own.
    if rules.ignore_ctime {
        entry.ctime = old.ctime;
    }
    if rules.ignore_inode {
        entry.inode = old.inode;
    }
    // The header at its place may have another name of it, also when that was removed since.
    if old.link_group != 0 && (entry.link_group == 0 || rules.ignore_inode) {
        entry.link_group = old.link_group;
    }
    entry
}

/// What the page says of a directory itself, if its tar header need not be stored again.
pub fn kept_directory(
    old: &DirectoryStat,
    new: &DirectoryStat,
    rules: Rules,
) -> Option<DirectoryStat> {
    let mut kept = new.clone();
    kept.place = old.place;
    kept.tar_length = old.tar_length;
    if rules.ignore_ctime {
        kept.ctime = old.ctime;
    }
    if rules.ignore_inode {
        kept.inode = old.inode;
    }
    let omitted = |stat: &DirectoryStat| stat.flags & FLAG_XATTRS_OMITTED;
    // Attributes too large for the page can't be compared; their change is seen by ctime alone.
    if omitted(old) != omitted(new) || (omitted(new) != 0 && rules.ignore_ctime) {
        return None;
    }
    let flags = kept.flags;
    kept.flags = old.flags;
    let same = kept == *old;
    kept.flags = flags;
    same.then_some(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use taf_format::entry::Xattr;
    use taf_format::page::Place;

    const OLD: Time = Time {
        seconds: 1_000,
        nanos: 7,
    };
    const LATER: Time = Time {
        seconds: 5_000,
        nanos: 0,
    };

    fn meta() -> Metadata {
        Metadata {
            kind: Kind::File,
            size: 5,
            mode: 0o644,
            uid: 1,
            gid: 2,
            user: Vec::new(),
            group: Vec::new(),
            mtime: OLD,
            ctime: OLD,
            inode: 9,
            links: 1,
            rdev_major: 0,
            rdev_minor: 0,
            link_target: Vec::new(),
            xattrs: Vec::new(),
        }
    }

    fn entry(meta: &Metadata) -> Entry {
        let mut entry = Entry::new(b"f".to_vec(), meta);
        entry.place = Some(Place {
            archive_ordinal: 1,
            tar_offset: 512,
        });
        entry.tar_length = 1024;
        entry.hash = (meta.kind == Kind::File).then_some([1; 16]);
        entry
    }

    fn verdict(change: impl FnOnce(&mut Metadata), rules: Rules) -> Verdict {
        let mut new = meta();
        change(&mut new);
        judge(&entry(&meta()), &new, false, rules)
    }

    #[test]
    fn each_field_of_rule_7_tells_a_change() {
        let plain = Rules::default();
        assert_eq!(verdict(|_| {}, plain), Verdict::Unchanged);
        let store: [fn(&mut Metadata); 3] = [
            |meta| meta.size = 6,
            |meta| meta.mtime.nanos += 1,
            |meta| meta.kind = Kind::Fifo,
        ];
        for change in store {
            assert_eq!(verdict(change, plain), Verdict::Store);
        }
        let compare: [fn(&mut Metadata); 5] = [
            |meta| meta.ctime.nanos += 1,
            |meta| meta.inode += 1,
            |meta| meta.mode = 0o600,
            |meta| meta.uid = 3,
            |meta| meta.gid = 3,
        ];
        for change in compare {
            assert_eq!(verdict(change, plain), Verdict::Compare);
        }
    }

    #[test]
    fn options_ignore_what_they_say_and_nothing_else() {
        let inode = Rules {
            ignore_inode: true,
            ..Rules::default()
        };
        assert_eq!(verdict(|meta| meta.inode = 1, inode), Verdict::Unchanged);
        assert_eq!(verdict(|meta| meta.ctime = LATER, inode), Verdict::Compare);
        let always = Rules {
            always_compare: true,
            ..Rules::default()
        };
        assert_eq!(verdict(|_| {}, always), Verdict::Compare);
        // Without ctime only the attributes themselves tell.
        let ctime = Rules {
            ignore_ctime: true,
            ..Rules::default()
        };
        assert_eq!(verdict(|meta| meta.ctime = LATER, ctime), Verdict::Compare);
        let mut new = meta();
        new.ctime = LATER;
        let old = entry(&meta());
        assert_eq!(judge(&old, &new, true, ctime), Verdict::Unchanged);
        assert_eq!(kept(&old, &new, LATER, ctime), old);
        new.xattrs.push(Xattr {
            name: b"user.a".to_vec(),
            value: vec![1],
        });
        assert_eq!(judge(&old, &new, true, ctime), Verdict::Store);
    }

    #[test]
    fn racy_files_are_compared_and_other_things_are_seen_through() {
        let mut old = entry(&meta());
        old.racy = true;
        let plain = Rules::default();
        assert_eq!(judge(&old, &meta(), false, plain), Verdict::Compare);
        old.hash = None;
        assert_eq!(judge(&old, &meta(), false, plain), Verdict::Store);
        let link = |target: &[u8]| Metadata {
            kind: Kind::Symlink,
            size: 0,
            link_target: target.to_vec(),
            ..meta()
        };
        let mut old = entry(&link(b"a"));
        old.racy = true;
        assert_eq!(judge(&old, &link(b"a"), false, plain), Verdict::Unchanged);
        assert_eq!(judge(&old, &link(b"b"), false, plain), Verdict::Store);
        let seen = |seconds| Time { seconds, nanos: 0 };
        assert!(is_racy(&meta(), seen(1_002), plain));
        assert!(!is_racy(&meta(), seen(1_003), plain));
    }

    #[test]
    fn a_file_that_lost_its_other_names_keeps_its_group() {
        let shared = Metadata { links: 2, ..meta() };
        let old = entry(&shared);
        assert_eq!(kept(&old, &meta(), LATER, Rules::default()).link_group, 9);
    }

    #[test]
    fn a_directory_is_stored_again_only_if_its_own_metadata_changed() {
        let folder = Metadata {
            kind: Kind::Directory,
            ..meta()
        };
        let fresh = DirectoryStat::new(&folder);
        let old = DirectoryStat {
            flags: taf_format::page::FLAG_CARRIED,
            place: Some(Place {
                archive_ordinal: 1,
                tar_offset: 0,
            }),
            tar_length: 512,
            ..fresh.clone()
        };
        let kept = kept_directory(&old, &fresh, Rules::default());
        assert_eq!(
            kept.as_ref().map(|kept| (kept.place, kept.flags)),
            Some((old.place, 0))
        );
        let moved = DirectoryStat {
            ctime: LATER,
            ..fresh
        };
        assert_eq!(kept_directory(&old, &moved, Rules::default()), None);
    }
}
