//! What the private database needs of its host, stated in one place and looked at when it starts.

use nix::sys::resource::{Resource, getrlimit};

/// Needs of the private database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most connections at once, all controllers and people together.
    pub connections: u32,
    /// Memory for its cache, bytes; a connection takes up to 20 MB more.
    pub shared_buffers: u64,
    /// Files that one of its processes may open; `RLIMIT_NOFILE` must be at least this and 100.
    pub open_files: u64,
    /// Disk for each directory entry of each version that changed it, bytes, indexes included (measured: 53).
    pub disk_per_entry: u64,
    /// Disk that it takes empty, write-ahead log included, bytes.
    pub disk_base: u64,
}

/// The needs, as configured in `taf.conf` of its data folder.
pub const REQUIRED: Limits = Limits {
    connections: 50,
    shared_buffers: 128 << 20,
    open_files: 400,
    disk_per_entry: 60,
    disk_base: 1200 << 20,
};

/// Logs the needs, and warns if the host gives less.
pub(super) fn check() {
    tracing::info!(
        connections = REQUIRED.connections,
        shared_buffers_bytes = REQUIRED.shared_buffers,
        open_files = REQUIRED.open_files,
        disk_base_bytes = REQUIRED.disk_base,
        disk_bytes_per_entry = REQUIRED.disk_per_entry,
        "needs of the private database"
    );
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < REQUIRED.open_files + 100
    {
        tracing::warn!(
            soft,
            hard,
            needed = REQUIRED.open_files + 100,
            "the limit of open files is low for the database; raise it with LimitNOFILE= or ulimit -n"
        );
    }
}
