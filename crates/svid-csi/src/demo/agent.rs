//! A small agent: the SPIFFE Workload API on a Unix socket, with one X.509-SVID for everyone who asks.

use std::fmt;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

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

use crate::source::local_ca::{LocalCa, LocalCaError};

/// Everyone may connect: who is asking is told by the kernel, not by the mode of the socket.
const SOCKET_MODE: u32 = 0o777;

/// Without this header a request might come from a web page (SPIFFE Workload Endpoint, section 5).
const SECURITY_HEADER: &str = "workload.spiffe.io";

/// Who asked, as the kernel says (SO_PEERCRED).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// The process; none when it lives in a PID namespace that cannot be seen from here.
    pub pid: Option<i32>,
    /// The user it runs as.
    pub uid: u32,
}

/// Whose identity an agent hands out.
pub struct Workload {
    /// The ID it hands out.
    pub id: SpiffeId,
    /// Who signs.
    pub ca: LocalCa,
    /// How long until a stream gets the next SVID; well under the lifetime of what `ca` signs.
    pub renew_every: Duration,
    /// Told of each call to FetchX509SVID.
    pub on_fetch: Box<dyn Fn(Caller) + Send + Sync>,
}

/// An agent that listens.
#[derive(Debug)]
pub struct Agent {
    listener: UnixListener,
    workload: Arc<Workload>,
}

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Agent {
    /// Listens at `socket`. Its folder is created, and what an earlier agent left there is replaced.
    pub fn bind(socket: &Path, workload: Workload) -> io::Result<Self> {
        fs::create_dir_all(socket.parent().unwrap_or(socket))?;
        match fs::remove_file(socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(socket)?;
        fs::set_permissions(socket, Permissions::from_mode(SOCKET_MODE))?;
        Ok(Self { listener, workload: Arc::new(workload) })
    }

    /// Answers until the process ends or the future is dropped. Streams that are open then stay open until the runtime
    /// ends.
    pub async fn serve(self) -> Result<(), tonic::transport::Error> {
        let service = SpiffeWorkloadApiServer::with_interceptor(Service(self.workload), require_security_header);
        Server::builder().add_service(service).serve_with_incoming(UnixListenerStream::new(self.listener)).await
    }
}

impl Workload {
    async fn x509_response(&self) -> Result<X509svidResponse, LocalCaError> {
        let issued = self.ca.issue(&self.id).await?;
        let svid = X509svid {
            spiffe_id: self.id.to_string(),
            x509_svid: issued.chain.concat(),
            x509_svid_key: issued.key.der().to_vec(),
            bundle: issued.bundle.concat(),
            hint: String::new(),
        };
        Ok(X509svidResponse { svids: vec![svid], ..Default::default() })
    }
}

impl fmt::Debug for Workload {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Workload").field("id", &self.id).finish_non_exhaustive()
    }
}

fn require_security_header(request: Request<()>) -> Result<Request<()>, Status> {
    let values: Vec<_> = request.metadata().get_all(SECURITY_HEADER).iter().collect();
    match values[..] {
        [value] if value == "true" => Ok(request),
        _ => Err(Status::invalid_argument(format!("the metadata {SECURITY_HEADER}: true is missing"))),
    }
}

fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    let connection = request.extensions().get::<UdsConnectInfo>();
    let credentials = connection.and_then(|connection| connection.peer_cred);
    let credentials = credentials.ok_or_else(|| Status::internal("the kernel does not say who is asking"))?;
    Ok(Caller { pid: credentials.pid(), uid: credentials.uid() })
}

struct Service(Arc<Workload>);

/// Only X.509: this agent has no JWT authority.
fn no_jwt<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("this agent issues no JWT-SVIDs"))
}

#[tonic::async_trait]
impl SpiffeWorkloadApi for Service {
    type FetchX509SVIDStream = Messages<X509svidResponse>;
    type FetchX509BundlesStream = Messages<X509BundlesResponse>;
    type FetchJWTBundlesStream = Messages<JwtBundlesResponse>;

    async fn fetch_x509svid(
        &self,
        request: Request<X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        (self.0.on_fetch)(caller(&request)?);
        let workload = Arc::clone(&self.0);
        let messages = tokio_stream::iter(0_u64..).then(move |sent| {
            let workload = Arc::clone(&workload);
            async move {
                if sent > 0 {
                    tokio::time::sleep(workload.renew_every).await;
                }
                workload.x509_response().await.map_err(|error| Status::unavailable(error.to_string()))
            }
        });
        Ok(Response::new(Box::pin(messages)))
    }

    async fn fetch_x509_bundles(
        &self,
        _: Request<X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        let bundle = self.0.x509_response().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let bundles = bundle.svids.into_iter().map(|svid| (self.0.id.trust_domain().id().to_string(), svid.bundle));
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
