//! Brings the private database back when it dies under a living controller: nobody else would, and a restart of the
//! controller would only do the same.

use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::{Cluster, cluster};

/// How often it is looked at, and tried again.
const LOOK: Duration = Duration::from_secs(1);

/// Runs until `shutdown`. A start that is under way then is waited for, so that [`Cluster::stop`] finds it.
pub async fn watch(cluster: Cluster, shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut complained = false;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if cluster.is_alive() {
            complained = false;
            continue;
        }
        if !complained {
            tracing::error!(folder = %cluster.data_folder().display(), "the private database has died; starting it again");
        }
        let home = cluster.home().to_owned();
        match tokio::task::spawn_blocking(move || cluster::start(&home)).await {
            Ok(Ok(_)) => tracing::warn!("the private database runs again"),
            // Its children of before may still be ending; the next look tries again.
            Ok(Err(error)) if !complained => tracing::error!("{error}"),
            Ok(Err(_)) => {}
            Err(error) => tracing::error!("the start of the private database broke off: {error}"),
        }
        complained = true;
    }
}
