//! Lower limits: the bare system calls, and an empty call.

use std::fs::{self, File};
use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use rustix::fs::CWD;
use rustix::mount::{
    MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount_bind, mount_change, move_mount,
    open_tree, unmount,
};
use serde::Serialize;

use crate::driver::{Driver, Mode};
use crate::load::Load;
use crate::stage::Stage;
use svid_csi_testkit::measure::Sample;

const MOUNTS: usize = 300;
const PROBES: usize = 300;
const PROBES_AT_ONCE: usize = 2000;

/// Medians in milliseconds.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Floor {
    /// open_tree(2) and move_mount(2), which the driver uses to mount.
    pub(crate) attach: f64,
    /// umount2(2) of that.
    pub(crate) detach: f64,
    /// mount(2) with MS_BIND.
    bind: f64,
    /// umount2(2) of that.
    unbind: f64,
    /// An empty gRPC call.
    pub(crate) probe: f64,
    /// The number of those per second, eight at once.
    pub(crate) probes_per_second: f64,
}

/// The floor at the start and at the end of a run. The difference between the two shows how reliable the figures of the
/// run are.
#[derive(Serialize)]
pub(crate) struct FloorRange {
    pub(crate) before: Floor,
    pub(crate) after: Floor,
}

impl FloorRange {
    /// Name, start and end.
    pub(crate) fn rows(&self) -> [(&'static str, f64, f64); 5] {
        let row = |name, get: fn(&Floor) -> f64| (name, get(&self.before), get(&self.after));
        [
            row("open_tree + move_mount", |floor| floor.attach),
            row("umount2", |floor| floor.detach),
            row("mount (MS_BIND)", |floor| floor.bind),
            row("umount2 of that", |floor| floor.unbind),
            row("empty gRPC call", |floor| floor.probe),
        ]
    }
}

/// The current floor of a node, with a driver of its own.
pub(crate) async fn measure(stage: &Stage) -> Result<Floor> {
    let (driver, _) = Driver::start(Mode::Passthrough).await?;
    let load = Load::new(&stage.kubelet, &driver.plugin().await?).await?;
    of(stage, &load).await
}

/// The current floor of a node.
pub(crate) async fn of(stage: &Stage, load: &Load<'_>) -> Result<Floor> {
    let view = Stage::path("floor");
    let target = stage.kubelet.pods_dir().join("floor/volumes/kubernetes.io~csi/spiffe/mount");
    fs::create_dir_all(&view)?;
    fs::create_dir_all(&target)?;
    // A separate private mount: the cost of cloning grows with the number of mounts below, that of mounting with the
    // number of the mount's peers.
    mount_bind(&view, &view)?;
    mount_change(&view, MountPropagationFlags::PRIVATE)?;
    let (attach, detach) = pairs(&target, || attach(&view, &target))?;
    let (bind, unbind) = pairs(&target, || Ok(mount_bind(&view, &target)?))?;
    unmount(&view, UnmountFlags::empty())?;
    let probe = load.probe(PROBES).await?.p50();
    Ok(Floor { attach, detach, bind, unbind, probe, probes_per_second: load.probe_at_once(PROBES_AT_ONCE).await? })
}

fn attach(view: &Path, target: &Path) -> Result<()> {
    let tree = open_tree(CWD, view, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
    let folder = File::open(target)?;
    let by_descriptor = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(&tree, "", &folder, "", by_descriptor)?)
}

/// Medians of mounting and of unmounting.
fn pairs(target: &Path, mount: impl Fn() -> Result<()>) -> Result<(f64, f64)> {
    let (mut up, mut down) = (Vec::with_capacity(MOUNTS), Vec::with_capacity(MOUNTS));
    for _ in 0..MOUNTS {
        let begun = Instant::now();
        mount()?;
        up.push(begun.elapsed());
        let begun = Instant::now();
        unmount(target, UnmountFlags::empty())?;
        down.push(begun.elapsed());
    }
    Ok((Sample::new(up).p50(), Sample::new(down).p50()))
}
