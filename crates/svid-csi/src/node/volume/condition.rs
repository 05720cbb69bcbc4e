//! Whether a volume is usable for its pod.

use std::sync::Arc;
use std::time::Duration;

use svid_csi_core::state::Record;
use svid_csi_core::target::TargetPath;
use svid_csi_core::volume_id::VolumeId;

use super::Node;
use super::error::VolumeError;
use super::mount::may_show_agent;
use crate::host::clock;
use crate::host::mount::{MountError, MountPoint, MountState};
use crate::telemetry::report;

/// How long to wait for the file system of the agent's directory.
const PATIENCE: Duration = Duration::from_secs(5);

impl Node {
    /// The problem of a published volume; `None` if it has none.
    ///
    /// # Errors
    /// [`VolumeError::Unknown`] if it is not published at that path.
    pub async fn condition(self: &Arc<Self>, id: VolumeId, target: TargetPath) -> Result<Option<String>, VolumeError> {
        let held = self.hold(&id).await?;
        let record = held.as_ref().map(|volume| volume.record().clone());
        drop(held);
        let node = self.clone();
        let may_show_agent = may_show_agent(record.as_ref());
        let look = move || node.look_at(&id, &target, record.as_ref());
        let condition = match self.at_target(may_show_agent, PATIENCE, look).await {
            Err(VolumeError::SocketDir(silent)) => Some(silent.to_string()),
            looked => looked?,
        };
        if condition.is_some() {
            self.reports.metrics.abnormal_seen();
        }
        Ok(condition)
    }

    fn look_at(
        &self,
        id: &VolumeId,
        target: &TargetPath,
        record: Option<&Record>,
    ) -> Result<Option<String>, VolumeError> {
        let state = match MountPoint::open(target).and_then(|point| point.look()) {
            Ok(state) => Some(state),
            Err(error @ MountError::System { .. }) => return Err(error.into()),
            Err(_) => None,
        };
        match record.filter(|record| record.spec.target == *target) {
            Some(record) => self.trouble(record, state),
            None => match state {
                Some(MountState::Mounted(root)) if self.deliveries.is_agents(root)? => Ok(None),
                _ => Err(VolumeError::Unknown(id.clone())),
            },
        }
    }

    fn trouble(&self, record: &Record, state: Option<MountState>) -> Result<Option<String>, VolumeError> {
        let Some(MountState::Mounted(root)) = state else { return Ok(Some("the volume is not mounted".to_owned())) };
        if record.spec.subject().is_none() {
            return Ok(self.deliveries.trouble(record, root));
        }
        if record.root != Some(root) {
            return Ok(Some("something else is mounted over the volume".to_owned()));
        }
        Ok(self.deliveries.trouble(record, root).or_else(|| expired(record)).or_else(|| untrusted(record)))
    }
}

fn untrusted(record: &Record) -> Option<String> {
    Some(record.issued.as_ref()?.untrusted.clone()?.into())
}

fn expired(record: &Record) -> Option<String> {
    let expired = record.issued.as_ref().filter(|issued| issued.validity.not_after <= clock::now());
    expired.map(|issued| format!("the certificate expired at {}", report::rfc3339(issued.validity.not_after)))
}
