//! A host gets its identity from a controller that holds the authority, and is told why when it does not.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use taf_peer::authority::Authority;
use taf_peer::enrol::{Error, enrol};
use taf_peer::faults;
use taf_peer::identity::{Identity, Role};
use taf_peer::material::Material;
use taf_peer::serve::{Limits, serve};
use taf_peer::tls::{ClientAuth, server_config};
use taf_peer::token::{EnrolmentToken, hash_of_secret};
use taf_proto::v1::enrolment_service_server::{EnrolmentService, EnrolmentServiceServer};
use taf_proto::v1::{
    CreateEnrolmentTokenRequest, CreateEnrolmentTokenResponse, EnrolRequest, EnrolResponse,
    ListAgentsRequest, ListAgentsResponse,
};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};
use uuid::Uuid;

const DAY: Duration = Duration::from_hours(24);

#[derive(Clone, Copy, PartialEq)]
enum Known {
    Fresh,
    Used,
    Expired,
}

/// The controller's side, as small as it can be.
struct Registrar {
    authority: Authority,
    tokens: Arc<Mutex<HashMap<[u8; 32], Known>>>,
    role: Role,
}

#[tonic::async_trait]
impl EnrolmentService for Registrar {
    async fn enrol(
        &self,
        request: Request<EnrolRequest>,
    ) -> Result<Response<EnrolResponse>, Status> {
        let request = request.into_inner();
        let refuse = |reason| faults::status(Code::Unauthenticated, reason, "no", []);
        let hash = hash_of_secret(&request.token_secret).unwrap();
        let known = self.tokens.lock().unwrap().insert(hash, Known::Used);
        match known {
            None => return Err(refuse("TOKEN_UNKNOWN")),
            Some(Known::Used) => return Err(refuse("TOKEN_USED")),
            Some(Known::Expired) => return Err(refuse("TOKEN_EXPIRED")),
            Some(Known::Fresh) => {}
        }
        let installation = self.authority.installation();
        let identity = Identity::new(installation, self.role, "files").unwrap();
        let chain = self
            .authority
            .sign_csr(&request.certificate_request_der, &identity, DAY)
            .unwrap();
        Ok(Response::new(EnrolResponse {
            agent: None,
            agent_id: "files".into(),
            installation_uuid: installation.as_bytes().to_vec().into(),
            certificate_chain_der: chain.iter().map(|c| c.to_vec().into()).collect(),
        }))
    }

    async fn create_enrolment_token(
        &self,
        _: Request<CreateEnrolmentTokenRequest>,
    ) -> Result<Response<CreateEnrolmentTokenResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn list_agents(
        &self,
        _: Request<ListAgentsRequest>,
    ) -> Result<Response<ListAgentsResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }
}

struct Controller {
    address: String,
    fingerprint: [u8; 32],
    tokens: Arc<Mutex<HashMap<[u8; 32], Known>>>,
    _running: DropGuard,
}

impl Controller {
    async fn start(gives: Role) -> Self {
        let authority = Authority::create(Uuid::new_v4()).unwrap();
        let identity = Identity::new(authority.installation(), Role::Controller, "main").unwrap();
        let own = authority.issue(&identity, DAY).unwrap();
        let fingerprint = authority.fingerprint();
        let tokens = Arc::new(Mutex::new(HashMap::new()));
        let registrar = Registrar {
            authority,
            tokens: tokens.clone(),
            role: gives,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shutdown = CancellationToken::new();
        tokio::spawn(serve(
            listener,
            server_config(&own, ClientAuth::Optional).unwrap(),
            Routes::new(EnrolmentServiceServer::new(registrar)),
            Limits::default(),
            shutdown.clone(),
        ));
        Self {
            address,
            fingerprint,
            tokens,
            _running: shutdown.drop_guard(),
        }
    }

    fn token(&self, known: Known) -> EnrolmentToken {
        let token = EnrolmentToken::generate(self.fingerprint);
        self.tokens
            .lock()
            .unwrap()
            .insert(token.secret_hash(), known);
        token
    }
}

#[tokio::test]
async fn a_host_is_enrolled_once() {
    let controller = Controller::start(Role::SourceAgent).await;
    let token = controller.token(Known::Fresh);
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("agent");
    let material = enrol(&controller.address, &token, &folder).await.unwrap();
    assert_eq!(material.identity().role, Role::SourceAgent);
    let kept = Material::load(&folder).unwrap();
    assert_eq!(kept.chain(), material.chain());

    let again = enrol(&controller.address, &token, &folder).await;
    assert!(matches!(again, Err(Error::AlreadyEnrolled(_))), "{again:?}");
    let elsewhere = enrol(&controller.address, &token, &dir.path().join("b")).await;
    assert!(matches!(elsewhere, Err(Error::TokenUsed)), "{elsewhere:?}");
    assert!(!Material::exists(&dir.path().join("b")));
}

#[tokio::test]
async fn bad_tokens_are_told_apart() {
    let controller = Controller::start(Role::SourceAgent).await;
    let dir = tempfile::tempdir().unwrap();
    let expired = controller.token(Known::Expired);
    let result = enrol(&controller.address, &expired, dir.path()).await;
    assert!(matches!(result, Err(Error::TokenExpired)), "{result:?}");

    let unknown = EnrolmentToken::generate(controller.fingerprint);
    let result = enrol(&controller.address, &unknown, dir.path()).await;
    assert!(matches!(result, Err(Error::TokenUnknown)), "{result:?}");
    assert!(!Material::exists(dir.path()));
}

#[tokio::test]
async fn a_token_of_another_authority_is_not_shown_to_this_controller() {
    let controller = Controller::start(Role::SourceAgent).await;
    let dir = tempfile::tempdir().unwrap();
    let foreign = EnrolmentToken::generate([9; 32]);
    let result = enrol(&controller.address, &foreign, dir.path()).await;
    assert!(matches!(result, Err(Error::WrongAuthority)), "{result:?}");
    assert!(controller.tokens.lock().unwrap().is_empty());
}

#[tokio::test]
async fn no_agent_becomes_a_controller() {
    let controller = Controller::start(Role::Controller).await;
    let token = controller.token(Known::Fresh);
    let dir = tempfile::tempdir().unwrap();
    let result = enrol(&controller.address, &token, dir.path()).await;
    assert!(matches!(result, Err(Error::Answer(_))), "{result:?}");
    assert!(!Material::exists(dir.path()));
}
