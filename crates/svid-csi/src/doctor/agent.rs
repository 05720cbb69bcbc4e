//! The agent's directory.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use svid_csi_core::findings::facts::{AgentFacts, AgentSeen};

use super::paths::Paths;
use crate::delivery::socket_dir;
use crate::host::mount;
use crate::telemetry::report;

pub(super) fn look(agent: &AgentFacts, paths: &Paths) -> AgentSeen {
    let folder = paths.of_driver(&agent.path);
    let found = match socket_dir::listeners(&folder) {
        Ok(found) => found,
        Err(error) if error.source.kind() == ErrorKind::NotFound => return AgentSeen::Missing,
        Err(error) => return AgentSeen::Unknown(report::chain(&error)),
    };
    let as_the_driver_has_it = |socket: &Path| {
        Path::new(&agent.path).join(socket.strip_prefix(&folder).unwrap_or(socket)).display().to_string()
    };
    let sockets: BTreeMap<_, _> =
        found.iter().map(|(socket, listens)| (as_the_driver_has_it(socket), *listens)).collect();
    let stable = agent.stable.as_ref().filter(|_| agent.heals).map(|stable| paths.of_driver(stable));
    let shown = [Some(folder), stable];
    let ids = shown.iter().flatten().filter_map(|path| mount::file_id_of(path).ok().flatten()).collect();
    AgentSeen::Directory { ids, sockets }
}
