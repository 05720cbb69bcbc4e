//! A connection to the broker: HTTP/2 over mutual TLS, over a Unix socket or TCP.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::PrivatePkcs8KeyDer;
use svid_csi_core::spiffe_id::SpiffeId;
use svid_csi_core::x509_context::X509Context;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::body::Body;

use super::config::BrokerEndpoint;
use super::own_svid::CurrentSvid;
use crate::net::unix_channel;
use crate::spiffe::tls::{self, Bundles, ExpectedPeer};
use crate::tasks::{Looks, Tasks};
use crate::telemetry::report;

/// How long establishing a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// The interval of keep-alive pings. gRPC servers in Go disconnect clients that ping more often than every five
/// minutes.
const STILL_THERE: Duration = Duration::from_secs(330);
/// The path of agents' IDs (SPIRE's convention), unless the administrator names an ID.
const AGENTS: &str = "/spire/agent/";

/// The address, and the expected server.
#[derive(Debug, Clone)]
pub(super) struct BrokerServer {
    pub(super) endpoint: BrokerEndpoint,
    pub(super) looks: Looks,
    pub(super) server_id: Option<SpiffeId>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("nothing is listening on {0}")]
    Dial(BrokerEndpoint, #[source] io::Error),
    #[error("{endpoint} does not answer within {} seconds", CONNECT.as_secs())]
    Slow { endpoint: BrokerEndpoint },
    #[error("the driver's own identity cannot be used for TLS")]
    Own(#[source] rustls::Error),
    #[error("cannot establish a secure connection to {0}")]
    Tls(BrokerEndpoint, #[source] io::Error),
    #[error("{0} does not speak HTTP/2")]
    Http(BrokerEndpoint, #[source] hyper::Error),
}

/// The stream under a connection.
trait Raw: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Raw for T {}

/// A connection, shared by all calls.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    send: SendRequest<Body>,
    /// The identity that the driver presented on it.
    pub(super) own: CurrentSvid,
    /// Counts connections, so that a newer one is recognised.
    pub(super) generation: u64,
    /// Counts the times all connections were lost.
    pub(super) era: u64,
    marks: Arc<Marks>,
}

#[derive(Debug, Default)]
struct Marks {
    over: watch::Sender<Option<String>>,
    proved: AtomicBool,
    unauthenticated: AtomicBool,
}

impl BrokerServer {
    /// Connects.
    pub(super) async fn connect(
        &self,
        own: CurrentSvid,
        (generation, era): (u64, u64),
        tasks: &Tasks,
    ) -> Result<Connection, ConnectError> {
        let made = tokio::time::timeout(CONNECT, async {
            let secured = self.secured(&own.context).await?;
            let made = Connection::over_stream(secured, own, (generation, era), tasks).await;
            made.map_err(|error| ConnectError::Http(self.endpoint.clone(), error))
        });
        made.await.map_err(|_| ConnectError::Slow { endpoint: self.endpoint.clone() })?
    }

    async fn secured(&self, own: &X509Context) -> Result<TlsStream<Box<dyn Raw>>, ConnectError> {
        let mut config = tls::client(shown(own), bundles(own), self.expected(own)).map_err(ConnectError::Own)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        let endpoint = || self.endpoint.clone();
        let raw = self.dial().await.map_err(|error| ConnectError::Dial(endpoint(), error))?;
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(tls::no_name(), raw).await.map_err(|error| ConnectError::Tls(endpoint(), error))
    }

    async fn dial(&self) -> io::Result<Box<dyn Raw>> {
        match &self.endpoint {
            BrokerEndpoint::Unix(path) => Ok(Box::new(unix_channel::open_by(&self.looks, path.clone()).await?)),
            BrokerEndpoint::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
        }
    }

    fn expected(&self, own: &X509Context) -> ExpectedPeer {
        match &self.server_id {
            Some(id) => ExpectedPeer::Exactly(id.clone()),
            None => ExpectedPeer::Below(own.trust_domain().clone(), AGENTS),
        }
    }
}

fn shown(own: &X509Context) -> tls::PresentedSvid {
    let svid = own.default_svid();
    let key = PrivatePkcs8KeyDer::from(svid.key().der().to_vec());
    tls::PresentedSvid { chain: svid.chain().to_vec(), key: key.into() }
}

/// Each trust domain has its own, so that no peer is verified with the bundle of another trust domain.
fn bundles(own: &X509Context) -> Bundles {
    own.bundles().map(|(trust_domain, bundle)| (trust_domain.clone(), bundle.to_vec())).collect()
}

impl Connection {
    /// Speaks HTTP/2 over a stream, and drives the connection as long as it is used.
    pub(super) async fn over_stream(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        own: CurrentSvid,
        (generation, era): (u64, u64),
        tasks: &Tasks,
    ) -> hyper::Result<Self> {
        let mut http = Builder::new(TokioExecutor::new());
        http.timer(TokioTimer::new()).keep_alive_interval(STILL_THERE);
        let (send, connection) = http.handshake(TokioIo::new(stream)).await?;
        let marks = Arc::<Marks>::default();
        let driven = marks.clone();
        tasks.detached(async move {
            let why = match connection.await {
                Ok(()) => "the agent has closed the connection".to_owned(),
                Err(error) => format!("the connection broke: {}", report::one_line(&report::chain(&error))),
            };
            driven.over.send_if_modified(|over| over.is_none().then(|| *over = Some(why)).is_some());
        });
        Ok(Self { send, own, generation, era, marks })
    }

    /// Waits until it can no longer be used, and returns the reason.
    pub(super) async fn over(&self) -> String {
        let mut over = self.marks.over.subscribe();
        // The sender is in `self`.
        over.wait_for(Option::is_some).await.ok().and_then(|why| why.clone()).unwrap_or_default()
    }

    /// Records that the agent has answered a call on it.
    pub(super) fn prove(&self) {
        self.marks.proved.store(true, Ordering::Relaxed);
    }

    /// Whether the agent has answered a call on it.
    pub(super) fn is_proved(&self) -> bool {
        self.marks.proved.load(Ordering::Relaxed)
    }

    /// Records that the agent does not accept the driver's identity, so that this connection cannot be used for any
    /// call.
    pub(super) fn refuse(&self, why: &str) {
        self.marks.unauthenticated.store(true, Ordering::Relaxed);
        self.marks.over.send_replace(Some(format!("the agent does not accept the driver's own identity: {why}")));
    }

    /// Whether the agent does not accept the driver's identity.
    pub(super) fn is_refused(&self) -> bool {
        self.marks.unauthenticated.load(Ordering::Relaxed)
    }
}

impl tower::Service<http::Request<Body>> for Connection {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = hyper::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.send.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.send.send_request(request))
    }
}
