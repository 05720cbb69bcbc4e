//! Two workloads connect over mutual TLS.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use svid_csi_core::spiffe_id::SpiffeId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::spiffe::svid::Svid;
use crate::spiffe::tls::{self, Bundles, ExpectedPeer, PresentedSvid};

const GREETING: &[u8] = b"hello";

/// A client with one SVID connects to a server with the other over TLS 1.3. Each accepts only the other's SPIFFE ID.
pub(super) async fn meet(client: &Svid, server: &Svid) -> Result<()> {
    let (client_id, server_id) = (client.leaf()?.spiffe_id, server.leaf()?.spiffe_id);
    greet(client, &server_id, server, &client_id).await
}

/// The same, with a client that expects `impostor` instead of the server: it must end the connection.
pub(super) async fn mistrust(client: &Svid, server: &Svid, impostor: &str) -> Result<()> {
    let client_id = client.leaf()?.spiffe_id;
    let outcome = greet(client, impostor, server, &client_id).await;
    ensure!(outcome.is_err(), "a client that expected {impostor} talked to another workload");
    Ok(())
}

async fn greet(client: &Svid, expected_server: &str, server: &Svid, expected_client: &str) -> Result<()> {
    let (own, bundles, expected) = parts(client, expected_server)?;
    let connector = TlsConnector::from(Arc::new(tls::client(own, bundles, expected)?));
    let (own, bundles, expected) = parts(server, expected_client)?;
    let acceptor = TlsAcceptor::from(Arc::new(tls::server(own, bundles, expected)?));
    let (near, far) = UnixStream::pair()?;
    let greets = async {
        let mut stream = connector.connect(tls::no_name(), near).await.context("the client")?;
        stream.write_all(GREETING).await.context("the client")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.context("the client")?;
        ensure!(answer == GREETING, "the client received something else");
        Ok(())
    };
    let answers = async {
        let mut stream = acceptor.accept(far).await.context("the server")?;
        let mut heard = [0; GREETING.len()];
        stream.read_exact(&mut heard).await.context("the server")?;
        stream.write_all(&heard).await.context("the server")?;
        stream.shutdown().await.context("the server")
    };
    tokio::try_join!(greets, answers).map(drop)
}

/// The identity and the roots of one side, and the peer that it expects.
fn parts(own: &Svid, peer: &str) -> Result<(PresentedSvid, Bundles, ExpectedPeer)> {
    let trust_domain = SpiffeId::parse(&own.leaf()?.spiffe_id)?.trust_domain().clone();
    let bundles = Bundles::from([(trust_domain, own.bundle.clone())]);
    let shown = PresentedSvid { chain: own.chain.clone(), key: own.key.clone_key() };
    Ok((shown, bundles, ExpectedPeer::Exactly(SpiffeId::parse(peer)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::tests::issue;

    const A: &str = "spiffe://example.org/a";
    const B: &str = "spiffe://example.org/b";
    const C: &str = "spiffe://example.org/c";

    #[tokio::test]
    async fn each_side_insists_on_the_id_it_expects() {
        let ca = tempfile::tempdir().unwrap();
        let (a, b) = (issue(ca.path(), A).await, issue(ca.path(), B).await);
        greet(&a, B, &b, A).await.unwrap();
        greet(&a, C, &b, A).await.unwrap_err();
        greet(&a, B, &b, C).await.unwrap_err();
    }

    #[tokio::test]
    async fn the_right_id_from_another_authority_is_refused() {
        let (ca, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (a, mut b) = (issue(ca.path(), A).await, issue(other.path(), B).await);
        meet(&a, &b).await.unwrap_err();
        b.bundle.clone_from(&a.bundle);
        meet(&a, &b).await.unwrap_err();
    }
}
