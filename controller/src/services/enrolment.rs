//! Agents and how they come to be trusted.

use std::time::Duration;

use taf_peer::identity::{Identity, Role};
use taf_peer::token::{EnrolmentToken, hash_of_secret};
use taf_proto::v1::enrolment_service_server::EnrolmentService;
use taf_proto::v1::{
    self, AgentRole, CreateEnrolmentTokenRequest, CreateEnrolmentTokenResponse, EnrolRequest,
    EnrolResponse, ListAgentsRequest, ListAgentsResponse,
};
use tonic::{Code, Request, Response, Status};

use super::mutation::Mutation;
use super::paging::Page;
use super::status::{self, Violations};
use super::{PAGE_DEFAULT, PAGE_MOST, names, timestamp};
use crate::access::Caller;
use crate::app::App;
use crate::store::agents::Agent;
use crate::store::enrolment::Spent;
use crate::store::{self, Store};

/// A token's life if nobody says: an hour.
const TOKEN_SECONDS: i64 = 3600;
/// A token's longest life: a week.
const TOKEN_SECONDS_MOST: i64 = 7 * 86_400;
/// How long an agent's certificate is valid: a year.
const CERTIFICATE_VALIDITY: Duration = Duration::from_hours(365 * 24);
/// Largest certificate request, in bytes.
const REQUEST_LIMIT: usize = 16 * 1024;
/// Longest host name, in bytes.
const HOST_LIMIT: usize = 255;

/// `taf.v1.EnrolmentService`.
#[derive(Debug, Clone)]
pub struct Enrolment(pub App);

fn message(agent: &Agent) -> v1::Agent {
    let role = match agent.role {
        Role::TapeAgent => AgentRole::Tape,
        _ => AgentRole::Source,
    };
    v1::Agent {
        name: names::agent(&agent.name),
        role: role.into(),
        host_name: agent.host_name.clone(),
        connected: agent.connected,
        last_seen_time: agent.last_seen_at.map(timestamp),
        program_version: agent.program_version.clone(),
    }
}

impl Enrolment {
    async fn make_token(
        &self,
        mutation: &Mutation,
        request: &CreateEnrolmentTokenRequest,
    ) -> Result<CreateEnrolmentTokenResponse, Status> {
        let mut bad = Violations::new();
        if !names::is_id(&request.agent_id) {
            bad.add("agent_id", format!("must be {}", names::ID_RULE));
        }
        let role = match request.role() {
            AgentRole::Source => Some(Role::SourceAgent),
            AgentRole::Tape => Some(Role::TapeAgent),
            AgentRole::Unspecified => {
                bad.add("role", "must be source or tape");
                None
            }
        };
        let seconds = request
            .lifetime
            .as_ref()
            .map_or(TOKEN_SECONDS, |d| d.seconds);
        if !(1..=TOKEN_SECONDS_MOST).contains(&seconds) {
            bad.add("lifetime", "must be from a second to a week");
        }
        bad.check()?;
        let role = role.ok_or_else(|| status::invalid("role", "must be source or tape"))?;

        let app = &self.0;
        let mut client = app.store.client().await?;
        let tx = client.transaction().await.map_err(store::Error::from)?;
        if let Some(answer) = mutation.begin_sealed_on(&tx, &app.cluster_key).await? {
            return Ok(answer);
        }
        let Some(agent) = Store::agent_ensure_on(&tx, &request.agent_id, role).await? else {
            return Err(status::precondition(
                "AGENT_ROLE_DIFFERS",
                format!(
                    "{} exists and is no {role}: choose another id for this agent",
                    names::agent(&request.agent_id)
                ),
            ));
        };
        let token = EnrolmentToken::generate(app.authority.fingerprint());
        let expires =
            Store::enrolment_token_create_on(&tx, agent, &token.secret_hash(), seconds as f64)
                .await?;
        let answer = CreateEnrolmentTokenResponse {
            token: token.to_string(),
            expire_time: Some(timestamp(expires)),
        };
        mutation
            .finish_sealed_on(&tx, &answer, &app.cluster_key)
            .await?;
        tx.commit().await.map_err(store::Error::from)?;
        Ok(answer)
    }

    async fn spend(
        &self,
        mutation: &mut Mutation,
        request: &EnrolRequest,
    ) -> Result<EnrolResponse, Status> {
        let mut bad = Violations::new();
        let hash = hash_of_secret(&request.token_secret);
        if hash.is_none() {
            bad.add("token_secret", "must have 16 bytes");
        }
        if request.certificate_request_der.len() > REQUEST_LIMIT {
            bad.add(
                "certificate_request_der",
                format!("must have at most {REQUEST_LIMIT} bytes"),
            );
        }
        let host = request.host_name.as_str();
        if host.len() > HOST_LIMIT || host.chars().any(char::is_control) {
            bad.add(
                "host_name",
                format!("must have at most {HOST_LIMIT} bytes and no control characters"),
            );
        }
        bad.check()?;
        let hash = hash.ok_or_else(|| status::invalid("token_secret", "must have 16 bytes"))?;
        let host = if host.is_empty() { "unknown" } else { host };

        let app = &self.0;
        let mut client = app.store.client().await?;
        let tx = client.transaction().await.map_err(store::Error::from)?;
        let (id, name, role) = match Store::enrolment_token_spend_on(&tx, &hash).await? {
            Spent::Agent { id, name, role } => (id, name, role),
            Spent::Unknown => return Err(refused("TOKEN_UNKNOWN", "this token is not known here")),
            Spent::Used => return Err(refused("TOKEN_USED", "this token was used before")),
            Spent::Expired => return Err(refused("TOKEN_EXPIRED", "this token has expired")),
        };
        mutation.concerns(names::agent(&name));
        let identity = Identity::new(app.installation, role, name.as_str())
            .map_err(|e| status::internal("an agent's name is not an identity", &e))?;
        // A request that can't be signed does not cost the token: nothing is committed.
        let chain = app
            .authority
            .sign_csr(
                &request.certificate_request_der,
                &identity,
                CERTIFICATE_VALIDITY,
            )
            .map_err(|e| status::invalid("certificate_request_der", e))?;
        Store::agent_enrolled_on(&tx, id, host).await?;
        let answer = EnrolResponse {
            agent: Some(v1::Agent {
                name: names::agent(&name),
                role: match role {
                    Role::TapeAgent => AgentRole::Tape.into(),
                    _ => AgentRole::Source.into(),
                },
                host_name: host.to_owned(),
                ..v1::Agent::default()
            }),
            agent_id: name,
            installation_uuid: app.installation.as_bytes().to_vec().into(),
            certificate_chain_der: chain.iter().map(|der| der.to_vec().into()).collect(),
        };
        mutation.finish_on(&tx, &answer).await?;
        tx.commit().await.map_err(store::Error::from)?;
        Ok(answer)
    }
}

fn refused(reason: &'static str, what: &str) -> Status {
    status::fault(
        Code::Unauthenticated,
        reason,
        format!("{what}: make a new one with taf agent enrol"),
    )
}

#[tonic::async_trait]
impl EnrolmentService for Enrolment {
    async fn create_enrolment_token(
        &self,
        request: Request<CreateEnrolmentTokenRequest>,
    ) -> Result<Response<CreateEnrolmentTokenResponse>, Status> {
        let caller = Caller::of(&request)?.clone();
        let request = request.into_inner();
        let mutation = Mutation::new(
            &caller,
            "EnrolmentService.CreateEnrolmentToken",
            names::agent(&request.agent_id),
            &request.request_id,
            &request,
        )?;
        let outcome = self.make_token(&mutation, &request).await;
        mutation.concluded(&self.0.store, outcome).await
    }

    async fn enrol(
        &self,
        request: Request<EnrolRequest>,
    ) -> Result<Response<EnrolResponse>, Status> {
        let caller = Caller::of(&request)?.clone();
        let request = request.into_inner();
        let mut mutation = Mutation::new(&caller, "EnrolmentService.Enrol", "agents/?", "", &())?;
        let outcome = self.spend(&mut mutation, &request).await;
        mutation.concluded(&self.0.store, outcome).await
    }

    async fn list_agents(
        &self,
        request: Request<ListAgentsRequest>,
    ) -> Result<Response<ListAgentsResponse>, Status> {
        let request = request.into_inner();
        let page = Page::read(
            "agents",
            request.page_size,
            &request.page_token,
            PAGE_DEFAULT,
            PAGE_MOST,
        )?;
        let mut rows = self
            .0
            .store
            .agent_list(page.after_text()?, page.limit())
            .await?;
        let next_page_token = page.cut(&mut rows, |row| row.name.clone());
        Ok(Response::new(ListAgentsResponse {
            agents: rows.iter().map(message).collect(),
            next_page_token,
        }))
    }
}
