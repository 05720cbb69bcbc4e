//! A mutual TLS handshake of two workloads in one process.

use std::io;
use std::sync::Arc;

use svid_csi_core::spiffe_id::{SpiffeId, SpiffeIdError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::svid::{Svid, SvidError};
use super::tls::{self, Bundles, ExpectedPeer, PresentedSvid};

const GREETING: &[u8] = b"hello";

/// Why two workloads cannot connect.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    /// An SVID cannot be used.
    #[error(transparent)]
    Svid(#[from] SvidError),
    /// An SVID has no SPIFFE ID.
    #[error(transparent)]
    Id(#[from] SpiffeIdError),
    /// TLS cannot use a chain and its key.
    #[error("TLS cannot use the identity")]
    Unusable(#[from] rustls::Error),
    /// The system has no sockets for it.
    #[error("the system refuses a pair of sockets")]
    NoSockets(#[source] io::Error),
    /// One side ended the connection.
    #[error("the {side} ends the connection")]
    Ended {
        /// The side that gives the reason.
        side: &'static str,
        /// The reason.
        #[source]
        source: io::Error,
    },
}

/// A client connects to a server over TLS 1.3 and is answered. Each accepts only the SPIFFE ID that it expects.
///
/// # Errors
/// [`HandshakeError`], of the side that refuses the other.
pub(crate) async fn greet(
    client: &Svid,
    expected_server: &str,
    server: &Svid,
    expected_client: &str,
) -> Result<(), HandshakeError> {
    let (own, bundles, expected) = parts(client, expected_server)?;
    let connector = TlsConnector::from(Arc::new(tls::client(own, bundles, expected)?));
    let (own, bundles, expected) = parts(server, expected_client)?;
    let acceptor = TlsAcceptor::from(Arc::new(tls::server(own, bundles, expected)?));
    let (near, far) = UnixStream::pair().map_err(HandshakeError::NoSockets)?;
    let greets = async {
        let mut stream = connector.connect(tls::no_name(), near).await?;
        stream.write_all(GREETING).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        if answer == GREETING { Ok(()) } else { Err(io::Error::other("the answer is a different one")) }
    };
    let answers = async {
        let mut stream = acceptor.accept(far).await?;
        let mut heard = [0; GREETING.len()];
        stream.read_exact(&mut heard).await?;
        stream.write_all(&heard).await?;
        stream.shutdown().await
    };
    let (client, server) = tokio::join!(greets, answers);
    match (client, server) {
        (Ok(()), Ok(())) => Ok(()),
        (Err(source), _) if has_refused(&source) => Err(HandshakeError::Ended { side: "client", source }),
        // The client only reports that the connection has ended.
        (_, Err(source)) => Err(HandshakeError::Ended { side: "server", source }),
        (Err(source), Ok(())) => Err(HandshakeError::Ended { side: "client", source }),
    }
}

fn has_refused(error: &io::Error) -> bool {
    let reason = error.get_ref().and_then(|reason| reason.downcast_ref::<rustls::Error>());
    reason.is_some_and(|reason| !matches!(reason, rustls::Error::AlertReceived(_)))
}

/// The identity and the roots of one side, and the peer that it expects.
fn parts(own: &Svid, peer: &str) -> Result<(PresentedSvid, Bundles, ExpectedPeer), HandshakeError> {
    let trust_domain = SpiffeId::parse(&own.leaf()?.spiffe_id)?.trust_domain().clone();
    let bundles = Bundles::from([(trust_domain, own.bundle.clone())]);
    let presented = PresentedSvid { chain: own.chain.clone(), key: own.key.clone_key() };
    Ok((presented, bundles, ExpectedPeer::Exactly(SpiffeId::parse(peer)?)))
}
