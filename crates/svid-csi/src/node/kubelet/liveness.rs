//! Whether the kubelet can reach this driver, for `/livez`. Checked on request only.

use std::sync::Arc;
use std::time::Duration;

use svid_csi_proto::csi_v1::ProbeRequest;
use svid_csi_proto::csi_v1::identity_client::IdentityClient;

use super::door::Door;
use crate::net::unix_channel;

/// How long the sockets may take to answer; the chart's probes wait for five seconds.
const PATIENCE: Duration = Duration::from_secs(3);

/// The sockets on which the kubelet calls this driver.
#[derive(Debug, Clone, Default)]
pub(crate) struct Liveness {
    pub(in crate::node) csi: Vec<Arc<Door>>,
    pub(in crate::node) registration: Vec<Arc<Door>>,
}

impl Liveness {
    /// Connects to each CSI socket like the kubelet, and checks that each registration socket is still bound to its
    /// path.
    ///
    /// # Errors
    /// The socket that the kubelet cannot reach.
    pub(crate) async fn check(&self) -> Result<(), String> {
        let lost: Vec<_> = self.csi.iter().chain(&self.registration).filter(|door| is_lost(door)).collect();
        lost.iter().for_each(|door| door.look_again());
        if let Some(door) = lost.first() {
            return Err(format!("{} was deleted or replaced", door.path().display()));
        }
        for answer in futures::future::join_all(self.csi.iter().map(|door| probe(door))).await {
            answer?;
        }
        Ok(())
    }
}

/// If that cannot be determined, a probe of the CSI sockets still shows whether the kubelet reaches this driver.
fn is_lost(door: &Door) -> bool {
    matches!(door.is_open(), Ok(false))
}

async fn probe(door: &Door) -> Result<(), String> {
    let probed = tokio::time::timeout(PATIENCE, async {
        let channel =
            unix_channel::connect(door.path()).await.map_err(|error| crate::telemetry::report::chain(&error))?;
        IdentityClient::new(channel).probe(ProbeRequest {}).await.map_err(|status| status.message().to_owned())
    });
    match probed.await {
        Ok(answered) => {
            answered.map(drop).map_err(|error| format!("{} does not answer: {error}", door.path().display()))
        }
        Err(_) => Err(format!("{} does not answer within {PATIENCE:?}", door.path().display())),
    }
}
