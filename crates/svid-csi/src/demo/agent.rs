//! A small agent: the SPIFFE Workload API on a Unix socket, with one X.509-SVID for every caller.

use std::fmt;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rustls::pki_types::CertificateDer;
use svid_csi_core::identity::KeyType;
use svid_csi_core::spiffe_id::SpiffeId;
use svid_csi_proto::workload::spiffe_workload_api_server::{SpiffeWorkloadApi, SpiffeWorkloadApiServer};
use svid_csi_proto::workload::{
    JwtBundlesRequest, JwtBundlesResponse, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest,
    ValidateJwtsvidResponse, X509BundlesRequest, X509BundlesResponse, X509svid, X509svidRequest, X509svidResponse,
};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::Server;
use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Response, Status};

use crate::host::{clock, fsx};
use crate::net::http2_authority::Lenient;
use crate::source::local_ca::{JWT_LIFETIME, LocalCa, LocalCaConfig};
use crate::spiffe::workload_header;

/// Everyone may connect, because callers are identified by the kernel, not by the mode of the socket.
const SOCKET_MODE: u32 = 0o777;

/// The caller, as reported by the kernel (SO_PEERCRED).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerCredentials {
    /// The process; `None` if it is in a PID namespace that is not visible from here (pid_namespaces(7)).
    pub pid: Option<i32>,
    /// The user it runs as.
    pub uid: u32,
}

/// The configuration of an agent.
pub struct AgentSettings {
    /// Its socket. The folder is created, and the socket of an earlier agent is replaced.
    pub socket: PathBuf,
    /// The SPIFFE ID of its SVIDs.
    pub spiffe_id: SpiffeId,
    /// The lifetime of an SVID; a stream gets the next one after half of it.
    pub lifetime: Duration,
    /// The folder of the CA, which is created if missing.
    pub ca_dir: PathBuf,
    /// Called for each call to FetchX509SVID.
    pub on_fetch: Box<dyn Fn(PeerCredentials) + Send + Sync>,
}

/// A listening agent.
#[derive(Debug)]
pub struct Agent {
    listener: UnixListener,
    service: AgentService,
}

#[derive(Clone)]
struct AgentService {
    ca: LocalCa,
    settings: Arc<AgentSettings>,
}

type ResponseStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Agent {
    /// Loads or creates the CA, and listens.
    ///
    /// # Errors
    /// If the CA or the socket cannot be created.
    pub fn bind(settings: AgentSettings) -> Result<Self> {
        let AgentSettings { socket, lifetime, ca_dir, .. } = &settings;
        let trust_domain = settings.spiffe_id.trust_domain().clone();
        let (key_type, jwt_lifetime) = (KeyType::default(), JWT_LIFETIME);
        let config =
            LocalCaConfig { trust_domain, lifetime: *lifetime, key_type, jwt_lifetime, dir: None, roots: None };
        let ca = LocalCa::open(&config, ca_dir)?;
        fsx::remove_file(socket)?;
        let listener = listen(socket).with_context(|| format!("cannot listen on {}", socket.display()))?;
        Ok(Self { listener, service: AgentService { ca, settings: Arc::new(settings) } })
    }

    /// Answers until the process ends or the future is dropped. Open streams then stay open until the runtime ends.
    ///
    /// # Errors
    /// If the listener fails.
    pub async fn serve(self) -> Result<(), tonic::transport::Error> {
        let service = SpiffeWorkloadApiServer::with_interceptor(self.service, workload_header::require);
        // Python's gRPC, and all others based on the C core, send the path of the socket as the HTTP/2 authority.
        let connections = UnixListenerStream::new(self.listener).map(|stream| stream.map(Lenient::new));
        Server::builder().add_service(service).serve_with_incoming(connections).await
    }
}

fn listen(socket: &Path) -> io::Result<UnixListener> {
    fs::create_dir_all(socket.parent().unwrap_or(socket))?;
    let listener = UnixListener::bind(socket)?;
    fs::set_permissions(socket, Permissions::from_mode(SOCKET_MODE))?;
    Ok(listener)
}

impl AgentService {
    fn x509_response(&self) -> Result<X509svidResponse, Status> {
        let id = &self.settings.spiffe_id;
        let issued = self.ca.issue(id.clone(), clock::now()).map_err(|error| Status::unavailable(error.to_string()))?;
        let svid = X509svid {
            spiffe_id: id.to_string(),
            x509_svid: concatenated(&issued.chain),
            x509_svid_key: issued.key.der().to_vec(),
            bundle: concatenated(issued.bundle.as_deref().unwrap_or_default()),
            hint: String::new(),
        };
        Ok(X509svidResponse { svids: vec![svid], ..Default::default() })
    }
}

fn concatenated(certificates: &[CertificateDer<'_>]) -> Vec<u8> {
    certificates.iter().flat_map(|certificate| certificate.iter().copied()).collect()
}

impl fmt::Debug for AgentService {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("AgentService").field("spiffe_id", &self.settings.spiffe_id).finish_non_exhaustive()
    }
}

fn caller<T>(request: &Request<T>) -> Result<PeerCredentials, Status> {
    let connection = request.extensions().get::<UdsConnectInfo>();
    let credentials = connection.and_then(|connection| connection.peer_cred);
    let credentials = credentials.ok_or_else(|| Status::internal("the kernel does not report who the caller is"))?;
    Ok(PeerCredentials { pid: credentials.pid().filter(|&pid| pid > 0), uid: credentials.uid() })
}

/// Only X.509: this agent has no JWT authority.
fn no_jwt<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("this agent issues no JWT-SVIDs"))
}

#[tonic::async_trait]
impl SpiffeWorkloadApi for AgentService {
    type FetchX509SVIDStream = ResponseStream<X509svidResponse>;
    type FetchX509BundlesStream = ResponseStream<X509BundlesResponse>;
    type FetchJWTBundlesStream = ResponseStream<JwtBundlesResponse>;

    async fn fetch_x509svid(
        &self,
        request: Request<X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        (self.settings.on_fetch)(caller(&request)?);
        let service = self.clone();
        let messages = tokio_stream::iter(0_u64..).then(move |sent| {
            let service = service.clone();
            async move {
                if sent > 0 {
                    tokio::time::sleep(service.settings.lifetime / 2).await;
                }
                service.x509_response()
            }
        });
        Ok(Response::new(Box::pin(messages)))
    }

    async fn fetch_x509_bundles(
        &self,
        _: Request<X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        let trust_domain = self.settings.spiffe_id.trust_domain().id().to_string();
        let svids = self.x509_response()?.svids;
        let bundles = svids.into_iter().map(|svid| (trust_domain.clone(), svid.bundle));
        let message = X509BundlesResponse { bundles: bundles.collect(), ..Default::default() };
        Ok(Response::new(Box::pin(tokio_stream::once(Ok(message)).chain(tokio_stream::pending()))))
    }

    async fn fetch_jwtsvid(&self, _: Request<JwtsvidRequest>) -> Result<Response<JwtsvidResponse>, Status> {
        no_jwt()
    }

    async fn fetch_jwt_bundles(
        &self,
        _: Request<JwtBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        no_jwt()
    }

    async fn validate_jwtsvid(
        &self,
        _: Request<ValidateJwtsvidRequest>,
    ) -> Result<Response<ValidateJwtsvidResponse>, Status> {
        no_jwt()
    }
}
