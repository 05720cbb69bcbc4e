//! The processor time of everything that takes part in a renewal.

use std::time::{Duration, Instant};

use anyhow::Result;
use svid_csi_cluster::spiffe::Approver;
use svid_csi_cluster::{cert_manager, control_plane};
use svid_csi_testkit::measure::processor_seconds;
use tokio::time::sleep;

use crate::world::World;

/// How long the programs are watched at rest.
const REST: Duration = Duration::from_secs(20);

/// The programs, by name, each with the processor time that it needs at rest, in seconds per second.
pub(super) struct Programs(Vec<(&'static str, u32, f64)>);

impl Programs {
    /// Watches them at rest.
    pub(super) async fn at_rest(world: &World, approver: &Approver) -> Result<Self> {
        let mut programs = vec![("approver", approver.pid(), 0.0)];
        for name in control_plane::PROGRAMS.into_iter().take(2).chain(cert_manager::PROGRAMS) {
            programs.push((name, world.pid(name)?, 0.0));
        }
        let mut all = Self(programs);
        let (begun, before) = (Instant::now(), all.used()?);
        sleep(REST).await;
        let after = all.used()?;
        for ((_, _, rest), (before, after)) in all.0.iter_mut().zip(before.into_iter().zip(after)) {
            *rest = (after - before) / begun.elapsed().as_secs_f64();
        }
        Ok(all)
    }

    /// Seconds since each was started.
    pub(super) fn used(&self) -> Result<Vec<f64>> {
        self.0.iter().map(|(_, pid, _)| processor_seconds(*pid)).collect()
    }

    /// What each has used since `before`, beyond what it needs at rest.
    pub(super) fn beyond_rest(&self, before: Vec<f64>, took: f64) -> Result<Vec<(&'static str, f64)>> {
        let used = self.used()?.into_iter().zip(before);
        Ok(self
            .0
            .iter()
            .zip(used)
            .map(|((name, _, rest), (now, before))| (*name, now - before - rest * took))
            .collect())
    }
}
