//! Removing requests that nobody needs any more. What is left over goes with its pod, which owns it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use svid_csi_core::cert_request::hash_identifier;
use svid_csi_core::pod::PodRef;
use svid_csi_core::volume::VolumeSpec;
use tracing::warn;

use super::CertManager;
use super::requests::Key;
use crate::kube::call::CallError;
use crate::kube::error;
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
            let (requester, told) = (self.requester.clone(), self.told_of_leftovers.clone());
            self.tasks.detached(async move {
                for failures in 1..=TRIES {
                    let Err(error) = requester.delete(&namespace, &name).await else { return };
                    let is_forbidden = matches!(&error, CallError::Failed(error) if error::is_forbidden(error));
                    if failures < TRIES && !is_forbidden {
                        tokio::time::sleep(source::retry_delay_within(failures, Duration::ZERO)).await;
                        continue;
                    }
                    // One missing verb, and not one line for each pod that ends.
                    if !is_forbidden || !told.swap(true, Ordering::Relaxed) {
                        let (request, error) = (format!("{namespace}/{name}"), report::chain(&error));
                        warn!(request, error, "an old request stays until its pod goes");
                    }
                    return;
                }
            });
        }
    }
}
