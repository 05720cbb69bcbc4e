//! A driver with the volume layout of one of the predecessors, for tests of migration and as the stand-in for them in
//! the benchmark.
//!
//! It leaves a node in that state: identities come from a folder, and are never renewed, as with csi-driver-spiffe after
//! any restart. With `--renews` it works as csi-driver-spiffe does until then: see [`renewal`].

mod renewal;
mod volumes;

use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, Subcommand};
use svid_csi::net::http2_authority::Lenient;
use svid_csi_proto::csi_v1 as csi;
use svid_csi_proto::csi_v1::identity_server::{Identity, IdentityServer};
use svid_csi_proto::csi_v1::node_server::{Node, NodeServer};
use tokio::net::UnixListener;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use self::renewal::Renewal;
use self::volumes::Layout;

/// Serves CSI volumes like a predecessor.
#[derive(Parser)]
struct Args {
    /// The name of the driver.
    #[arg(long)]
    driver_name: String,
    /// The name of the node.
    #[arg(long)]
    node_id: String,
    /// The CSI socket; an existing one is replaced.
    #[arg(long)]
    endpoint: PathBuf,
    #[command(subcommand)]
    layout: LayoutArgs,
}

#[derive(Subcommand)]
enum LayoutArgs {
    /// Like cert-manager/csi-driver-spiffe 0.12.
    CsiDriverSpiffe {
        /// Where to mount its tmpfs.
        #[arg(long)]
        data_root: PathBuf,
        /// The folder with the identity of every pod: tls.crt, tls.key and ca.crt.
        #[arg(long)]
        identity: PathBuf,
        /// Poll for each identity, and check every volume once per second.
        #[arg(long)]
        renews: bool,
    },
    /// Like spiffe/spiffe-csi 0.2.12.
    SpiffeCsi {
        /// The folder of the agent's socket.
        #[arg(long)]
        workload_api_socket_dir: PathBuf,
    },
}

/// The attribute with the group of a volume.
const GROUP: &str = "spiffe.csi.cert-manager.io/fs-group";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let (layout, renewal) = match args.layout {
        LayoutArgs::CsiDriverSpiffe { data_root, identity, renews } => {
            let layout = Layout::tmpfs(&data_root, identity)?;
            (layout, renews.then(|| Renewal::in_root(&data_root)).transpose()?)
        }
        LayoutArgs::SpiffeCsi { workload_api_socket_dir } => (Layout::Bind { agent: workload_api_socket_dir }, None),
    };
    let _ = std::fs::remove_file(&args.endpoint);
    let listener = UnixListener::bind(&args.endpoint).with_context(|| format!("{}", args.endpoint.display()))?;
    let driver = Driver { name: args.driver_name, node_id: args.node_id, layout, renewal };
    let calls = UnixListenerStream::new(listener).map(|caller| caller.map(Lenient::new));
    let driver = std::sync::Arc::new(driver);
    let server = Server::builder()
        .add_service(IdentityServer::from_arc(driver.clone()))
        .add_service(NodeServer::from_arc(driver));
    Ok(server.serve_with_incoming(calls).await?)
}

struct Driver {
    name: String,
    node_id: String,
    layout: Layout,
    renewal: Option<Renewal>,
}

#[tonic::async_trait]
impl Identity for Driver {
    async fn get_plugin_info(
        &self,
        _: Request<csi::GetPluginInfoRequest>,
    ) -> Result<Response<csi::GetPluginInfoResponse>, Status> {
        let (name, vendor_version) = (self.name.clone(), "0".to_owned());
        Ok(Response::new(csi::GetPluginInfoResponse { name, vendor_version, ..Default::default() }))
    }

    async fn get_plugin_capabilities(
        &self,
        _: Request<csi::GetPluginCapabilitiesRequest>,
    ) -> Result<Response<csi::GetPluginCapabilitiesResponse>, Status> {
        Ok(Response::new(Default::default()))
    }

    async fn probe(&self, _: Request<csi::ProbeRequest>) -> Result<Response<csi::ProbeResponse>, Status> {
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl Node for Driver {
    async fn node_publish_volume(
        &self,
        request: Request<csi::NodePublishVolumeRequest>,
    ) -> Result<Response<csi::NodePublishVolumeResponse>, Status> {
        let request = request.into_inner();
        let group = request.volume_context.get(GROUP).map(|group| group.parse()).transpose();
        let group = group.map_err(|error| Status::invalid_argument(format!("{GROUP}: {error}")))?;
        if let Some(renewal) = &self.renewal {
            renewal.begin(&request.volume_id).await.map_err(internal)?;
        }
        let published = self.layout.publish(&request.volume_id, request.target_path.as_ref(), group);
        published.map(|()| Response::new(Default::default())).map_err(internal)
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<csi::NodeUnpublishVolumeRequest>,
    ) -> Result<Response<csi::NodeUnpublishVolumeResponse>, Status> {
        let request = request.into_inner();
        if let Some(renewal) = &self.renewal {
            renewal.end(&request.volume_id);
        }
        let unpublished = self.layout.unpublish(&request.volume_id, request.target_path.as_ref());
        unpublished.map(|()| Response::new(Default::default())).map_err(internal)
    }

    async fn node_get_volume_stats(
        &self,
        _: Request<csi::NodeGetVolumeStatsRequest>,
    ) -> Result<Response<csi::NodeGetVolumeStatsResponse>, Status> {
        Err(unneeded())
    }

    async fn node_get_storage_health(
        &self,
        _: Request<csi::NodeGetStorageHealthRequest>,
    ) -> Result<Response<csi::NodeGetStorageHealthResponse>, Status> {
        Err(unneeded())
    }

    async fn node_stage_volume(
        &self,
        _: Request<csi::NodeStageVolumeRequest>,
    ) -> Result<Response<csi::NodeStageVolumeResponse>, Status> {
        Err(unneeded())
    }

    async fn node_unstage_volume(
        &self,
        _: Request<csi::NodeUnstageVolumeRequest>,
    ) -> Result<Response<csi::NodeUnstageVolumeResponse>, Status> {
        Err(unneeded())
    }

    async fn node_expand_volume(
        &self,
        _: Request<csi::NodeExpandVolumeRequest>,
    ) -> Result<Response<csi::NodeExpandVolumeResponse>, Status> {
        Err(unneeded())
    }

    async fn node_get_capabilities(
        &self,
        _: Request<csi::NodeGetCapabilitiesRequest>,
    ) -> Result<Response<csi::NodeGetCapabilitiesResponse>, Status> {
        Ok(Response::new(Default::default()))
    }

    async fn node_get_info(
        &self,
        _: Request<csi::NodeGetInfoRequest>,
    ) -> Result<Response<csi::NodeGetInfoResponse>, Status> {
        Ok(Response::new(csi::NodeGetInfoResponse { node_id: self.node_id.clone(), ..Default::default() }))
    }
}

fn unneeded() -> Status {
    Status::unimplemented("not needed to lay out volumes")
}

fn internal(error: anyhow::Error) -> Status {
    Status::internal(format!("{error:#}"))
}
