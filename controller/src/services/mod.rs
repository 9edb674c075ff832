//! The API's services. A handler decodes a request into values that can't be wrong, calls the store or the core,
//! and encodes the answer. No SQL and no decision about access is made here.

pub mod names;
pub mod status;
