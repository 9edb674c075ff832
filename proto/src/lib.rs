//! TAF's published API: messages, clients and servers generated from the protobuf files beside this crate,
//! and the descriptor set that the permission layer, reflection and the REST gateway read.
#![forbid(unsafe_code)]
// Generated code; its documentation is the comments in the protobuf files.
#![allow(clippy::all, clippy::pedantic, missing_docs, rustdoc::all)]

pub mod feed;
pub mod path;
pub mod selection;

/// Package `taf`.
pub mod taf {
    /// The public API.
    pub mod v1 {
        tonic::include_proto!("taf.v1");
    }
    /// Between the controller and its agents.
    pub mod agent {
        /// Version 1.
        pub mod v1 {
            tonic::include_proto!("taf.agent.v1");
        }
    }
    /// What is stored on tape.
    pub mod tape {
        /// Version 1, kept readable for ever.
        pub mod v1 {
            tonic::include_proto!("taf.tape.v1");
        }
    }
}
pub use taf::agent::v1 as agent;
pub use taf::tape::v1 as tape;
pub use taf::v1;

/// Every protobuf file of the API as an encoded `google.protobuf.FileDescriptorSet`, options included.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/taf.descriptors.bin"));
