//! Volumes to check again: those that startup could not finish, those without the current trust bundle, those with leftovers,
//! and those that may be forgotten. One queue for all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use svid_csi_core::state::Phase;
use svid_csi_core::volume_id::VolumeId;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tracing::{error, warn};

use super::Node;
use super::error::VolumeError;
use super::mount::may_show_agent;
use super::registry::Held;
use super::store::Unreadable;
use crate::backoff;
use crate::telemetry::metrics::QueueState;
use crate::telemetry::report;

/// A volume that never became ready is removed if the kubelet has not requested it for this long.
pub(in crate::node) const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

/// How long to wait for the file system of the agent's directory.
const PATIENCE: Duration = Duration::from_secs(5);

/// Volumes, each with the time of its next check.
#[derive(Debug, Default)]
pub struct Later {
    volumes: Mutex<HashMap<VolumeId, Due>>,
    changed: Notify,
}

#[derive(Debug, Clone, Copy)]
struct Due {
    at: Instant,
    failures: u32,
}

impl Later {
    /// Schedules a check of a volume according to the back-off after that many consecutive failures.
    pub(super) fn again(&self, id: VolumeId, failures: u32) {
        self.put(id, Due { at: Instant::now() + backoff::retry_delay(failures, None), failures });
    }

    /// Schedules a check of a volume that was last requested at that time, when it may be forgotten.
    pub(super) fn forgotten(&self, id: VolumeId, asked: Instant) {
        self.put(id, Due { at: asked + FORGOTTEN_AFTER, failures: 0 });
    }

    /// The first entry stays, because the check covers all remaining work.
    fn put(&self, id: VolumeId, due: Due) {
        let mut volumes = self.volumes.lock().unwrap_or_else(PoisonError::into_inner);
        let known = volumes.entry(id).or_insert(due);
        if due.at < known.at {
            *known = due;
        }
        drop(volumes);
        self.changed.notify_one();
    }

    /// The number of volumes, by the reason of their check.
    pub(in crate::node) fn counts(&self) -> QueueState {
        let volumes = self.volumes.lock().unwrap_or_else(PoisonError::into_inner);
        let retry = volumes.values().filter(|due| due.failures > 0).count();
        QueueState { retry, unpublished: volumes.len() - retry }
    }

    /// Waits for the next volume to check.
    async fn next(&self) -> (VolumeId, u32) {
        loop {
            let first = self.first();
            match first {
                Some((id, due)) if due.at <= Instant::now() => {
                    self.volumes.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
                    return (id, due.failures);
                }
                Some((_, due)) => tokio::select! {
                    () = sleep_until(due.at) => {}
                    () = self.changed.notified() => {}
                },
                None => self.changed.notified().await,
            }
        }
    }

    fn first(&self) -> Option<(VolumeId, Due)> {
        let volumes = self.volumes.lock().unwrap_or_else(PoisonError::into_inner);
        volumes.iter().min_by_key(|(_, due)| due.at).map(|(id, due)| (id.clone(), *due))
    }
}

impl Node {
    /// Checks volumes one after the other, each at its time.
    pub(in crate::node) async fn run_later(self: Arc<Self>) {
        loop {
            let (id, failures) = self.later.next().await;
            // The current holder of the lock does the work, or schedules another check.
            let Some(mut held) = self.volumes.try_hold(&id) else {
                self.later.again(id, failures.max(1));
                continue;
            };
            let (node, volume) = (self.clone(), id.clone());
            let may_show_agent = held.as_ref().is_some_and(|volume| may_show_agent(Some(volume.record())));
            let finish = move || node.finish(&volume, &mut held);
            let Err(failed) = self.at_target(may_show_agent, PATIENCE, finish).await else { continue };
            if (failures + 1).is_power_of_two() {
                error!(volume = %id, failures = failures + 1, error = report::chain(&failed), "a volume could not be recovered, updated or removed; retrying");
            }
            self.later.again(id, failures + 1);
        }
    }

    /// Does the remaining work for a volume, if there is any. Blocks; the volume's lock is held.
    fn finish(self: &Arc<Self>, id: &VolumeId, held: &mut Held) -> Result<(), VolumeError> {
        let Some(volume) = held.as_mut() else { return self.finish_unknown(id, held) };
        if volume.unfinished {
            return self.resume(held).1;
        }
        if volume.record().phase == Phase::Ready {
            // Neither waits for the other.
            let tidied = self.deliveries.tidy(volume.record());
            return self.try_to_update_bundle(volume).and(tidied);
        }
        if volume.asked.elapsed() < FORGOTTEN_AFTER {
            self.later.forgotten(id.clone(), volume.asked);
            return Ok(());
        }
        let (driver, target) = (volume.record().driver.clone(), volume.record().spec.target.clone());
        warn!(volume = %id, "the kubelet no longer requests this volume; removing it");
        self.remove(&driver, id, &target, held)
    }

    /// A volume whose record could not be read, or the leftovers of one without a record.
    fn finish_unknown(self: &Arc<Self>, id: &VolumeId, held: &mut Held) -> Result<(), VolumeError> {
        match self.read_unread(id, held) {
            Err(Unreadable::File(error)) => Err(error.into()),
            // That is permanent.
            Err(_) => Ok(()),
            Ok(()) if held.is_some() => self.resume(held).1,
            Ok(()) if self.deliveries.is_reached(id)? => Ok(()),
            Ok(()) => self.deliveries.remove_all(id),
        }
    }
}
