//! A whole controller for tests: real TLS on loopback, real PostgreSQL, a database of its own.
#![allow(dead_code)]

use std::time::Duration;

use taf_controller::app::App;
use taf_controller::config::{Config, Database};
use taf_controller::server::{Error, SOCKET, Server};
use taf_peer::channel;
use taf_peer::faults::reason_of;
use taf_peer::identity::{Identity, Role};
use taf_peer::material::Material;
use taf_peer::tls::{Expect, Trust, client_config};
use taf_peer::token::EnrolmentToken;
use taf_proto::v1;
use taf_proto::v1::enrolment_service_client::EnrolmentServiceClient;
use taf_proto::v1::identity_service_client::IdentityServiceClient;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::support;

pub const PASSWORD: &str = "correct horse";

pub struct Served {
    pub app: App,
    pub address: String,
    pub home: TempDir,
    pub url: String,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
}

pub fn config(home: &TempDir, url: &str) -> Config {
    Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        home: home.path().to_owned(),
        database: Database::Url {
            url: url.to_owned(),
            password_file: None,
        },
        database_connections: 6,
        cluster_key_file: home.path().join("cluster.key"),
        lease: Duration::from_secs(15),
        volume_wait: Duration::from_hours(1),
        index_after: Duration::from_mins(1),
        auto_clean: true,
        reuse_after: Duration::from_hours(7 * 24),
        installation: None,
        log_json: false,
    }
}

impl Served {
    pub async fn start() -> Self {
        let url = support::empty_database().await;
        Self::start_in(tempfile::tempdir().unwrap(), url).await
    }

    pub async fn start_in(home: TempDir, url: String) -> Self {
        Self::start_changed(home, url, |_| {}).await
    }

    /// With a configuration that differs; it may have what a file may not.
    pub async fn start_changed(
        home: TempDir,
        url: String,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let mut config = config(&home, &url);
        change(&mut config);
        let server = Server::start(config).await.unwrap();
        let shutdown = CancellationToken::new();
        let (app, address) = (server.app.clone(), server.address().to_string());
        let task = tokio::spawn(server.run(shutdown.clone()));
        Self {
            app,
            address,
            home,
            url,
            shutdown,
            task,
        }
    }

    /// Ends it in good order; home and database stay.
    pub async fn stop(self) -> (TempDir, String) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
        (self.home, self.url)
    }

    /// Over TLS, with a certificate or without.
    pub async fn channel(&self, own: Option<&Material>) -> Channel {
        let trust = Trust::Authority(self.app.authority.certificate().clone());
        let expect = Expect::controller(Some(self.app.installation));
        let tls = client_config(trust, own, expect).unwrap();
        channel::connect(&self.address, tls).await.unwrap()
    }

    /// Over the unix socket.
    pub async fn local(&self) -> Channel {
        channel::connect_unix(&self.home.path().join(SOCKET))
            .await
            .unwrap()
    }

    /// A certificate of our authority that no enrolment gave.
    pub fn certificate(&self, role: Role, id: &str) -> Material {
        let identity = Identity::new(self.app.installation, role, id).unwrap();
        self.app
            .authority
            .issue(&identity, Duration::from_hours(1))
            .unwrap()
    }

    /// Makes the first administrator and signs in.
    pub async fn administrator(&self) -> String {
        let request = v1::CreateFirstAdministratorRequest {
            user: "root".into(),
            password: PASSWORD.into(),
        };
        IdentityServiceClient::new(self.local().await)
            .create_first_administrator(request)
            .await
            .unwrap();
        self.login("root", PASSWORD).await.unwrap().token
    }

    pub async fn login(&self, user: &str, password: &str) -> Result<v1::LoginResponse, Status> {
        let request = v1::LoginRequest {
            user: user.into(),
            password: password.into(),
        };
        let mut client = IdentityServiceClient::new(self.channel(None).await);
        Ok(client.login(request).await?.into_inner())
    }

    /// An account with this role, signed in.
    pub async fn account(&self, administrator: &str, user: &str, role: v1::Role) -> String {
        let request = v1::CreateAccountRequest {
            user: user.into(),
            password: PASSWORD.into(),
            role: role.into(),
            request_id: String::new(),
        };
        IdentityServiceClient::new(self.channel(None).await)
            .create_account(signed(administrator, request))
            .await
            .unwrap();
        self.login(user, PASSWORD).await.unwrap().token
    }

    pub async fn enrolment_token(
        &self,
        administrator: &str,
        id: &str,
        role: v1::AgentRole,
    ) -> EnrolmentToken {
        let request = v1::CreateEnrolmentTokenRequest {
            agent_id: id.into(),
            role: role.into(),
            ..Default::default()
        };
        EnrolmentServiceClient::new(self.channel(None).await)
            .create_enrolment_token(signed(administrator, request))
            .await
            .unwrap()
            .into_inner()
            .token
            .parse()
            .unwrap()
    }

    /// An agent that is enrolled as agents are.
    pub async fn enrol(&self, administrator: &str, id: &str, role: v1::AgentRole) -> Material {
        let token = self.enrolment_token(administrator, id, role).await;
        let folder = tempfile::tempdir().unwrap();
        taf_peer::enrol::enrol(&self.address, &token, folder.path())
            .await
            .unwrap()
    }

    pub async fn sql(&self, text: &str) {
        self.app
            .store
            .client()
            .await
            .unwrap()
            .batch_execute(text)
            .await
            .unwrap();
    }

    pub async fn count(&self, text: &str) -> i64 {
        self.app
            .store
            .client()
            .await
            .unwrap()
            .query_one(text, &[])
            .await
            .unwrap()
            .get(0)
    }
}

/// Changes a database whose controller is away.
pub async fn sql(url: &str, text: &str) {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls)
        .await
        .unwrap();
    let driver = tokio::spawn(connection);
    client.batch_execute("SET search_path = taf").await.unwrap();
    client.batch_execute(text).await.unwrap();
    driver.abort();
}

/// A request that carries an API token.
pub fn signed<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

/// The stable reason of a refusal.
pub fn reason<T: std::fmt::Debug>(outcome: Result<T, Status>) -> String {
    let status = outcome.unwrap_err();
    reason_of(&status)
        .unwrap_or_else(|| panic!("no reason in {status:?}"))
        .0
}
