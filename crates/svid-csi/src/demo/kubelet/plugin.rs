//! A CSI driver, as called by the kubelet.

use std::path::{Path, PathBuf};

use svid_csi_proto::csi_v1::identity_client::IdentityClient;
use svid_csi_proto::csi_v1::node_client::NodeClient;
use svid_csi_proto::csi_v1::{
    GetPluginInfoRequest, NodeGetCapabilitiesRequest, NodeGetInfoRequest, node_service_capability,
};
use tonic::transport::Channel;

use super::error::KubeletError;
use crate::net::unix_channel;

pub use node_service_capability::rpc::Type as Capability;

/// A driver that has answered. Like the kubelet, it opens a connection for each call, so that it stays usable when the
/// driver is restarted.
#[derive(Debug, Clone)]
pub struct Plugin {
    /// Its socket.
    pub socket: PathBuf,
    /// Its name (GetPluginInfo).
    pub name: String,
    /// Its version (GetPluginInfo).
    pub vendor_version: String,
    /// Its name for this node (NodeGetInfo).
    pub node_id: String,
    /// Its capabilities (NodeGetCapabilities).
    pub capabilities: Vec<Capability>,
}

impl Plugin {
    /// Identifies the driver on `socket`, without registration.
    ///
    /// # Errors
    /// [`KubeletError`] if there is no answer, or the answer is an error.
    pub async fn connect(socket: &Path) -> Result<Self, KubeletError> {
        let channel = dial(socket).await?;
        let mut node = NodeClient::new(channel.clone());
        let about = IdentityClient::new(channel).get_plugin_info(GetPluginInfoRequest {}).await;
        let about = about.map_err(KubeletError::of("GetPluginInfo"))?.into_inner();
        let offered = node.node_get_capabilities(NodeGetCapabilitiesRequest {}).await;
        let offered = offered.map_err(KubeletError::of("NodeGetCapabilities"))?.into_inner().capabilities;
        let place = node.node_get_info(NodeGetInfoRequest {}).await.map_err(KubeletError::of("NodeGetInfo"))?;
        Ok(Self {
            socket: socket.to_owned(),
            name: about.name,
            vendor_version: about.vendor_version,
            node_id: place.into_inner().node_id,
            capabilities: offered.into_iter().filter_map(|capability| rpc_type(capability.r#type?)).collect(),
        })
    }

    /// Whether it has that capability.
    pub fn can(&self, capability: Capability) -> bool {
        self.capabilities.contains(&capability)
    }

    /// A client for the Node service.
    ///
    /// # Errors
    /// [`KubeletError`] if no process accepts the connection.
    pub async fn node(&self) -> Result<NodeClient<Channel>, KubeletError> {
        dial(&self.socket).await.map(NodeClient::new)
    }

    /// A client for the Identity service.
    ///
    /// # Errors
    /// [`KubeletError`] if no process accepts the connection.
    pub async fn identity(&self) -> Result<IdentityClient<Channel>, KubeletError> {
        dial(&self.socket).await.map(IdentityClient::new)
    }
}

pub(super) async fn dial(socket: &Path) -> Result<Channel, KubeletError> {
    let failed = |source| KubeletError::Connect { socket: socket.to_owned(), source };
    unix_channel::connect(socket).await.map_err(failed)
}

fn rpc_type(capability: node_service_capability::Type) -> Option<Capability> {
    let node_service_capability::Type::Rpc(rpc) = capability;
    Capability::try_from(rpc.r#type).ok()
}
