//! Starts and stops the whole cluster, from any state that an earlier run left.

use std::fs::{self, File};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::layout::Layout;
use crate::session::Session;
use crate::tools::Tools;
use crate::{cert_manager, control_plane, images, mounts, node, process, service_route};

/// The programs that tests run on the host.
const OF_TESTS: [&str; 5] = ["scripted-agent", "svid-csi", cert_manager::PROGRAM, "spire-server", "spire-agent"];

/// Starts the cluster. A healthy running one is not changed.
pub fn up(layout: &Layout, say: &mut dyn FnMut(&str)) -> Result<()> {
    let tools = Tools::build(layout, say)?;
    let _lock = lock(layout)?;
    if healthy(layout, &tools) {
        say("the cluster is up");
        return Ok(());
    }
    let started = Instant::now();
    clear(layout)?;
    fresh(layout, &tools).with_context(|| format!("the logs are in {}", layout.logs().display()))?;
    say(&format!("the cluster is up after {:.1} s", started.elapsed().as_secs_f32()));
    say(&format!("export KUBECONFIG={}", layout.kubeconfig().display()));
    Ok(())
}

/// Stops the cluster and removes all of it except its logs.
pub fn down(layout: &Layout) -> Result<()> {
    let _lock = lock(layout)?;
    clear(layout)
}

/// Whether everything runs and the node accepts pods.
#[must_use]
pub fn healthy(layout: &Layout, tools: &Tools) -> bool {
    Session::load(layout).is_ok()
        && programs().all(|program| process::runs(layout, program))
        && control_plane::ready(layout, tools).is_ok()
        && node::ready(layout, tools).is_ok()
}

fn fresh(layout: &Layout, tools: &Tools) -> Result<()> {
    mounts::remove_folder(&layout.logs())?;
    for folder in [layout.logs(), layout.pids(), layout.scratch()] {
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    mounts::share_root()?;
    let session = Session::pick()?;
    control_plane::write_credentials(layout, &session)?;
    node::start_containerd(layout, tools)?;
    images::load_base(layout, tools)?;
    control_plane::start(layout, tools, &session)?;
    service_route::add(layout, &session)?;
    node::start_kubelet(layout, tools, &session)?;
    node::wait_ready(layout, tools)?;
    node::announce_runtimes(layout, tools)?;
    session.save(layout)
}

/// The steps of [`fresh`] in reverse; each tolerates missing parts.
fn clear(layout: &Layout) -> Result<()> {
    cert_manager::stop(layout)?;
    process::stop(layout, "kubelet")?;
    process::stop(layout, "containerd")?;
    node::end_pods(layout)?;
    for program in control_plane::PROGRAMS.into_iter().rev() {
        process::stop(layout, program)?;
    }
    let known: Vec<_> = programs().chain(OF_TESTS).collect();
    process::sweep(&known, &layout.work)?;
    service_route::remove(layout)?;
    mounts::clear_below(&layout.work)?;
    let kept = layout.logs();
    for entry in fs::read_dir(&layout.work).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            if path != kept {
                mounts::remove_folder(&path)?;
            }
        } else {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

fn programs() -> impl Iterator<Item = &'static str> {
    control_plane::PROGRAMS.into_iter().chain(node::PROGRAMS)
}

/// Held while the cluster changes, so that two runs in one checkout take turns.
fn lock(layout: &Layout) -> Result<File> {
    fs::create_dir_all(&layout.work).with_context(|| format!("cannot make {}", layout.work.display()))?;
    let path = layout.work.with_extension("lock");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}
