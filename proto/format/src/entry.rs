//! What a file-system entry is to TAF: the one type that the walker fills, the tar stream carries and the
//! restore applies.

/// The kind of an entry. Sockets are not kept: they mean nothing after their process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// A point in time with the file system's resolution; years before 1970 have negative seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Time {
    /// Seconds since 1970-01-01 UTC.
    pub seconds: i64,
    /// Nanoseconds, 0 to 999,999,999, counted forward from `seconds`.
    pub nanos: u32,
}

/// An extended attribute as raw bytes: POSIX ACLs (`system.posix_acl_*`) and `security.*` are among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Xattr {
    /// Full name with its namespace.
    pub name: Vec<u8>,
    /// Value.
    pub value: Vec<u8>,
}

/// All that is kept of an entry but its name and content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// Kind.
    pub kind: Kind,
    /// Apparent size in bytes; 0 unless a file.
    pub size: u64,
    /// Permission bits, 07777.
    pub mode: u32,
    /// Owner's number.
    pub uid: u32,
    /// Group's number.
    pub gid: u32,
    /// Owner's name, empty if unknown.
    pub user: Vec<u8>,
    /// Group's name, empty if unknown.
    pub group: Vec<u8>,
    /// Modification time.
    pub mtime: Time,
    /// Status change time: kept to detect change, never restored.
    pub ctime: Time,
    /// Inode number on the source.
    pub inode: u64,
    /// Number of names the inode has.
    pub links: u32,
    /// Device number of a device node.
    pub rdev_major: u32,
    /// Device number of a device node.
    pub rdev_minor: u32,
    /// Target of a symbolic link, raw bytes, else empty.
    pub link_target: Vec<u8>,
    /// Extended attributes in the byte order of their names.
    pub xattrs: Vec<Xattr>,
}

/// One run of data in a sparse file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Offset in the file.
    pub offset: u64,
    /// Length in bytes, above 0.
    pub length: u64,
}
