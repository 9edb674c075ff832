//! How TAF's processes meet: who they are, how they prove it, how they connect and stay connected, and the
//! small things each of them does alike (configuration, telemetry, error details).
//!
//! Nothing in here knows what is said over a connection, except enrolment, which is how an identity begins.
#![forbid(unsafe_code)]

pub mod authority;
pub mod backoff;
pub mod channel;
pub mod config;
pub mod enrol;
pub mod faults;
pub mod identity;
pub mod material;
pub mod quantity;
pub mod secret_file;
pub mod serve;
pub mod session;
pub mod telemetry;
pub mod tls;
pub mod token;

/// Largest control message, in bytes. Set it with `max_decoding_message_size` on clients and servers.
pub const MESSAGE_LIMIT: usize = 4 * 1024 * 1024;

/// Largest message of the data path, in bytes: 1 MiB of payload and room for what wraps it.
pub const DATA_MESSAGE_LIMIT: usize = 1024 * 1024 + 64 * 1024;

/// HTTP/2 window of one stream, in bytes. Smaller ones cap a stream at one window per round trip.
pub(crate) const STREAM_WINDOW: u32 = 16 * 1024 * 1024;
/// HTTP/2 window of one connection, in bytes.
pub(crate) const CONNECTION_WINDOW: u32 = 32 * 1024 * 1024;
/// Largest HTTP/2 frame that is accepted, in bytes.
pub(crate) const FRAME_LIMIT: u32 = 1024 * 1024;
/// A connection is pinged this often.
pub(crate) const PING_EVERY: std::time::Duration = std::time::Duration::from_secs(10);
/// A connection whose ping stays unanswered this long is dead.
pub(crate) const PING_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(20);
