//! The properties that every state must have.

use svid_csi_core::state::Phase;

use crate::world::{Belief, Pod, Root, Spec, World, bit};

/// The properties.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Property {
    /// A running pod whose last publish succeeded has one mount, the complete files of one generation with the requested names,
    /// and a renewal that runs or is queued.
    P1,
    /// A publish succeeds only if the record on disk is ready and has the requested spec.
    P2,
    /// When the pod is gone, the kubelet is done and every queue is empty, nothing is left.
    P3,
    /// A target never has two mounts of this driver.
    P4,
    /// A withdrawn identity cannot be read again and is removed in the end.
    P5,
    /// No timer removes the volume of a running pod.
    P6,
    /// Mounts of other programs stay.
    P7,
    /// After a failed republish, the pod still has one mount and complete files, and no new names that lead nowhere.
    P8,
    /// Every generation that a pod can read is in the audit log.
    P9,
    /// Keys are in the folder of a volume with files and nowhere else.
    P10,
}

/// Checked after every effect, also in the middle of a call.
pub fn broken_now(world: &World) -> Option<Property> {
    if world.mounts.ours() > 1 {
        return Some(Property::P4);
    }
    if world.readable() & world.revoked != 0 {
        return Some(Property::P5);
    }
    if world.foreign && !world.mounts.all().any(|root| root == Root::Foreign) {
        return Some(Property::P7);
    }
    if world.readable() & !world.audited != 0 {
        return Some(Property::P9);
    }
    world.leaked.then_some(Property::P10)
}

/// Checked between two calls.
pub fn broken_at_rest(world: &World) -> Option<Property> {
    if world.pod != Pod::Running || world.asks_again || world.foreign {
        return None;
    }
    let queued = world.later() == Some(crate::world::Later::Again);
    let fresh = world.driver.is_none() || queued || is_kept_fresh(world);
    (!world.is_whole() || !fresh).then_some(Property::P1)
}

fn is_kept_fresh(world: &World) -> bool {
    world.volume().is_some_and(|volume| {
        let runs = volume.renewal.is_some_and(|renewal| renewal.spec == volume.record.spec);
        volume.record.phase == Phase::Ready && (runs || volume.record.spec == Spec::Passthrough)
    })
}

/// Checked after the driver and the kubelet have retried everything and nothing failed.
pub fn broken_in_the_end(world: &World) -> Option<Property> {
    let foreign = world.mounts.all().any(|root| root == Root::Foreign);
    match world.pod {
        _ if foreign => None,
        Pod::Wanted => None,
        Pod::Running => broken_while_running(world),
        Pod::Deleted | Pod::Gone => (!is_clean(world)).then_some(Property::P3),
    }
}

fn broken_while_running(world: &World) -> Option<Property> {
    if world.asks_again {
        // The source has no identity: the kubelet continues to ask, and the pod keeps its last one.
        return world.gives.is_some().then_some(Property::P1);
    }
    let spec = world.volume().map(|volume| volume.record.spec);
    let shown = world.mounted_folder().and_then(|folder| folder.shown);
    if world.gives.is_none() && world.readable() != 0 {
        return Some(Property::P5);
    }
    if spec == Some(Spec::Passthrough) && world.folder.is_some_and(|folder| folder.readable() != 0) {
        return Some(Property::P10);
    }
    let as_given = match (spec, world.gives) {
        (None, _) => false,
        (Some(Spec::Passthrough), _) => world.mounts.top() == Some(Root::Agent),
        (Some(spec), Some(given)) => shown == Some((given, spec)) && world.readable() == bit(given),
        (Some(_), None) => true,
    };
    (!as_given || !world.is_whole() || !is_kept_fresh(world)).then_some(Property::P1)
}

/// Nothing of the volume is left.
fn is_clean(world: &World) -> bool {
    let kubelet_is_done = world.belief == Belief::Unmounted && world.pod == Pod::Gone;
    let driver_is_done = world.driver.is_some_and(|driver| driver.volume.is_none() && driver.later.is_none());
    kubelet_is_done
        && driver_is_done
        && world.disk.is_none()
        && world.folder.is_none()
        && world.behind.is_none()
        && !world.target
}
