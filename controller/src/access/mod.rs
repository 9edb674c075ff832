//! Who may call what. Every RPC names the permission it needs in its protobuf option; nothing is allowed that no
//! option allows.

mod caller;
mod gate;
mod layer;
pub mod permissions;
pub mod token;

pub use caller::Caller;
pub use gate::Gate;
pub use layer::{Access, AccessLayer};
pub use permissions::Permissions;
