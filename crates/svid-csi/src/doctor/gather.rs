//! Every fact: what the driver says, then what is seen beside it.

use std::path::{Path, PathBuf};

use svid_csi_core::findings::facts::{DriverFacts, Facts, NoDriver};
use svid_csi_core::quoted::Quoted;

use super::paths::Paths;
use super::{cluster, data, sockets, volumes};
use crate::delivery::socket_dir;
use crate::host::clock;
use crate::host::inotify::{Inotify, NAMES};
use crate::node::admin::client;
use crate::telemetry::report;

/// What the driver says, and its paths; nothing is looked at yet.
pub(super) async fn of_driver(socket: &Path) -> (Facts, Paths) {
    let paths = Paths::of(socket).await;
    let driver = ask(socket).await;
    let facts = Facts { admin_socket: socket.display().to_string(), ..Facts::new(driver, clock::now()) };
    (facts, paths)
}

/// Adds everything that is seen beside the driver.
pub(super) async fn look_around(mut facts: Facts, paths: &Paths, socket: &Path, kubeconfig: Option<PathBuf>) -> Facts {
    facts.kernel.inotify = inotify().err();
    let Ok(driver) = &facts.driver else { return facts };
    facts.csi_sockets = sockets::csi(driver, paths).await;
    facts.registration_paths = sockets::announced(driver, paths).await;
    facts.registrations = sockets::registrations(driver, paths).await;
    if let Some(configured) = &driver.agent {
        facts.agent = Some(socket_dir::seen(configured, |path| paths.of_driver(path)));
    }
    if let Some(root) = &driver.data_root {
        facts.data = Some(data::look(paths, root));
        facts.left_over = left_over(socket, driver, paths, root).await;
    }
    facts.volumes = volumes::look(driver, paths).await;
    facts.cluster = cluster::look(driver, paths, kubeconfig).await;
    facts.kernel.descriptors = paths.pid.map(data::descriptors);
    facts
}

/// Folders that belong to no volume in two looks: one look may miss a volume that is being published or removed.
async fn left_over(socket: &Path, driver: &DriverFacts, paths: &Paths, root: &str) -> Result<Vec<String>, String> {
    let folder = paths.of_driver(root).join("data/volumes");
    let unknown = data::unknown_folders(&folder, driver)?;
    if unknown.is_empty() {
        return Ok(unknown);
    }
    let Ok(again) = ask(socket).await else { return Ok(Vec::new()) };
    let still = data::unknown_folders(&folder, &again)?;
    let left = unknown.into_iter().filter(|name| still.contains(name));
    Ok(left.map(|name| format!("{root}/data/volumes/{name}")).collect())
}

/// Asks the driver.
pub(super) async fn ask(socket: &Path) -> Result<DriverFacts, NoDriver> {
    let (status, body) = match client::get(socket, "/facts").await {
        Ok(answer) => answer,
        Err(error) => return Err(NoDriver::Unreachable(report::chain(&error))),
    };
    if status == http::StatusCode::NOT_FOUND {
        return Err(NoDriver::OtherVersion(
            "the driver does not know the page /facts: it is older than this program".to_owned(),
        ));
    }
    let read = serde_json::from_slice(&body);
    match read {
        Ok(facts) if status.is_success() => Ok(facts),
        Ok(_) => Err(NoDriver::OtherVersion(format!("the driver responded with {status}: {}", Quoted::new(&body)))),
        Err(error) => Err(NoDriver::OtherVersion(format!("the driver's facts cannot be read: {error}"))),
    }
}

/// Watches one folder more, as the driver does.
pub(super) fn inotify() -> Result<(), String> {
    let watched = Inotify::new().and_then(|inotify| inotify.add(Path::new("/"), NAMES));
    watched.map(drop).map_err(|error| format!("the kernel refuses another watch: {error}"))
}
