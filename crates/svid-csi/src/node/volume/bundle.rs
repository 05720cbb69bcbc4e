//! A changed trust bundle reaches every volume at once, beside the existing certificates.

use std::sync::Arc;

use svid_csi_core::plan::Issuer;
use svid_csi_core::state::Phase;
use svid_csi_core::volume::Content;
use svid_csi_core::volume_id::VolumeId;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use super::Node;
use super::error::VolumeError;
use super::registry::Volume;
use crate::tasks::blocking;
use crate::telemetry::report;

/// Why a volume does not have the current trust bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behind {
    /// Its files are not those that the driver has written.
    Changed,
    /// It could not be written.
    Failed,
}

impl Node {
    /// Writes each new bundle of that issuer into all volumes, until `stop`.
    pub(in crate::node) async fn follow_bundle<T: Send + Sync + 'static>(
        self: Arc<Self>,
        issuer: Issuer,
        mut bundle: watch::Receiver<T>,
        stop: CancellationToken,
    ) -> Result<(), std::convert::Infallible> {
        bundle.mark_changed();
        loop {
            tokio::select! {
                Ok(()) = bundle.changed() => {}
                () = stop.cancelled() => return Ok(()),
            }
            self.update_bundles(issuer, self.volumes.all()).await;
        }
    }

    /// Busy volumes follow when they are done, and do not delay others.
    async fn update_bundles(self: &Arc<Self>, issuer: Issuer, volumes: Vec<VolumeId>) {
        let (node, all, mut busy) = (self.clone(), volumes.clone(), Vec::new());
        let brought = blocking(move || {
            if let (Some(workload_api), Some(bundle)) =
                (&node.deliveries.workload_api, node.sources.trust_bundle(issuer))
            {
                workload_api.send_bundle(issuer, &bundle);
            }
            for id in all {
                match node.volumes.try_hold(&id) {
                    Some(mut held) => node.update_bundle(held.as_mut()),
                    None => busy.push(id),
                }
            }
            busy
        });
        let busy = brought.await.unwrap_or_else(|error| {
            error!(error = report::chain(&error), "cannot write the new trust bundle into the volumes; retrying");
            volumes.into_iter().for_each(|id| self.later.again(id, 1));
            Vec::new()
        });
        for id in busy {
            let node = self.clone();
            self.tasks.detached(async move {
                let mut held = node.volumes.hold(&id).await;
                let this = node.clone();
                if blocking(move || this.update_bundle(held.as_mut())).await.is_err() {
                    node.later.again(id, 1);
                }
            });
        }
    }

    /// Writes the source's current bundle into a volume, if it has another one. A failure is retried, at the latest by
    /// the next publish or renewal. Blocks; the volume's lock is held.
    pub(super) fn update_bundle(&self, volume: Option<&mut Volume>) {
        let Some(volume) = volume else { return };
        if let Err(error) = self.try_to_update_bundle(volume) {
            let id = &volume.record().spec.id;
            error!(volume = %id, error = report::chain(&error), "cannot write the new trust bundle into a volume");
            self.later.again(id.clone(), 1);
        }
    }

    /// The same for the retry of a failure.
    pub(in crate::node) fn try_to_update_bundle(&self, volume: &mut Volume) -> Result<(), VolumeError> {
        let refreshed = self.refresh_bundle(volume);
        let behind = refreshed.as_ref().err().map(|error| match error {
            VolumeError::Changed(_) => Behind::Changed,
            _ => Behind::Failed,
        });
        // Only once: the renewal has pauses of its own, and would end them each time.
        let is_same = std::mem::replace(&mut volume.behind, behind) == behind;
        match &refreshed {
            Err(_) if is_same => {}
            Err(VolumeError::Changed(_)) => self.distrust(volume),
            // An identity of the local CA includes its bundle, and is retried until it is delivered.
            Err(_) if volume.record().spec.plan().issuer() == Some(Issuer::LocalCa) => volume.renew_now.notify_one(),
            _ => {}
        }
        refreshed
    }

    /// A volume whose chain does not lead to the new bundle is renewed at once. Another text of the same certificates only
    /// concerns the files that hold it.
    fn refresh_bundle(&self, volume: &mut Volume) -> Result<(), VolumeError> {
        let issuer = volume.record().spec.plan().issuer();
        let Some(bundle) = issuer.and_then(|issuer| self.sources.trust_bundle(issuer)) else { return Ok(()) };
        let record = volume.record();
        let Some(issued) = record.issued.as_ref().filter(|_| record.phase == Phase::Ready) else { return Ok(()) };
        let is_same = issued.bundle_digest == bundle.digest();
        let shows_text = matches!(&record.spec.content, Content::Files(wanted) if wanted.names.bundle.is_some());
        if is_same && (!shows_text || issued.bundle_text.as_deref() == bundle.text_digest()) {
            return Ok(());
        }
        let Some(leads) = self.deliveries.deliver_bundle(volume.record(), &bundle)? else { return Ok(()) };
        self.record(volume, |record| {
            let Some(issued) = &mut record.issued else { return };
            issued.bundle_text = bundle.text_digest().filter(|_| shows_text).map(Box::from);
            if !is_same {
                bundle.digest().clone_into(&mut issued.bundle_digest);
                // The digest covers the former bundle.
                issued.digest = None;
                issued.untrusted = leads.as_ref().err().map(|rejection| rejection.to_string().into());
            }
        })?;
        debug!(volume = %volume.record().spec.id, "wrote the new trust bundle into a volume");
        if leads.is_err() && !is_same {
            volume.renew_now.notify_one();
        }
        Ok(())
    }
}
