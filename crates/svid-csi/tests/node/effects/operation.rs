//! Calls and restarts of the driver, and the checks after a fault in one of them.

use svid_csi::demo::kubelet::KubeletError;
use svid_csi_testkit::effects::Point;

use super::oracle::{self, Verdict, check};
use super::world::World;
use crate::fixture::until;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Publish,
    /// As something else.
    Republish,
    Renewal,
    Unpublish,
    /// With one volume, which the kubelet then asks for again.
    Start,
    /// With one volume, which only the driver's own retries repair.
    StartAlone,
    /// On a new node.
    FirstStart,
}

impl Operation {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Operation::Publish => "publish",
            Operation::Republish => "republish",
            Operation::Renewal => "renewal",
            Operation::Unpublish => "unpublish",
            Operation::Start => "start",
            Operation::StartAlone => "start-alone",
            Operation::FirstStart => "first-start",
        }
    }

    pub(crate) fn is_start(self) -> bool {
        matches!(self, Operation::Start | Operation::StartAlone | Operation::FirstStart)
    }

    /// Brings the world to the state before the operation.
    pub(crate) async fn prepare(self, world: &mut World, pod: &str) {
        let volume = world.plan.volume(pod);
        match self {
            Operation::Publish => {}
            Operation::Republish | Operation::Renewal | Operation::Unpublish => {
                world.node.publish(&volume).await;
            }
            Operation::Start | Operation::StartAlone => {
                world.node.publish(&volume).await;
                world.node.kill();
            }
            Operation::FirstStart => {
                if world.node.is_running() {
                    *world = World::new(world.plan, world.counted);
                }
            }
        }
    }

    /// Asks while the driver is watched; returns when the driver has answered, has ended, or has failed at the point.
    pub(crate) async fn ask(self, world: &mut World, pod: &str, point: Option<Point>) -> Result<(), KubeletError> {
        if self.is_start() {
            world.spawn(Some(point));
            // The caller checks whether it runs.
            let _ = world.node.answers().await;
            return Ok(());
        }
        let plugin = world.node.plugin().await;
        let volume = world.plan.volume(pod);
        let before = world.recorded_serial(&volume);
        world.watch(point);
        let kubelet = &world.node.kubelet;
        match self {
            Operation::Publish => kubelet.publish(&plugin, &volume).await.map(drop),
            Operation::Republish => kubelet.publish(&plugin, &world.plan.other(pod)).await.map(drop),
            Operation::Unpublish => kubelet.unpublish(&plugin, &volume).await,
            _ => {
                // The driver may be gone before it has answered.
                let _ = world.renew(&volume).await;
                let is_over = async || world.node.watched().has_fired() || world.recorded_serial(&volume) != before;
                until("the volume is renewed", is_over).await;
                Ok(())
            }
        }
    }

    /// Checks the volume once the driver runs again: before the kubelet retries, after that, and after the unpublish.
    pub(crate) async fn judge(self, world: &mut World, pod: &str, asked: &Result<(), KubeletError>) -> Verdict {
        let volume = world.plan.volume(pod);
        let plugin = world.node.plugin().await;
        let kubelet = &world.node.kubelet;
        let failed = |error: KubeletError| format!("asked again: {error}");
        match self {
            Operation::Publish => {
                if let Err(error) = asked
                    && !error.is_uncertain()
                {
                    oracle::gone(world, &volume).await.map_err(|left| format!("after a final {error}: {left}"))?;
                }
                kubelet.publish(&plugin, &volume).await.map_err(failed)?;
                oracle::published(world, &volume).await?;
                oracle::unpublishes(world, &volume).await
            }
            Operation::Republish => {
                let mounts = world.node.mounts(&kubelet.target(&volume));
                check(mounts == 1, || format!("{mounts} mounts before the kubelet asks again"))?;
                let other = world.plan.other(pod);
                kubelet.publish(&plugin, &other).await.map_err(failed)?;
                oracle::published(world, &other).await?;
                oracle::unpublishes(world, &other).await
            }
            Operation::Renewal => {
                // A record that is one renewal behind does no harm: the next one is only earlier.
                oracle::eventually(async || oracle::is_usable(world, &volume).await.map(drop)).await?;
                oracle::is_renewed(world, &volume).await?;
                oracle::unpublishes(world, &volume).await
            }
            Operation::Unpublish => oracle::unpublishes(world, &volume).await,
            Operation::Start => {
                kubelet.publish(&plugin, &volume).await.map_err(failed)?;
                oracle::published(world, &volume).await?;
                oracle::unpublishes(world, &volume).await
            }
            Operation::StartAlone => {
                oracle::eventually(async || oracle::is_whole(world, &volume).await).await?;
                oracle::published(world, &volume).await?;
                oracle::unpublishes(world, &volume).await
            }
            Operation::FirstStart => {
                kubelet.publish(&plugin, &volume).await.map_err(failed)?;
                oracle::published(world, &volume).await?;
                oracle::unpublishes(world, &volume).await
            }
        }
    }
}
