//! What the services share: one value, made at start, never changed.

use std::sync::Arc;

use taf_peer::authority::{Authority, ClusterKey};
use uuid::Uuid;

use crate::config::Config;
use crate::store::Store;

/// What the services share.
#[derive(Clone)]
pub struct App {
    /// The catalog database.
    pub store: Store,
    /// Who we are.
    pub installation: Uuid,
    /// Gives agents their certificates.
    pub authority: Arc<Authority>,
    /// Wraps secrets at rest.
    pub cluster_key: Arc<ClusterKey>,
    /// The configuration.
    pub config: Arc<Config>,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App")
            .field("installation", &self.installation)
            .finish_non_exhaustive()
    }
}
