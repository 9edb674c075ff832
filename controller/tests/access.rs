//! Who gets in, and who does not: people, agents, the local administrator.
#![allow(clippy::unwrap_used, missing_docs)]

mod served;
mod support;

use served::{PASSWORD, Served, reason, signed};
use taf_controller::config::Database;
use taf_controller::server::{Error, Server};
use taf_peer::authority::Authority;
use taf_peer::identity::{Identity, Role as PeerRole};
use taf_peer::tls::{Expect, Trust, client_config};
use taf_peer::{channel, enrol};
use taf_proto::agent::FetchSelectionRequest;
use taf_proto::agent::catalog_service_client::CatalogServiceClient;
use taf_proto::v1::enrolment_service_client::EnrolmentServiceClient;
use taf_proto::v1::identity_service_client::IdentityServiceClient;
use taf_proto::v1::pool_service_client::PoolServiceClient;
use taf_proto::v1::system_service_client::SystemServiceClient;
use taf_proto::v1::{self, AgentRole, Role};
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic_types::StatusExt as _;

fn first(user: &str, password: &str) -> v1::CreateFirstAdministratorRequest {
    v1::CreateFirstAdministratorRequest {
        user: user.into(),
        password: password.into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_administrator_is_made_once_and_only_on_the_host_itself() {
    let served = Served::start().await;
    let mut far = IdentityServiceClient::new(served.channel(None).await);
    assert_eq!(
        reason(far.create_first_administrator(first("eve", PASSWORD)).await),
        "LOCAL_ONLY"
    );

    let mut near = IdentityServiceClient::new(served.local().await);
    let status = near
        .create_first_administrator(first("No", "short"))
        .await
        .unwrap_err();
    let fields = status.get_details_bad_request().unwrap().field_violations;
    assert_eq!(
        fields.iter().map(|f| f.field.as_str()).collect::<Vec<_>>(),
        ["user", "password"]
    );

    near.create_first_administrator(first("root", PASSWORD))
        .await
        .unwrap();
    assert_eq!(
        reason(
            near.create_first_administrator(first("other", PASSWORD))
                .await
        ),
        "ACCOUNT_EXISTS"
    );
    // Over the socket nobody is an account.
    assert_eq!(
        reason(near.get_caller(v1::GetCallerRequest {}).await),
        "SIGN_IN_REQUIRED"
    );
    assert_eq!(
        served
            .count("SELECT count(*) FROM accounts WHERE password_hash LIKE '$argon2id$%'")
            .await,
        1
    );
    assert_eq!(
        served
            .count(
                "SELECT count(*) FROM audit WHERE actor = 'local' AND outcome = 'ACCOUNT_EXISTS'"
            )
            .await,
        1
    );
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_signs_in_and_out() {
    let served = Served::start().await;
    let token = served.administrator().await;
    let mut client = IdentityServiceClient::new(served.channel(None).await);
    let caller = client
        .get_caller(signed(&token, v1::GetCallerRequest {}))
        .await
        .unwrap();
    let account = caller.into_inner().account.unwrap();
    assert_eq!(
        (account.name.as_str(), account.role()),
        ("accounts/root", Role::Administrator)
    );

    // Only the hash is kept.
    let row = served
        .count("SELECT count(*) FROM api_tokens WHERE length(token_sha256) = 32")
        .await;
    assert_eq!(row, 1);

    client
        .logout(signed(&token, v1::LogoutRequest {}))
        .await
        .unwrap();
    let outcome = client
        .get_caller(signed(&token, v1::GetCallerRequest {}))
        .await;
    assert_eq!(reason(outcome), "SIGN_IN_REQUIRED");
    for wrong in ["", "taf_", "nonsense", &"taf_x".repeat(1000)] {
        let outcome = client
            .get_caller(signed(wrong, v1::GetCallerRequest {}))
            .await;
        assert_eq!(reason(outcome), "SIGN_IN_REQUIRED");
    }
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_ends() {
    let served = Served::start().await;
    let token = served.administrator().await;
    served
        .sql("UPDATE api_tokens SET expires_at = clock_timestamp() - interval '1 second'")
        .await;
    let mut client = SystemServiceClient::new(served.channel(None).await);
    let status = client
        .get_status(signed(&token, v1::GetStatusRequest {}))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert_eq!(reason::<()>(Err(status)), "TOKEN_EXPIRED");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_passwords_are_alike_and_lock_the_account() {
    let served = Served::start().await;
    served.administrator().await;
    let unknown = served.login("nobody", PASSWORD).await.unwrap_err();
    let wrong = served.login("root", "wrong password").await.unwrap_err();
    assert_eq!(
        (unknown.code(), unknown.message()),
        (wrong.code(), wrong.message())
    );
    assert_eq!(reason::<()>(Err(wrong)), "WRONG_PASSWORD");

    // A right one forgets the wrong ones.
    served.login("root", PASSWORD).await.unwrap();
    for _ in 0..10 {
        assert_eq!(
            reason(served.login("root", "wrong password").await),
            "WRONG_PASSWORD"
        );
    }
    let status = served.login("root", PASSWORD).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(reason::<()>(Err(status)), "LOCKED_OUT");
    served
        .sql("UPDATE accounts SET locked_until = clock_timestamp()")
        .await;
    served.login("root", PASSWORD).await.unwrap();
    assert_eq!(
        served
            .count(
                "SELECT count(*) FROM audit WHERE action = 'IdentityService.Login'
                 AND subject = 'accounts/root' AND outcome = 'WRONG_PASSWORD'"
            )
            .await,
        11
    );
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn simultaneous_guesses_get_no_more_tries() {
    let served = Served::start().await;
    served.administrator().await;
    let guesses = (0..16).map(|_| served.login("root", "wrong password"));
    let outcomes = futures::future::join_all(guesses).await;
    let tried = outcomes.into_iter().filter(|o| {
        taf_peer::faults::reason_of(o.as_ref().unwrap_err())
            .unwrap()
            .0
            == "WRONG_PASSWORD"
    });
    assert_eq!(tried.count(), 10);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_is_too_low_is_told_what_it_lacks() {
    let served = Served::start().await;
    let administrator = served.administrator().await;
    let viewer = served.account(&administrator, "vera", Role::Viewer).await;
    let channel = served.channel(None).await;

    SystemServiceClient::new(channel.clone())
        .get_status(signed(&viewer, v1::GetStatusRequest {}))
        .await
        .unwrap();
    let status = PoolServiceClient::new(channel.clone())
        .create_pool(signed(&viewer, v1::CreatePoolRequest::default()))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    let (reason, metadata) = taf_peer::faults::reason_of(&status).unwrap();
    assert_eq!(reason, "ROLE_TOO_LOW");
    assert_eq!(
        (metadata["needed"].as_str(), metadata["has"].as_str()),
        ("operator", "viewer")
    );

    let operator = served.account(&administrator, "otto", Role::Operator).await;
    let status = IdentityServiceClient::new(channel)
        .list_accounts(signed(&operator, v1::ListAccountsRequest::default()))
        .await
        .unwrap_err();
    assert_eq!(
        taf_peer::faults::reason_of(&status).unwrap().1["needed"],
        "administrator"
    );
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_are_known_by_their_certificates() {
    let served = Served::start().await;
    let administrator = served.administrator().await;
    let files = served
        .enrol(&administrator, "files", AgentRole::Source)
        .await;
    let tapes = served.enrol(&administrator, "tapes", AgentRole::Tape).await;
    let fetch = async |channel, token: Option<&str>| {
        let message = FetchSelectionRequest::default();
        let request = match token {
            Some(token) => signed(token, message),
            None => tonic::Request::new(message),
        };
        CatalogServiceClient::new(channel)
            .fetch_selection(request)
            .await
            .map(|_| ())
            .unwrap_err()
    };
    let told =
        |status: tonic::Status| taf_peer::faults::reason_of(&status).map(|(reason, _)| reason);

    // An administrator is no agent.
    let nobody = served.channel(None).await;
    let status = fetch(nobody, Some(administrator.as_str())).await;
    assert_eq!(status.code(), Code::Unauthenticated);
    assert_eq!(told(status).unwrap(), "AGENT_CERTIFICATE_REQUIRED");

    let status = fetch(served.channel(Some(&tapes)).await, None).await;
    assert_eq!(status.code(), Code::PermissionDenied);
    assert_eq!(told(status).unwrap(), "WRONG_AGENT_ROLE");

    // Signed by our authority, but no row of ours; or a row of the other role.
    let stranger = served.certificate(PeerRole::SourceAgent, "stranger");
    let status = fetch(served.channel(Some(&stranger)).await, None).await;
    assert_eq!(told(status).unwrap(), "AGENT_UNKNOWN");
    let disguised = served.certificate(PeerRole::SourceAgent, "tapes");
    let status = fetch(served.channel(Some(&disguised)).await, None).await;
    assert_eq!(told(status).unwrap(), "WRONG_AGENT_ROLE");

    // The right one passes; what then fails is the empty request.
    let status = fetch(served.channel(Some(&files)).await, None).await;
    assert!(
        !matches!(
            status.code(),
            Code::Unauthenticated | Code::PermissionDenied
        ),
        "{status:?}"
    );

    // An agent is no person.
    let status = SystemServiceClient::new(served.channel(Some(&files)).await)
        .get_status(v1::GetStatusRequest {})
        .await
        .unwrap_err();
    assert_eq!(told(status).unwrap(), "SIGN_IN_REQUIRED");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_authority_does_not_connect() {
    let served = Served::start().await;
    let other = Authority::create(served.app.installation).unwrap();
    let identity = Identity::new(served.app.installation, PeerRole::SourceAgent, "files").unwrap();
    let forged = other
        .issue(&identity, std::time::Duration::from_mins(1))
        .unwrap();
    let trust = Trust::Authority(served.app.authority.certificate().clone());
    let tls = client_config(trust, Some(&forged), Expect::controller(None)).unwrap();
    // TLS 1.3 refuses client certificates after the client's handshake is over, so the first call may be what fails.
    if let Ok(channel) = channel::connect(&served.address, tls).await {
        let outcome = CatalogServiceClient::new(channel)
            .fetch_selection(FetchSelectionRequest::default())
            .await;
        let status = outcome.map(|_| ()).unwrap_err();
        // The connection broke; the gate never saw it.
        assert!(taf_peer::faults::reason_of(&status).is_none(), "{status:?}");
    }
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enrolment_token_is_good_once_and_for_its_time() {
    let served = Served::start().await;
    let administrator = served.administrator().await;
    let folder = tempfile::tempdir().unwrap();
    let attempt =
        async |token, name| enrol::enrol(&served.address, token, &folder.path().join(name)).await;

    let token = served
        .enrolment_token(&administrator, "files", AgentRole::Source)
        .await;
    let (one, two) = tokio::join!(attempt(&token, "one"), attempt(&token, "two"));
    assert_eq!(u8::from(one.is_ok()) + u8::from(two.is_ok()), 1);
    let (won, lost) = if one.is_ok() { (one, two) } else { (two, one) };
    assert_eq!(won.unwrap().identity().role, PeerRole::SourceAgent);
    assert!(matches!(lost, Err(enrol::Error::TokenUsed)));

    let late = served
        .enrolment_token(&administrator, "late", AgentRole::Tape)
        .await;
    served
        .sql("UPDATE enrolment_tokens SET expires_at = clock_timestamp() WHERE used_at IS NULL")
        .await;
    assert!(matches!(
        attempt(&late, "late").await,
        Err(enrol::Error::TokenExpired)
    ));

    let mut unknown = late.clone();
    unknown.secret = [9; 16];
    assert!(matches!(
        attempt(&unknown, "unknown").await,
        Err(enrol::Error::TokenUnknown)
    ));

    // The same agent may be enrolled again, with the same role only.
    served
        .enrol(&administrator, "files", AgentRole::Source)
        .await;
    let mut client = EnrolmentServiceClient::new(served.channel(None).await);
    let request = v1::CreateEnrolmentTokenRequest {
        agent_id: "files".into(),
        role: AgentRole::Tape.into(),
        ..Default::default()
    };
    let outcome = client
        .create_enrolment_token(signed(&administrator, request))
        .await;
    assert_eq!(reason(outcome), "AGENT_ROLE_DIFFERS");

    // An agent that was only invited is not one.
    let list = client
        .list_agents(signed(&administrator, v1::ListAgentsRequest::default()))
        .await;
    let agents = list.unwrap().into_inner().agents;
    assert_eq!(agents.len(), 1);
    assert_eq!(
        (agents[0].name.as_str(), agents[0].connected),
        ("agents/files", false)
    );
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_cannot_be_signed_does_not_cost_the_token() {
    let served = Served::start().await;
    let administrator = served.administrator().await;
    let token = served
        .enrolment_token(&administrator, "files", AgentRole::Source)
        .await;
    let request = v1::EnrolRequest {
        token_secret: token.secret.to_vec().into(),
        certificate_request_der: vec![0x30, 0].into(),
        host_name: "files.example".into(),
    };
    let mut client = EnrolmentServiceClient::new(served.channel(None).await);
    assert_eq!(reason(client.enrol(request).await), "INVALID_FIELDS");
    let folder = tempfile::tempdir().unwrap();
    enrol::enrol(&served.address, &token, folder.path())
        .await
        .unwrap();
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_gets_its_first_answer_and_no_secret_is_kept_in_the_clear() {
    let served = Served::start().await;
    let administrator = served.administrator().await;
    let mut client = EnrolmentServiceClient::new(served.channel(None).await);
    let request = v1::CreateEnrolmentTokenRequest {
        agent_id: "files".into(),
        role: AgentRole::Source.into(),
        request_id: uuid::Uuid::new_v4().to_string(),
        ..Default::default()
    };
    let mut ask = async |request: &v1::CreateEnrolmentTokenRequest| {
        client
            .create_enrolment_token(signed(&administrator, request.clone()))
            .await
    };
    let token = ask(&request).await.unwrap().into_inner().token;
    assert_eq!(ask(&request).await.unwrap().into_inner().token, token);
    assert_eq!(
        served.count("SELECT count(*) FROM enrolment_tokens").await,
        1
    );
    let store = served.app.store.client().await.unwrap();
    let row = store
        .query_one("SELECT answer FROM requests", &[])
        .await
        .unwrap();
    let kept: Vec<u8> = row.get(0);
    drop(store);
    assert!(
        !kept
            .windows(token.len())
            .any(|window| window == token.as_bytes())
    );

    let other = v1::CreateEnrolmentTokenRequest {
        agent_id: "tapes".into(),
        ..request.clone()
    };
    assert_eq!(reason(ask(&other).await), "REQUEST_ID_REUSED");
    let nonsense = v1::CreateEnrolmentTokenRequest {
        request_id: "7".into(),
        ..request
    };
    assert_eq!(reason(ask(&nonsense).await), "INVALID_FIELDS");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_reflection_are_open_and_nothing_unknown_is() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;
    let served = Served::start().await;
    let channel = served.channel(None).await;
    let request = HealthCheckRequest {
        service: String::new(),
    };
    let health = HealthClient::new(channel.clone())
        .check(request)
        .await
        .unwrap();
    assert_eq!(health.into_inner().status, 1);

    let mut raw = tonic::client::Grpc::new(channel);
    raw.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<v1::GetStatusRequest, v1::GetStatusResponse>::default();
    let path = http::uri::PathAndQuery::from_static("/taf.v1.SystemService/Nonsense");
    let request = tonic::Request::new(v1::GetStatusRequest {});
    let status = raw.unary(request, path, codec).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert_eq!(reason::<()>(Err(status)), "METHOD_UNKNOWN");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_survives_a_restart_but_not_the_loss_of_its_cluster_key() {
    let served = Served::start().await;
    let token = served.administrator().await;
    let (installation, fingerprint) = (served.app.installation, served.app.authority.fingerprint());
    // A second controller must not take over the home folder of one that runs.
    let second = Server::start(served::config(&served.home, &served.url)).await;
    assert!(matches!(second, Err(Error::Listen { .. })));

    let (home, url) = served.stop().await;
    let served = Served::start_in(home, url).await;
    assert_eq!(served.app.installation, installation);
    assert_eq!(served.app.authority.fingerprint(), fingerprint);
    SystemServiceClient::new(served.channel(None).await)
        .get_status(signed(&token, v1::GetStatusRequest {}))
        .await
        .unwrap();

    let (home, url) = served.stop().await;
    std::fs::remove_file(home.path().join("cluster.key")).unwrap();
    match Server::start(served::config(&home, &url)).await {
        Err(Error::ClusterKeyMissing {
            installation: named,
            ..
        }) => assert_eq!(named, installation),
        other => panic!("{other:?}"),
    }
    assert!(!home.path().join("cluster.key").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_database_is_made_below_a_home_that_was_not_there() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    let mut config = served::config(&folder, "");
    config.home = folder.path().join("state/controller");
    config.cluster_key_file = config.home.join("cluster.key");
    config.database = Database::Embedded;
    let server = Server::start(config.clone()).await.unwrap();
    let mode = |name: &str| {
        std::fs::metadata(config.home.join(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode("cluster.key"), 0o600);
    assert_eq!(mode("controller.sock"), 0o600);
    assert_eq!(mode("authority.pem"), 0o644);
    assert_eq!(mode("") & 0o066, 0);
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    server.run(shutdown).await.unwrap();
    assert!(!config.home.join("controller.sock").exists());
}
