//! A replacement for the node-driver-registrar sidecar: announces a driver's socket to the kubelet.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use svid_csi::net::http2_authority::Lenient;
use svid_csi_proto::pluginregistration_v1::registration_server::{Registration, RegistrationServer};
use svid_csi_proto::pluginregistration_v1::{InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse};
use tokio::net::UnixListener;
use tokio::task::JoinSet;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use crate::eventually::{SOON, eventually};
use crate::scene::Scene;

/// A registration, which is withdrawn when this is dropped.
pub struct Registrar {
    socket: PathBuf,
    /// Ends with the set.
    _server: JoinSet<()>,
}

impl Registrar {
    /// Registers the driver that listens on `endpoint`, as soon as it does.
    pub async fn start(scene: &Scene, driver: &str, endpoint: &Path) -> Result<Self> {
        eventually("the driver's socket", SOON, async || {
            std::os::unix::net::UnixStream::connect(endpoint).with_context(|| format!("{}", endpoint.display()))
        })
        .await?;
        let socket = scene.kubelet().join("plugins_registry").join(format!("{driver}-reg.sock"));
        let _ = fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).with_context(|| format!("cannot listen on {}", socket.display()))?;
        let plugin = Plugin { name: driver.to_owned(), endpoint: endpoint.display().to_string() };
        let server = Server::builder().add_service(RegistrationServer::new(plugin));
        let mut running = JoinSet::new();
        running.spawn(async move {
            let kubelet = UnixListenerStream::new(listener).map(|caller| caller.map(Lenient::new));
            let _ = server.serve_with_incoming(kubelet).await;
        });
        Ok(Self { socket, _server: running })
    }
}

impl Drop for Registrar {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.socket);
    }
}

struct Plugin {
    name: String,
    endpoint: String,
}

#[tonic::async_trait]
impl Registration for Plugin {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        Ok(Response::new(PluginInfo {
            r#type: "CSIPlugin".to_owned(),
            name: self.name.clone(),
            endpoint: self.endpoint.clone(),
            supported_versions: vec!["1.0.0".to_owned()],
        }))
    }

    async fn notify_registration_status(
        &self,
        _: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}
