//! Removing requests that nobody needs any more. What is left over goes with its pod, which owns it.

use std::time::Duration;

use svid_csi_core::cert_request::hash_identifier;
use svid_csi_core::pod::PodRef;
use svid_csi_core::volume::VolumeSpec;
use tracing::warn;

use super::CertManager;
use super::requests::Key;
use crate::{report, source};

/// How often a removal is tried.
const TRIES: u32 = 5;

impl CertManager {
    /// Forgets a volume and removes its requests.
    pub fn forget(&self, spec: &VolumeSpec) {
        let volume = self.lock().remove(&spec.id);
        let Some(pod) = &spec.pod else { return };
        let mut keys = self.keys(spec, pod, |_, _| true);
        if let Some(asking) = volume.as_ref().and_then(|volume| volume.asking.try_lock().ok()) {
            let live = asking.live.as_ref().map(|live| &live.object.metadata);
            keys.extend(live.map(|live| (live.namespace.clone(), live.name.clone())));
        }
        keys.dedup();
        self.remove(keys);
    }

    /// Removes the other requests of a volume; the issued ones only where `issued` says so.
    pub(super) fn remove_all_but(&self, spec: &VolumeSpec, pod: &PodRef, kept: &str, issued: bool) {
        let keys = self.keys(spec, pod, |(namespace, name), is_issued| {
            (issued || !is_issued) && format!("{namespace}/{name}") != kept
        });
        self.remove(keys);
    }

    fn keys(&self, spec: &VolumeSpec, pod: &PodRef, wanted: impl Fn(&Key, bool) -> bool) -> Vec<Key> {
        let all = self.requests.of_volume(&hash_identifier(spec.id.as_str()), &pod.uid);
        all.into_iter().filter(|(key, issued)| wanted(key, *issued)).map(|(key, _)| key).collect()
    }

    fn remove(&self, keys: Vec<Key>) {
        for (namespace, name) in keys {
            let requester = self.requester.clone();
            self.tasks.detached(async move {
                for failures in 1..=TRIES {
                    match requester.delete(&namespace, &name).await {
                        Ok(()) => return,
                        Err(error) if failures == TRIES => {
                            warn!(
                                request = format!("{namespace}/{name}"),
                                error = report::chain(&error),
                                needs = "delete on certificaterequests.cert-manager.io",
                                "an old request stays until its pod goes"
                            );
                        }
                        Err(_) => tokio::time::sleep(source::retry_delay_within(failures, Duration::ZERO)).await,
                    }
                }
            });
        }
    }
}
