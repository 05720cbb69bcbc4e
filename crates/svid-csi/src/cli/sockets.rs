//! Sockets that depend on several flags: each needs a path of its own that is short enough.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::mistakes::FlagMistakes;
use super::values;
use crate::node::config::Config;
use crate::node::kubelet::config::DriverName;

/// Finds sockets that collide, and derived ones that are too long.
pub(super) fn check(config: &Config, mistakes: &mut FlagMistakes) {
    for (flag, derived, fix) in derived(config) {
        if let Some(problem) = values::too_long(&derived) {
            mistakes.add(flag, format_args!("{problem}; {fix}"));
        }
    }
    for (flag, socket) in seen_by_kubelet(config) {
        if let Some(problem) = values::too_long(&socket) {
            let fix = "give a shorter --driver-name, or the kubelet a shorter --root-dir";
            mistakes.add(flag, format_args!("the kubelet sees the registration socket at {problem}; {fix}"));
        }
    }
    let mut taken: BTreeMap<PathBuf, &str> = BTreeMap::new();
    for (flag, socket) in listening(config) {
        match taken.get(&socket) {
            Some(by) => {
                let by = mistakes.spelling(by);
                mistakes
                    .add(flag, format_args!("{} is already the socket of {by}; give each its own", socket.display()));
            }
            None => {
                taken.insert(socket, flag);
            }
        }
    }
}

/// Sockets whose path is derived from a flag, each with that flag and the way to shorten it.
fn derived(config: &Config) -> Vec<(&'static str, PathBuf, &'static str)> {
    let registration = config.kubelet.registration_dir.iter().flat_map(|dir| {
        config.kubelet.drivers.iter().map(move |driver| {
            let socket = dir.join(driver.registration_socket());
            ("kubelet-registration-dir", socket, "mount that folder at a shorter path")
        })
    });
    let admin = config.admin.socket.clone();
    let admin =
        admin.map(|socket| ("data-root", socket, "give a shorter --admin-socket, or --admin-socket 0 for none"));
    registration.chain(admin).collect()
}

/// The registration sockets in the kubelet's own folder, if the flags determine it: `plugins_registry`, beside the
/// `plugins` folder in which drivers have their CSI sockets (kubelet, `DefaultKubeletPluginsRegistrationDirName`).
fn seen_by_kubelet(config: &Config) -> Vec<(&'static str, PathBuf)> {
    let drivers = config.kubelet.drivers.iter().filter(|_| config.kubelet.registration_dir.is_some());
    let socket = |driver: &DriverName| {
        let plugins = |path: &PathBuf| path.ancestors().find(|folder| folder.ends_with("plugins")).map(Path::to_owned);
        let (flag, root) = match &config.kubelet.root_dir {
            Some(root) => ("kubelet-dir", root.clone()),
            None => ("kubelet-registration-path", plugins(driver.registration_path.as_ref()?)?.parent()?.to_owned()),
        };
        Some((flag, root.join("plugins_registry").join(driver.registration_socket())))
    };
    drivers
        .filter_map(socket)
        .filter(|(_, socket)| socket.parent() != config.kubelet.registration_dir.as_deref())
        .collect()
}

fn listening(config: &Config) -> impl Iterator<Item = (&'static str, PathBuf)> {
    let flags = std::iter::once("endpoint").chain(std::iter::repeat("also-profile"));
    let csi = flags.zip(config.kubelet.drivers.iter().map(|driver| driver.socket.clone()));
    csi.filter(|(_, socket)| !socket.as_os_str().is_empty())
        .chain(config.admin.socket.iter().map(|socket| ("admin-socket", socket.clone())))
}
