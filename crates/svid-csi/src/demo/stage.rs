//! Everything that exists before the first step: folders, the kubelet and two pods.

use std::time::Duration;

use anyhow::Result;
use svid_csi_core::spiffe_id::{SpiffeId, TrustDomain};

use super::agent::AgentSettings;
use super::driver::DriverSettings;
use super::kubelet::{InlineVolume, Kubelet, Pod};
use super::namespace::{FS_GROUP, Workplace};

/// The trust domain of all identities in the demo.
pub(super) const TRUST_DOMAIN: &str = "example.org";

/// The name of the agent's socket.
pub(super) const AGENT_SOCKET: &str = "agent.sock";

/// The shortest lifetime that the driver accepts, so that two renewals do not take long.
const LIFETIME: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Stage {
    /// The kubelet, whose root folder is `kubelet` in the work folder.
    pub(super) kubelet: Kubelet,
    /// How the driver is started.
    pub(super) settings: DriverSettings,
    /// The pod with files, and the pod with the agent's socket.
    pub(super) pods: [Pod; 2],
}

impl Stage {
    /// Creates the folders.
    pub(super) fn new(workplace: &Workplace) -> Result<Self> {
        let work = workplace.work;
        let kubelet_dir = work.join("kubelet");
        let kubelet = Kubelet::new(&kubelet_dir)?;
        let settings = DriverSettings {
            work: work.to_owned(),
            trust_domain: TRUST_DOMAIN,
            lifetime: LIFETIME,
            ca_dir: work.join("ca"),
            agent_dir: work.join("agent"),
            registration_dir: kubelet.registration_dir(),
            kubelet_dir,
        };
        let fs_group = workplace.has_fs_group.then_some(FS_GROUP);
        let pods = [pod("orders", 1, fs_group), pod("payments", 2, fs_group)];
        Ok(Self { kubelet, settings, pods })
    }

    /// The volume of the pod with files.
    pub(super) fn files_volume(&self) -> InlineVolume {
        InlineVolume::new(&self.pods[0], "spiffe")
    }

    /// The volume of the pod with the agent's socket.
    pub(super) fn socket_volume(&self) -> InlineVolume {
        InlineVolume::new(&self.pods[1], "spiffe")
    }

    /// The agent that issues the identity of the second pod, from the CA that the driver uses for the first.
    pub(super) fn agent(&self) -> Result<AgentSettings> {
        let trust_domain = TrustDomain::parse(TRUST_DOMAIN)?;
        let Pod { namespace, service_account, .. } = &self.pods[1];
        Ok(AgentSettings {
            socket: self.settings.agent_dir.join(AGENT_SOCKET),
            spiffe_id: SpiffeId::for_service_account(&trust_domain, namespace, service_account)?,
            lifetime: LIFETIME,
            ca_dir: self.settings.ca_dir.clone(),
            on_fetch: Box::new(|_| ()),
        })
    }
}

fn pod(name: &str, number: u32, fs_group: Option<u32>) -> Pod {
    Pod {
        uid: format!("00000000-0000-4000-8000-{number:012}"),
        name: format!("{name}-0"),
        namespace: "shop".to_owned(),
        service_account: name.to_owned(),
        fs_group,
    }
}
