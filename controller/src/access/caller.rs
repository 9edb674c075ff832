//! Who calls, as the access layer proved it. Handlers find it in the request's extensions.

use taf_peer::identity::Identity;
use taf_proto::v1;
use tonic::{Code, Status};

use crate::services::status;

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// A signed-in person.
    Account {
        /// Key of the account's row.
        id: i64,
        /// User name.
        user: String,
        /// What the account may do.
        role: v1::Role,
        /// Key of the API token's row.
        token: i64,
    },
    /// An agent of this installation, by its certificate. Its role is `SourceAgent` or `TapeAgent`.
    Agent(Identity),
    /// A process of root's or of the controller's own user, on the unix socket.
    Local,
    /// Anybody, on an RPC that is open to anybody.
    Anonymous,
}

impl Caller {
    /// The caller of a request that passed the access layer.
    pub fn of<T>(request: &tonic::Request<T>) -> Result<&Self, Status> {
        request.extensions().get().ok_or_else(|| {
            status::fault(
                Code::Internal,
                "NO_CALLER",
                "the request reached its service without passing the access layer",
            )
        })
    }

    /// Who it is in the audit log: `accounts/x`, `agents/y`, `local` or `anonymous`.
    pub fn actor(&self) -> String {
        match self {
            Self::Account { user, .. } => format!("accounts/{user}"),
            Self::Agent(identity) => format!("agents/{}", identity.id),
            Self::Local => "local".to_owned(),
            Self::Anonymous => "anonymous".to_owned(),
        }
    }

    /// The agent's identity, for RPCs that only agents may call.
    pub fn agent<T>(request: &tonic::Request<T>) -> Result<&Identity, Status> {
        match Self::of(request)? {
            Self::Agent(identity) => Ok(identity),
            _ => Err(status::fault(
                Code::PermissionDenied,
                "AGENT_CERTIFICATE_REQUIRED",
                "only an enrolled agent may call this",
            )),
        }
    }
}
