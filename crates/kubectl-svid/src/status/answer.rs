//! The answer of `svid-csi status --json`. Drivers of other versions may have more fields, or fewer.

use serde::{Deserialize, Serialize};
use svid_csi_core::findings::volume_state::VolumeState;

use crate::drivers::DriverPod;
use crate::exec::Ended;

/// A node.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct NodeStatus {
    /// Its name, according to the API server.
    pub(super) node: String,
    #[serde(default)]
    pub(super) driver_version: String,
    /// How many further volumes are busy.
    #[serde(default)]
    pub(super) busy: usize,
    #[serde(default)]
    pub(super) sources: Vec<SourceState>,
    pub(super) volumes: Vec<VolumeRow>,
}

/// Where identities come from.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SourceState {
    pub(super) source: String,
    pub(super) connected: bool,
}

/// A volume.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct VolumeRow {
    pub(super) id: String,
    pub(super) pod: Option<String>,
    pub(super) driver: String,
    pub(super) plan: String,
    pub(super) state: String,
    /// Why it is in that state.
    pub(super) why: Option<String>,
    pub(super) spiffe_id: Option<String>,
    pub(super) serial: Option<String>,
    pub(super) not_after: Option<String>,
    pub(super) renewal: Option<String>,
    pub(super) seconds_left: Option<i64>,
    pub(super) connections: Option<usize>,
}

impl VolumeRow {
    /// Its state, if this version knows it.
    pub(super) fn known_state(&self) -> Option<VolumeState> {
        VolumeState::ALL.into_iter().find(|state| state.name() == self.state)
    }
}

pub(super) fn read(driver: &DriverPod, ended: Ended) -> Result<NodeStatus, String> {
    if ended.code != 0 {
        return Err(ended.complaint());
    }
    let read: Result<NodeStatus, _> = serde_json::from_slice(&ended.stdout);
    let status = read.map_err(|error| format!("half an answer, or another program's: {error}"))?;
    Ok(NodeStatus { node: driver.node.clone(), ..status })
}
