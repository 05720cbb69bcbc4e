//! Each volume as its pod finds it.

use std::collections::BTreeMap;
use std::path::Path;

use futures::{StreamExt, stream};
use svid_csi_core::findings::facts::{Delivered, DriverFacts, TargetSeen, VolumeFacts, VolumeSeen};
use svid_csi_core::target::TargetPath;

use super::delivered;
use super::paths::Paths;
use crate::host::{fsx, mount};
use crate::telemetry::report;

/// How many volumes are looked at at a time.
const AT_ONCE: usize = 16;

pub(super) async fn look(driver: &DriverFacts, paths: &Paths) -> BTreeMap<String, VolumeSeen> {
    let ready = driver.volumes.iter().filter(|(_, volume)| volume.is_ready());
    let looked = ready.map(async |(id, volume)| {
        let target = paths.of_driver(&volume.target);
        let seen =
            VolumeSeen { target: at(&target), pod: pod(volume, paths), delivered: delivery(&target, volume).await };
        (id.clone(), seen)
    });
    stream::iter(looked).buffer_unordered(AT_ONCE).collect().await
}

fn at(target: &Path) -> TargetSeen {
    let look = || {
        let Some(id) = mount::file_id_of(target)? else { return Ok(TargetSeen::Missing) };
        Ok(if mount::is_mount_root(target)? { TargetSeen::Mounted(id) } else { TargetSeen::Folder })
    };
    look().unwrap_or_else(|error: mount::MountError| TargetSeen::Unknown(report::chain(&error)))
}

/// Whether the pod has a folder, if the folder of all pods can be seen.
fn pod(volume: &VolumeFacts, paths: &Paths) -> Result<bool, String> {
    let target = TargetPath::parse(&volume.target).map_err(|error| error.to_string())?;
    let place = target.place().ok_or("the target is not one of a kubelet")?;
    let pods = paths.of_driver(&place.pods_dir.to_string_lossy());
    if !fsx::exists(&pods).map_err(|error| report::chain(&error))? {
        return Err(format!("{} cannot be seen from here", pods.display()));
    }
    pods.join(place.pod_uid).try_exists().map_err(|error| error.to_string())
}

async fn delivery(target: &Path, volume: &VolumeFacts) -> Option<Result<Delivered, String>> {
    if let Some(names) = &volume.files {
        return Some(delivered::files(target, names));
    }
    let socket = volume.sockets.first()?;
    Some(delivered::socket(&target.join(socket)).await)
}
