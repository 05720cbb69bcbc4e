//! Connections to the Broker API: mutual TLS over a Unix or a TCP socket.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::authority::{Authority, Server};
use super::world::World;

/// The accepted socket.
pub(super) trait Raw: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Raw for T {}

/// The peer at the other end.
#[derive(Debug, Clone, Default)]
pub(super) struct Caller {
    pub(super) spiffe_id: String,
    pub(super) connection: usize,
}

/// A connection of a broker, counted as long as it is open.
pub(super) struct Connection {
    stream: TlsStream<Box<dyn Raw>>,
    caller: Caller,
    _open: Open,
}

struct Open(Arc<World>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.change(|state| state.connections.now -= 1);
    }
}

/// Shakes hands with an admitted broker, and with no other client; not at all if the agent is to misbehave.
pub(super) async fn accept(world: Arc<World>, raw: Box<dyn Raw>) -> Option<Connection> {
    let (server, config) = world.look(|state| (state.server, config(&state.authority, state.server)));
    if server == Server::Hangs {
        return std::future::pending().await;
    }
    let mut stream = TlsAcceptor::from(config).accept(raw).await.ok()?;
    if server == Server::Garbage {
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.ok()?;
        return std::future::pending().await;
    }
    let spiffe_id = only_uri(stream.get_ref().1.peer_certificates()?.first()?)?;
    let connection = world.change(|state| {
        state.brokers.contains(&spiffe_id).then(|| {
            state.connections.now += 1;
            state.connections.ever += 1;
            state.connections.ever
        })
    })?;
    Some(Connection { stream, caller: Caller { spiffe_id, connection }, _open: Open(world) })
}

fn config(authority: &Authority, server: Server) -> Arc<ServerConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    for root in authority.roots() {
        roots.add(CertificateDer::from(root)).expect("a root");
    }
    let brokers = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let svid = authority.server_svid(server);
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(svid.key));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(brokers.build().expect("a verifier"))
        .with_single_cert(split(&svid.chain), key)
        .expect("a certificate and its key");
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

fn split(mut der: &[u8]) -> Vec<CertificateDer<'static>> {
    let mut certificates = Vec::new();
    while let Ok((rest, _)) = X509Certificate::from_der(der) {
        certificates.push(CertificateDer::from(der[..der.len() - rest.len()].to_vec()));
        der = rest;
    }
    certificates
}

fn only_uri(der: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    })
}

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
