//! Registers a driver name with the kubelet, in place of the registrar sidecar (kubelet, pluginregistration.v1).

use std::sync::Arc;

use svid_csi_proto::pluginregistration_v1 as registration;
use tonic::{Request, Response, Status};
use tracing::{error, info};

use super::config::DriverName;
use crate::kube::taint::StartupTaint;
use crate::node::volume::Node;

/// Removes the taint whenever the kubelet has accepted every driver name. If the node registers again, it has the taint
/// again, and its kubelet repeats the registrations.
pub(in crate::node) async fn remove_taint(node: Arc<Node>, mut taint: StartupTaint, drivers: usize) {
    let mut registered = node.registered.subscribe();
    while registered.wait_for(|names| names.len() == drivers).await.is_ok() {
        taint.remove().await;
        let _ = registered.changed().await;
    }
}

impl Node {
    /// Records whether the kubelet has accepted a driver name.
    pub(in crate::node) fn set_registered(&self, driver: &str, accepted: bool) {
        self.reports.metrics.registered(driver, accepted);
        self.registered.send_modify(|registered| {
            if accepted {
                registered.insert(driver.to_owned());
            } else {
                registered.remove(driver);
            }
        });
    }
}

/// Answers the kubelet's questions about one driver name.
#[derive(Debug, Clone)]
pub(in crate::node) struct Registrar {
    pub(in crate::node) node: Arc<Node>,
    pub(in crate::node) driver: DriverName,
}

#[tonic::async_trait]
impl registration::registration_server::Registration for Registrar {
    async fn get_info(
        &self,
        _: Request<registration::InfoRequest>,
    ) -> Result<Response<registration::PluginInfo>, Status> {
        let endpoint = self.driver.registration_path.as_ref().unwrap_or(&self.driver.socket);
        Ok(Response::new(registration::PluginInfo {
            r#type: "CSIPlugin".to_owned(),
            name: self.driver.name.clone(),
            endpoint: endpoint.to_string_lossy().into_owned(),
            supported_versions: vec!["1.0.0".to_owned()],
        }))
    }

    async fn notify_registration_status(
        &self,
        status: Request<registration::RegistrationStatus>,
    ) -> Result<Response<registration::RegistrationStatusResponse>, Status> {
        let status = status.into_inner();
        self.node.set_registered(&self.driver.name, status.plugin_registered);
        if status.plugin_registered {
            info!(driver = self.driver.name, "registered with the kubelet");
        } else {
            // The kubelet retries as long as the socket exists.
            error!(driver = self.driver.name, error = status.error, "the kubelet refused the registration");
        }
        Ok(Response::new(registration::RegistrationStatusResponse {}))
    }
}
