//! Calls, changes that peers make, and restarts of the driver.

use std::fs;

use svid_csi::demo::kubelet::{InlineVolume, KubeletError, Plugin};
use svid_csi_core::state::Record;
use svid_csi_testkit::TestCa;
use svid_csi_testkit::effects::{Act, Point};

use super::oracle;
use super::plan::Plan;
use super::world::World;
use crate::adoption::{self, Left, Odd};
use crate::fixture::{run, until};
use crate::restart::{lose_data_root, make_root_private, share_root};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Publish,
    /// As something else.
    Republish,
    /// The same, but then the kubelet asks again for what it was before.
    Revert,
    /// A publish after another program has unmounted a volume whose folder is a clone.
    Remount,
    Renewal,
    /// Another trust bundle.
    Bundle,
    /// The node's entry is lost from the roots of all nodes.
    Entry,
    /// Other keys that sign tokens.
    Tokens,
    /// A publish with another password.
    Password,
    /// The source withdraws the pod's identity.
    Withdrawal,
    /// It gives the pod another one after that.
    Return,
    Unpublish,
    /// The first publish of a volume that csi-driver-spiffe has mounted.
    Adoption,
    /// With one volume, which the kubelet then asks for again.
    Start,
    /// With one volume, which only the driver's own retries repair.
    StartAlone,
    /// With one volume whose pod is gone, which only the driver removes.
    StartGone,
    /// In a new container, without the tmpfs of the last one: the mount at the target is all that is left.
    StartCloned,
    /// In a new container whose data root the host sees too, which that of the last one did not.
    StartShared,
    /// In a new container whose data root the host no longer sees.
    StartPrivate,
    /// On a new node.
    FirstStart,
}

impl Operation {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Operation::Publish => "publish",
            Operation::Republish => "republish",
            Operation::Revert => "revert",
            Operation::Remount => "remount",
            Operation::Renewal => "renewal",
            Operation::Bundle => "bundle",
            Operation::Entry => "entry",
            Operation::Tokens => "tokens",
            Operation::Password => "password",
            Operation::Withdrawal => "withdrawal",
            Operation::Return => "return",
            Operation::Unpublish => "unpublish",
            Operation::Adoption => "adoption",
            Operation::Start => "start",
            Operation::StartAlone => "start-alone",
            Operation::StartGone => "start-gone",
            Operation::StartCloned => "start-cloned",
            Operation::StartShared => "start-shared",
            Operation::StartPrivate => "start-private",
            Operation::FirstStart => "first-start",
        }
    }

    pub(crate) fn is_start(self) -> bool {
        use Operation::{FirstStart, Start, StartAlone, StartCloned, StartGone, StartPrivate, StartShared};
        matches!(self, Start | StartAlone | StartGone | StartCloned | StartShared | StartPrivate | FirstStart)
    }

    /// Whether the tmpfs is lost in it.
    pub(crate) fn loses_tmpfs(self) -> bool {
        matches!(self, Operation::StartCloned | Operation::StartShared | Operation::Remount)
    }

    /// Whether it leaves a node on which it cannot happen again.
    fn needs_new_node(self) -> bool {
        matches!(self, Operation::FirstStart | Operation::StartShared | Operation::StartPrivate)
    }

    /// Whether the data root is on a shared mount before the operation. Adopted volumes are clones either way.
    pub(crate) fn begins_shared(self) -> bool {
        !self.loses_tmpfs()
    }

    /// A node for the first case.
    pub(crate) async fn begin(self, world: &mut World) {
        if self != Operation::FirstStart {
            world.start().await;
        }
    }

    /// Brings the world to the state before the operation.
    pub(crate) async fn prepare(self, world: &mut World, pod: &str) {
        if self.needs_new_node() && world.is_used {
            *world = World::new(world.plan, world.counted, self.begins_shared());
            self.begin(world).await;
        }
        world.is_used = true;
        world.register(pod);
        let volume = world.volume(pod);
        match self {
            Operation::Publish | Operation::FirstStart => {}
            Operation::Adoption => adoptable(world, &volume).await,
            Operation::Return => {
                world.node.publish(&volume).await;
                withdrawn(world, &volume).await;
            }
            _ => drop(world.node.publish(&volume).await),
        }
        match self {
            Operation::Start | Operation::StartAlone => world.node.kill(),
            Operation::StartGone => {
                world.node.kill();
                vanish(world, &volume);
            }
            Operation::StartCloned => {
                world.node.kill();
                lose_data_root(&world.node);
            }
            Operation::StartShared => {
                world.node.kill();
                lose_data_root(&world.node);
                share_root(&world.node);
            }
            Operation::StartPrivate => {
                world.node.kill();
                make_root_private(&world.node);
            }
            Operation::Remount => {
                world.node.kill();
                lose_data_root(&world.node);
                world.start().await;
                // With the data root, the CA is lost too, so the volume is renewed at once.
                until("the renewal", async || oracle::is_whole(world, &volume).await.is_ok()).await;
                unmount(world, &volume);
            }
            _ => {}
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
        self.ask_running(world, pod, point).await
    }

    /// Waits for a driver that starts, until it answers or ends.
    pub(crate) async fn starts(world: &World) -> Result<(), KubeletError> {
        let socket = world.node.path("csi.sock");
        let is_over = async || world.node.watched().ended().is_some() || Plugin::connect(&socket).await.is_ok();
        until("the driver answers", is_over).await;
        Ok(())
    }

    /// The same of a driver that runs. If the point only holds it, the answer is waited for.
    pub(crate) async fn ask_running(self, world: &World, pod: &str, point: Option<Point>) -> Result<(), KubeletError> {
        let plugin = world.node.plugin().await;
        let volume = world.volume(pod);
        let before = world.record(&volume).ok();
        let has_changed = || world.record(&volume).ok() != before;
        let other = match self {
            Operation::Republish | Operation::Revert => world.other(pod),
            Operation::Password => world.plan.with_other_password(pod),
            _ => volume.clone(),
        };
        world.watch(point);
        let kubelet = &world.node.kubelet;
        let is_held = point.is_some_and(|point| point.act == Act::Hold);
        let over = async |what: &str, is_over: &dyn Fn() -> bool| {
            let watched = world.node.watched();
            until(what, async || (!is_held && watched.has_fired()) || watched.ended().is_some() || is_over()).await;
        };
        match self {
            Operation::Publish | Operation::Republish | Operation::Revert | Operation::Remount => {
                return kubelet.publish(&plugin, &other).await.map(drop);
            }
            Operation::Password => {
                let before = world.recorded_serial(&volume);
                let asked = kubelet.publish(&plugin, &other).await.map(drop);
                over("the renewal with the other password", &|| {
                    world.recorded_serial(&volume) != before && world.is_delivered(&volume)
                })
                .await;
                return asked;
            }
            Operation::Unpublish => return kubelet.unpublish(&plugin, &volume).await,
            Operation::Adoption => {
                let asked = adoption::republish(&world.node, &volume).await;
                over("the first renewal", &|| asked.is_err() || world.is_delivered(&volume)).await;
                return asked.map_err(|status| KubeletError::Call { call: "NodePublishVolume", status });
            }
            Operation::Withdrawal => {
                let lines = withdrawals(world);
                world.agent().withdraw(&volume.pod);
                over("the withdrawal", &|| withdrawals(world) > lines).await;
            }
            Operation::Return => {
                world.register(pod);
                over("the next identity", &|| world.is_delivered(&volume)).await;
            }
            Operation::Bundle => {
                let jwt = |record: &Record| record.issued.as_ref()?.jwt.clone();
                let old_keys = before.as_ref().and_then(jwt).filter(|_| world.plan == Plan::Roots);
                let has_other_keys =
                    || old_keys.is_none() || world.record(&volume).ok().as_ref().and_then(jwt) != old_keys;
                world.trust(Some(&TestCa::new("other")));
                over("the other bundle", &|| has_changed() && has_other_keys()).await;
            }
            Operation::Entry => {
                world.lose_entry();
                over("the entry", &|| world.has_entry()).await;
            }
            Operation::Tokens => {
                world.agent().add_jwt_key();
                over("the other keys", &has_changed).await;
            }
            _ => {
                // The driver may be gone before it has answered.
                world.renew(&volume).await;
                let before = before.as_ref().and_then(|record| record.issued.as_ref()).map(|issued| &issued.serial);
                over("the renewal", &|| world.recorded_serial(&volume).as_ref() != before).await;
            }
        }
        Ok(())
    }
}

/// As another program does.
fn unmount(world: &World, volume: &InlineVolume) {
    run("umount", &[world.node.kubelet.target(volume).to_str().unwrap()]);
}

/// The pod is deleted while the driver is down, and its folder disappears.
fn vanish(world: &World, volume: &InlineVolume) {
    unmount(world, volume);
    fs::remove_dir_all(world.node.kubelet.pods_dir().join(&volume.pod.uid)).unwrap();
}

/// What csi-driver-spiffe leaves behind for a volume.
async fn adoptable(world: &World, volume: &InlineVolume) {
    let before = world.volume("of-csi-driver-spiffe");
    let identity = world.node.publish(&before).await;
    Left::behind(&world.node, volume, &identity, &Odd::none_of(world.plan.driver()));
    world.node.unpublish(&before).await;
}

async fn withdrawn(world: &World, volume: &InlineVolume) {
    let lines = withdrawals(world);
    world.agent().withdraw(&volume.pod);
    until("the withdrawal", async || withdrawals(world) > lines).await;
}

/// How often the driver has said that it is done with one.
fn withdrawals(world: &World) -> usize {
    world.node.log().matches("the identity was withdrawn; the volume is empty now").count()
}
