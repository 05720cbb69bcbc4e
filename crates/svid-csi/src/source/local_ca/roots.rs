//! The roots of all nodes: each driver publishes its own in a shared ConfigMap, and trusts those of the others in it.
//!
//! One task reads the ConfigMap; three others act on it, so that none of them waits for another.

mod clean;
mod entries;
mod publish;
mod saved_entries;
mod shared_map;
mod trouble;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use prometheus_client::metrics::counter::Counter;
use svid_csi_core::runtime_issuer::ConfigMapPlace;
use tokio::sync::watch;
use tokio::time::{Duration, Instant, sleep_until};
use tracing::{error, info, warn};

use self::entries::Entries;
use self::publish::Publisher;
use self::saved_entries::Kept;
use self::shared_map::SharedMap;
use self::trouble::{Of, Troubles};
use super::trusted::Trusted;
use crate::backoff::pause;
use crate::tasks::Tasks;
use crate::telemetry::report;

/// How long to wait for the entries of others if this node's is missing as well, because an administrator who emptied
/// or re-created the ConfigMap did not intend to remove nodes.
const GRACE: Duration = Duration::from_secs(60);
/// The longest pause before the next attempt to store entries.
const LONGEST: Duration = Duration::from_secs(60);

/// Follows the roots of the other nodes.
#[derive(Debug, Clone)]
pub struct Roots {
    nodes: watch::Receiver<usize>,
    troubles: Troubles,
}

impl Roots {
    /// Restores the entries of the previous run, then follows the ConfigMap. Blocks for the former.
    pub(super) fn start(
        client: Client,
        place: ConfigMapPlace,
        node: &str,
        trusted: Arc<Trusted>,
        kept: PathBuf,
        restarts: Counter,
        tasks: &Tasks,
    ) -> Self {
        let troubles = Troubles::default();
        let (states, seen) = watch::channel(SharedMap::Unknown);
        let map: Api<ConfigMap> = Api::namespaced(client.clone(), &place.namespace);
        let mut union = Union {
            entries: Entries::new(node, trusted.trust_domain()),
            kept: Kept::new(kept),
            trusted: trusted.clone(),
            nodes: watch::Sender::new(1),
            troubles: troubles.clone(),
            is_unknown: false,
        };
        union.load_previous();
        let nodes = union.nodes.subscribe();
        let publisher = Publisher::new(map.clone(), &place, node, trusted.own(), troubles.clone());
        let (clean, follow) = (
            clean::clean(client, map.clone(), place.name.clone(), node.to_owned(), seen.clone()),
            shared_map::follow(map, place, states, troubles.clone(), restarts),
        );
        let publish = publisher.run(seen.clone());
        tasks.detached(async { match follow.await {} });
        tasks.detached(async { match union.run(seen).await {} });
        tasks.detached(async { match publish.await {} });
        tasks.detached(clean);
        Self { nodes, troubles }
    }

    /// The number of nodes whose authorities are trusted, this one included.
    pub fn nodes(&self) -> usize {
        *self.nodes.borrow()
    }

    /// Why other nodes may not trust this one, or this one others, if so.
    pub fn trouble(&self) -> Option<String> {
        self.troubles.summary()
    }
}

/// Updates the union to the current entries.
struct Union {
    entries: Entries,
    kept: Kept,
    trusted: Arc<Trusted>,
    nodes: watch::Sender<usize>,
    troubles: Troubles,
    /// The entries of the previous run cannot be read: until the ConfigMap was read, no pod may get a trust bundle, because
    /// that would take the roots of other nodes from it.
    is_unknown: bool,
}

impl Union {
    /// The state at the end of the previous run.
    fn load_previous(&mut self) {
        let previous = self.kept.read().map_err(|error| error.to_string()).and_then(|previous| {
            self.entries.take(&previous);
            self.entries.trouble().map_or(Ok(()), Err)
        });
        match previous {
            Ok(()) => {
                self.entries.kept();
                self.trust();
            }
            Err(error) => {
                warn!(error, "cannot read the stored roots of other nodes; reading them from the ConfigMap");
                self.troubles.set(Of::Kept, Some(format!("the stored roots of other nodes cannot be read: {error}")));
                self.is_unknown = true;
                self.trusted.unknown();
            }
        }
    }

    async fn run(mut self, mut seen: watch::Receiver<SharedMap>) -> Infallible {
        let mut grace: Option<Instant> = None;
        let (mut failures, mut again): (u32, Option<Instant>) = (0, None);
        loop {
            let entries = seen.borrow_and_update().entries();
            let changed = match entries {
                Some(entries) => self.take(&entries, &mut grace),
                None => {
                    grace = None;
                    false
                }
            };
            if changed || again.is_some_and(|at| at <= Instant::now()) {
                let is_kept = self.keep_and_trust().await;
                failures = if is_kept { 0 } else { failures.saturating_add(1) };
                again = (!is_kept).then(|| Instant::now() + pause(failures, LONGEST));
            }
            self.troubles.set(Of::Entries, self.entries.trouble());
            tokio::select! {
                changed = seen.changed() => if changed.is_err() { std::future::pending().await },
                () = ended(grace) => {}
                () = ended(again) => {}
            }
        }
    }

    /// Reads the entries. Returns whether the valid ones have changed, or are known now.
    fn take(&mut self, entries: &BTreeMap<String, String>, grace: &mut Option<Instant>) -> bool {
        if self.entries.are_swept_away(entries, self.is_unknown) {
            grace.get_or_insert_with(|| Instant::now() + GRACE);
        }
        if grace.is_some_and(|end| end <= Instant::now()) {
            *grace = None;
        }
        let changed = (grace.is_none() && self.entries.keep_only(entries)) | self.entries.take(entries);
        if self.is_unknown { grace.is_none() } else { changed }
    }

    /// New roots are stored before they are trusted, because pods must not lose them at a startup without the API
    /// server. Removed ones are no longer trusted, whether or not that can be stored. Returns whether it could.
    async fn keep_and_trust(&mut self) -> bool {
        let kept = self.kept.write(self.entries.good_texts()).await;
        let trouble = kept.as_ref().err().map(|error| format!("the roots of other nodes cannot be stored: {error}"));
        if self.troubles.set(Of::Kept, trouble.clone())
            && let Some(error) = trouble
        {
            warn!(error, "cannot store the roots of other nodes; new ones are not trusted until they are stored");
        }
        match kept {
            Ok(()) => {
                self.entries.kept();
                self.is_unknown = false;
            }
            Err(_) => self.entries.not_kept(),
        }
        if !self.is_unknown {
            self.trust();
        }
        kept.is_ok()
    }

    fn trust(&mut self) {
        let good = self.entries.good();
        match self.trusted.with(good.clone()) {
            Ok(left_out) => {
                let nodes = 1 + good.count() - left_out.len();
                if self.nodes.send_replace(nodes) != nodes {
                    info!(nodes, "trust bundle updated");
                }
                let trouble = left_out.iter().map(|(node, error)| format!("{node} ({})", report::chain(error)));
                let trouble = trouble.take(3).reduce(|all, one| all + ", " + &one);
                let trouble = trouble.map(|named| format!("{} entries are left out: {named}", left_out.len()));
                if self.troubles.set(Of::Union, trouble.clone())
                    && let Some(error) = trouble
                {
                    error!(error, "the roots of all nodes do not fit into one trust bundle; some are left out");
                }
            }
            Err(error) => {
                let error = report::chain(&error);
                error!(error, "the roots of all nodes are not a valid trust bundle; using the last good one");
                self.troubles
                    .set(Of::Union, Some(format!("the roots of all nodes are not a valid trust bundle: {error}")));
            }
        }
    }
}

async fn ended(grace: Option<Instant>) {
    match grace {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
