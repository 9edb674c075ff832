//! The decision: may whoever stands behind this request call this RPC? Proof comes from the connection (certificate,
//! user of a unix socket) and from an API token, never from the message.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use taf_peer::identity::{Identity, Role as AgentRole};
use taf_peer::serve::Peer;
use taf_proto::v1::{Permission, Role};
use tonic::{Code, Status};
use uuid::Uuid;

use super::{Caller, Permissions, token};
use crate::services::status;
use crate::store::Store;

/// Decides about every request.
#[derive(Debug)]
pub struct Gate {
    permissions: Permissions,
    store: Store,
    installation: Uuid,
    own_uid: u32,
}

impl Gate {
    /// A gate for an installation.
    pub fn new(permissions: Permissions, store: Store, installation: Uuid) -> Self {
        let own_uid = nix::unistd::geteuid().as_raw();
        Self {
            permissions,
            store,
            installation,
            own_uid,
        }
    }

    /// Who calls, if they may.
    pub async fn admit(
        &self,
        path: &str,
        peer: Option<&Peer>,
        headers: &HeaderMap,
    ) -> Result<Caller, Status> {
        let Some(permission) = self.permissions.of(path) else {
            return Err(status::fault(
                Code::Unimplemented,
                "METHOD_UNKNOWN",
                "this controller has no such method: see whether client and controller have the same version",
            ));
        };
        match permission {
            Permission::Public => Ok(Caller::Anonymous),
            Permission::Local => self.local(peer),
            Permission::SignedIn => self.account(headers, None).await,
            Permission::View => self.account(headers, Some(Role::Viewer)).await,
            Permission::Operate | Permission::Restore => {
                self.account(headers, Some(Role::Operator)).await
            }
            Permission::Administer => self.account(headers, Some(Role::Administrator)).await,
            Permission::SourceAgent => self.agent(peer, &[AgentRole::SourceAgent]).await,
            Permission::TapeAgent => self.agent(peer, &[AgentRole::TapeAgent]).await,
            Permission::Agent => {
                self.agent(peer, &[AgentRole::SourceAgent, AgentRole::TapeAgent])
                    .await
            }
            // Refused at start; denied here all the same.
            Permission::Unspecified => Err(Status::permission_denied("")),
        }
    }

    fn local(&self, peer: Option<&Peer>) -> Result<Caller, Status> {
        match peer.and_then(|peer| peer.unix_uid) {
            Some(uid) if uid == 0 || uid == self.own_uid => Ok(Caller::Local),
            _ => Err(status::fault(
                Code::PermissionDenied,
                "LOCAL_ONLY",
                "this is only done on the controller's own host, over its unix socket, as root or as the controller's user",
            )),
        }
    }

    async fn account(&self, headers: &HeaderMap, needed: Option<Role>) -> Result<Caller, Status> {
        let sign_in =
            |message: &str| status::fault(Code::Unauthenticated, "SIGN_IN_REQUIRED", message);
        let Some(value) = headers.get(AUTHORIZATION) else {
            return Err(sign_in("nobody is signed in: run taf login"));
        };
        let text = value
            .to_str()
            .ok()
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, text)| text.trim())
            .filter(|text| token::is_token(text));
        let owner = match text {
            Some(text) => self.store.api_token_owner(&token::hash(text)).await?,
            None => None,
        };
        let Some(owner) = owner else {
            return Err(sign_in(
                "the sign-in is not known here or was ended: run taf login",
            ));
        };
        if owner.expired {
            return Err(status::fault(
                Code::Unauthenticated,
                "TOKEN_EXPIRED",
                "the sign-in has expired: run taf login",
            ));
        }
        if let Some(needed) = needed
            && (owner.role as i32) < (needed as i32)
        {
            let (needed, has) = (role_word(needed), role_word(owner.role));
            return Err(status::fault_with(
                Code::PermissionDenied,
                "ROLE_TOO_LOW",
                format!(
                    "this needs the role {needed} and {} is {has}: ask an administrator",
                    owner.user
                ),
                &[("needed", needed), ("has", has)],
            ));
        }
        Ok(Caller::Account {
            id: owner.account,
            user: owner.user,
            role: owner.role,
            token: owner.token,
        })
    }

    async fn agent(&self, peer: Option<&Peer>, allowed: &[AgentRole]) -> Result<Caller, Status> {
        let needed = allowed
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" or ");
        let identity = peer
            .and_then(|peer| peer.identity.as_ref())
            // The handshake has checked the authority; an authority that was given to us may serve several.
            .filter(|identity| identity.installation == self.installation);
        let Some(identity) = identity else {
            return Err(status::fault_with(
                Code::Unauthenticated,
                "AGENT_CERTIFICATE_REQUIRED",
                "only an enrolled agent may call this, and the connection shows no certificate of this installation",
                &[("needed", &needed)],
            ));
        };
        if !allowed.contains(&identity.role) {
            return Err(wrong_role(&needed, identity));
        }
        match self.store.agent_get(&identity.id).await? {
            Some(row) if row.role == identity.role => Ok(Caller::Agent(identity.clone())),
            Some(_) => Err(wrong_role(&needed, identity)),
            None => Err(status::fault_with(
                Code::PermissionDenied,
                "AGENT_UNKNOWN",
                format!("there is no agent {}: enrol it again", identity.id),
                &[("agent", &identity.id)],
            )),
        }
    }
}

fn wrong_role(needed: &str, identity: &Identity) -> Status {
    let has = identity.role.to_string();
    status::fault_with(
        Code::PermissionDenied,
        "WRONG_AGENT_ROLE",
        format!(
            "this is for a {needed}, and {} is enrolled as {has}",
            identity.id
        ),
        &[("needed", needed), ("has", &has)],
    )
}

fn role_word(role: Role) -> &'static str {
    match role {
        Role::Administrator => "administrator",
        Role::Operator => "operator",
        Role::Viewer => "viewer",
        Role::Unspecified => "nobody",
    }
}
