//! Sockets that follow from several flags: each needs a path of its own that is short enough.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::mistakes::Mistakes;
use super::values;
use crate::node::config::Config;

/// Finds sockets that collide, and derived ones that are too long.
pub(super) fn check(config: &Config, mistakes: &mut Mistakes) {
    for (flag, derived, fix) in derived(config) {
        if let Some(problem) = values::too_long(&derived) {
            mistakes.add(flag, format_args!("{problem}; {fix}"));
        }
    }
    let mut taken: BTreeMap<PathBuf, &str> = BTreeMap::new();
    for (flag, socket) in listening(config) {
        match taken.get(&socket) {
            Some(by) => {
                let by = mistakes.spelling(by);
                mistakes
                    .add(flag, format_args!("{} is the socket of {by} already; give each its own", socket.display()));
            }
            None => {
                taken.insert(socket, flag);
            }
        }
    }
}

/// Sockets whose path no flag gives outright: the flag it comes from, and how to shorten it.
fn derived(config: &Config) -> Vec<(&'static str, PathBuf, &'static str)> {
    let registration = config.registration_dir.iter().flat_map(|dir| {
        config.drivers.iter().map(move |driver| {
            let socket = dir.join(format!("{}-reg.sock", driver.name));
            ("kubelet-registration-dir", socket, "mount that folder at a shorter path")
        })
    });
    let admin = config.admin_socket.clone();
    let admin =
        admin.map(|socket| ("data-root", socket, "give a shorter --admin-socket, or --admin-socket 0 for none"));
    registration.chain(admin).collect()
}

fn listening(config: &Config) -> impl Iterator<Item = (&'static str, PathBuf)> {
    let flags = std::iter::once("endpoint").chain(std::iter::repeat("also-profile"));
    let csi = flags.zip(config.drivers.iter().map(|driver| driver.socket.clone()));
    csi.filter(|(_, socket)| !socket.as_os_str().is_empty())
        .chain(config.admin_socket.iter().map(|socket| ("admin-socket", socket.clone())))
}
