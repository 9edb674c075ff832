//! The API's services. A handler decodes a request into values that can't be wrong, calls the store or the core,
//! and encodes the answer. No SQL and no decision about access is made here.

pub mod agent_catalog;
pub mod agent_mounts;
pub mod catalog;
pub mod check;
pub mod device;
pub mod dump;
pub mod enrolment;
pub(crate) mod gaps;
pub mod health;
pub mod identity;
pub mod job;
mod label_all;
mod mask;
mod moments;
pub mod mutation;
pub mod names;
mod order;
pub mod paging;
pub mod password;
pub mod plan;
pub mod pool;
pub mod preview;
mod recall_plan;
mod reclaim;
mod removal;
mod restore;
pub mod retention;
pub(crate) mod reuse;
mod sample;
mod selection;
pub mod source;
pub mod status;
mod synthesis;
pub mod system;
pub mod trust;
pub mod version;
mod version_type;
pub mod volume;

/// Rows of a page when the client does not say.
pub const PAGE_DEFAULT: usize = 100;
/// Most rows of a page.
pub const PAGE_MOST: usize = 1000;

/// A moment as protobuf has it.
pub fn timestamp(at: jiff::Timestamp) -> prost_types::Timestamp {
    let mut seconds = at.as_second();
    let mut nanos = at.subsec_nanosecond();
    // jiff counts the part of a second towards zero, protobuf always forwards.
    if nanos < 0 {
        seconds -= 1;
        nanos += 1_000_000_000;
    }
    prost_types::Timestamp { seconds, nanos }
}
