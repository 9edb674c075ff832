//! Who may call what. Every RPC names the permission it needs in its protobuf option; nothing is allowed that no
//! option allows.

mod caller;

pub use caller::Caller;
