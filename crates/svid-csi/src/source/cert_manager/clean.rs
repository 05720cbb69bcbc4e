//! Deletes requests that are no longer needed. The rest are deleted with their pod, which owns them.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use svid_csi_core::cert_request::hash_identifier;
use svid_csi_core::pod::PodRef;
use svid_csi_core::volume::VolumeSpec;
use tracing::warn;

use super::CertManager;
use super::requests::RequestName;
use crate::backoff;
use crate::kube::call::CallError;
use crate::kube::error;
use crate::kube::requester::Requester;
use crate::telemetry::report;

/// How often a deletion is attempted.
const TRIES: u32 = 5;
/// The number of requests of a volume that are deleted at once.
const AT_ONCE: usize = 2;

impl CertManager {
    /// Forgets a volume and deletes its requests.
    pub fn forget(&self, spec: &VolumeSpec) {
        let volume = self.lock().remove(&spec.id);
        let Some(pod) = &spec.pod else { return };
        let mut keys: HashSet<RequestName> = self.keys(spec, pod, |_, _| true).into_iter().collect();
        let remover = self.remover();
        self.tasks.detached(async move {
            if let Some(volume) = volume {
                // A request that was just created is not in the watch yet.
                let asking = volume.asking.lock().await;
                let live = asking.live.as_ref().map(|live| &live.object.metadata);
                keys.extend(live.map(|live| (live.namespace.clone(), live.name.clone())));
            }
            remover.remove(keys).await;
        });
    }

    /// Deletes the other requests of a volume; issued ones only if `issued` is set.
    pub(super) fn remove_all_but(&self, spec: &VolumeSpec, pod: &PodRef, kept: &str, issued: bool) {
        let keys = self.keys(spec, pod, |(namespace, name), is_issued| {
            (issued || !is_issued) && format!("{namespace}/{name}") != kept
        });
        let remover = self.remover();
        if !keys.is_empty() {
            self.tasks.detached(async move { remover.remove(keys).await });
        }
    }

    fn remover(&self) -> Remover {
        Remover { requester: self.requester.clone(), reported_forbidden: self.reported_forbidden.clone() }
    }

    fn keys(&self, spec: &VolumeSpec, pod: &PodRef, wanted: impl Fn(&RequestName, bool) -> bool) -> Vec<RequestName> {
        let all = self.requests.of_volume(&hash_identifier(spec.id.as_str()), pod);
        all.into_iter().filter(|(key, issued)| wanted(key, *issued)).map(|(key, _)| key).collect()
    }
}

/// Deletes requests, without using anything else of the source.
struct Remover {
    requester: Requester,
    reported_forbidden: Arc<AtomicBool>,
}

impl Remover {
    /// Deletes them a few at a time; all failures are retried together, later each time.
    async fn remove(&self, keys: impl IntoIterator<Item = RequestName>) {
        let mut keys: Vec<RequestName> = keys.into_iter().collect();
        for tries in 1..=TRIES {
            let results = stream::iter(keys).map(|key| self.try_to_remove(key, tries == TRIES));
            keys = results.buffer_unordered(AT_ONCE).filter_map(std::future::ready).collect().await;
            if keys.is_empty() {
                return;
            }
            tokio::time::sleep(backoff::retry_delay_within(tries, Duration::ZERO)).await;
        }
    }

    /// Returns the request if another attempt is worthwhile.
    async fn try_to_remove(&self, key: RequestName, is_last: bool) -> Option<RequestName> {
        let (namespace, name) = &key;
        let error = self.requester.delete(namespace, name).await.err()?;
        let is_forbidden = matches!(&error, CallError::Failed(error) if error::is_forbidden(error));
        if !is_last && !is_forbidden {
            return Some(key);
        }
        // Logged once for the missing verb, not once for each pod that ends.
        if !is_forbidden || !self.reported_forbidden.swap(true, Ordering::Relaxed) {
            let (request, error) = (format!("{namespace}/{name}"), report::chain(&error));
            warn!(request, error, "an old certificate request cannot be deleted; it stays until its pod is deleted");
        }
        None
    }
}
