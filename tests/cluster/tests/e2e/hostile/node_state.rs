//! What a driver has on the node, to see that attackers have changed and left nothing.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use rustix::fs::{StatVfsMountFlags, statvfs};
use svid_csi_cluster::mounts;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::kind::Attacker;
use crate::scene::Scene;

/// The data root of the scene's driver.
pub fn data_root(scene: &Scene) -> PathBuf {
    scene.folder.join("data")
}

/// The folder of a volume, or of all.
pub fn volumes(scene: &Scene) -> PathBuf {
    data_root(scene).join("data/volumes")
}

/// The mounts on the host below the folders of the driver and of those pods.
pub fn mount_points(scene: &Scene, attackers: &[Attacker<'_>]) -> Result<BTreeSet<PathBuf>> {
    let pods = scene.kubelet().join("pods");
    let pods = attackers.iter().map(|attacker| pods.join(&attacker.pod.uid));
    let folders: Vec<_> = pods.chain([scene.folder.clone()]).collect();
    let all = mounts::mount_points()?.into_iter();
    Ok(all.filter(|point| folders.iter().any(|folder| point.starts_with(folder))).collect())
}

/// Fails if there are other mounts than before.
pub fn ensure_no_mounts(scene: &Scene, attackers: &[Attacker<'_>], before: &BTreeSet<PathBuf>) -> Result<()> {
    let now = mount_points(scene, attackers)?;
    let changed: Vec<_> = now.symmetric_difference(before).collect();
    ensure!(changed.is_empty(), "attacks in containers have changed the mounts of the node: {changed:?}");
    Ok(())
}

/// The limits of the file system of all volumes, and whether it is read-only.
pub fn limits(scene: &Scene) -> Result<(u64, u64, bool)> {
    let stat = statvfs(volumes(scene))?;
    Ok((stat.f_blocks, stat.f_files, stat.f_flag.contains(StatVfsMountFlags::RDONLY)))
}

/// The modes of all sockets in volumes, without duplicates.
pub fn socket_modes(scene: &Scene) -> Result<BTreeSet<u32>> {
    let mut modes = BTreeSet::new();
    for volume in fs::read_dir(volumes(scene))? {
        for entry in fs::read_dir(volume?.path())? {
            let known = fs::symlink_metadata(entry?.path())?;
            modes.extend(known.file_type().is_socket().then(|| known.mode() & 0o7777));
        }
    }
    Ok(modes)
}

/// Fails if the driver has something of a volume.
pub fn ensure_no_volumes(scene: &Scene) -> Result<()> {
    let root = data_root(scene);
    for folder in ["data/records", "data/volumes", "data/kept", "data/passwords"].map(|name| root.join(name)) {
        let entries = if folder.exists() { fs::read_dir(&folder)?.collect::<Result<Vec<_>, _>>()? } else { Vec::new() };
        ensure!(entries.is_empty(), "left behind: {entries:?}");
    }
    Ok(())
}

/// The value of one of the driver's metrics.
pub async fn metric(scene: &Scene, name: &str) -> Result<f64> {
    let mut connection = UnixStream::connect(data_root(scene).join("admin.sock")).await?;
    connection.write_all(b"GET /metrics HTTP/1.1\r\nhost: driver\r\nconnection: close\r\n\r\n").await?;
    let mut page = String::new();
    connection.read_to_string(&mut page).await?;
    let value = page.lines().find_map(|line| line.strip_prefix(&format!("svid_csi_{name} ")));
    value.and_then(|value| value.parse().ok()).with_context(|| format!("no svid_csi_{name} in {page}"))
}
