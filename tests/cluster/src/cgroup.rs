//! A control group of the cluster's own: so that its pods are distinguishable from those of other kubelets on the
//! machine, and can be ended at once.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process;
use crate::wait;

const ROOT: &str = "/sys/fs/cgroup";
/// The controllers that a kubelet needs.
const CONTROLLERS: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

/// Creates the group in every hierarchy (version 1), or in the unified one (version 2).
pub fn create(name: &str) -> Result<()> {
    let root = Path::new(ROOT);
    if unified(root) {
        for controller in CONTROLLERS {
            // Those that this kernel has; the kubelet reports missing ones.
            let _ = set(&root.join("cgroup.subtree_control"), format!("+{controller}").as_bytes());
        }
    }
    for hierarchy in hierarchies(root)? {
        let group = hierarchy.join(name);
        fs::create_dir_all(&group).with_context(|| format!("cannot make the control group {}", group.display()))?;
        for file in ["cpuset.cpus", "cpuset.mems"] {
            // In version 1, a new group has no CPU at all.
            if let (false, Ok(value)) = (unified(root), fs::read(hierarchy.join(file))) {
                set(&group.join(file), &value)?;
            }
        }
    }
    Ok(())
}

/// Ends every process in the group and removes it.
pub fn remove(name: &str) -> Result<()> {
    let groups: Vec<_> = hierarchies(Path::new(ROOT))?.into_iter().map(|root| root.join(name)).collect();
    wait::until("the processes of the pods to end", Duration::from_secs(20), || {
        groups.iter().filter(|group| group.exists()).try_for_each(|group| empty(group))
    })
}

/// Control files accept one write, and are never created.
fn set(file: &Path, value: &[u8]) -> Result<()> {
    let mut file = File::options().write(true).open(file).with_context(|| format!("cannot open {}", file.display()))?;
    file.write_all(value).context("the kernel does not take it")
}

fn empty(group: &Path) -> Result<()> {
    for child in children(group)? {
        empty(&child)?;
    }
    let processes = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    processes.lines().filter_map(|line| line.parse().ok()).for_each(process::kill);
    match fs::remove_dir(group) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            bail!("{}: {error}", group.display())
        }
        _ => Ok(()),
    }
}

fn unified(root: &Path) -> bool {
    root.join("cgroup.controllers").exists()
}

fn hierarchies(root: &Path) -> Result<Vec<PathBuf>> {
    if unified(root) { Ok(vec![root.to_owned()]) } else { children(root) }
}

/// The folders in a folder, without links (`cpu` may be a link to `cpu,cpuacct`).
fn children(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("cannot list {}", folder.display()))?,
    };
    let folders = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    Ok(folders.map(|entry| entry.path()).collect())
}
