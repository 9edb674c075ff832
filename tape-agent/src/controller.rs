//! The way to the controller: one identity, one channel for calls, one session for each worker.

use std::sync::Arc;

use taf_peer::identity::Role;
use taf_peer::material::Material;
use taf_peer::session::{Connector, Session};
use taf_peer::tls::{self, Expect, Trust};
use taf_peer::{channel, material};
use taf_proto::agent::{Hello, catalog_service_client::CatalogServiceClient, hello};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use uuid::Uuid;

use crate::config::Config;

/// Why the controller can't be called.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No identity.
    #[error("{0}; is this host enrolled? if not, run taf-tape-agent enrol")]
    Material(#[from] material::Error),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// The address.
    #[error(transparent)]
    Channel(#[from] channel::Error),
}

/// This agent's identity and the way to its controller.
#[derive(Clone)]
pub struct Link {
    own: Arc<Material>,
    tls: Arc<rustls::ClientConfig>,
    address: String,
    channel: Channel,
}

impl Link {
    /// Loads the identity. Nothing is dialled yet.
    pub fn open(config: &Config) -> Result<Link, Error> {
        let own = Material::load_as(&config.state, Role::TapeAgent)?;
        let trust = Trust::Authority(own.authority().clone());
        let expect = Expect::controller(Some(own.identity().installation));
        let tls = tls::client_config(trust, Some(&own), expect)?;
        let channel = channel::connect_lazy(&config.controller, Arc::clone(&tls))?;
        Ok(Link {
            own: Arc::new(own),
            tls,
            address: config.controller.clone(),
            channel,
        })
    }

    /// Our identity.
    pub fn own(&self) -> &Material {
        &self.own
    }

    /// Calls of the catalog.
    pub fn catalog(&self) -> CatalogServiceClient<Channel> {
        CatalogServiceClient::new(self.channel.clone())
    }

    /// The channel of all calls.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Begins the session of a unit.
    pub fn session(
        &self,
        unit: hello::Unit,
        generation_file: std::path::PathBuf,
        stop: CancellationToken,
    ) -> Session {
        let (address, tls) = (self.address.clone(), Arc::clone(&self.tls));
        let connector: Connector = Box::new(move || {
            let (address, tls) = (address.clone(), Arc::clone(&tls));
            Box::pin(async move {
                let connected = channel::connect(&address, tls).await;
                connected.map_err(|error| error.to_string())
            })
        });
        let hello = Hello {
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
            incarnation: Uuid::new_v4().as_bytes().to_vec().into(),
            highest_generation: None,
            unit: Some(unit),
        };
        Session::start(connector, hello, Some(generation_file), stop)
    }
}
