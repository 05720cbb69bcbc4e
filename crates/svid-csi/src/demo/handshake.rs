//! Two workloads connect over mutual TLS.

use anyhow::{Result, ensure};

use crate::spiffe::handshake::greet;
use crate::spiffe::svid::Svid;

/// A client with one SVID connects to a server with the other over TLS 1.3. Each accepts only the other's SPIFFE ID.
pub(super) async fn meet(client: &Svid, server: &Svid) -> Result<()> {
    let (client_id, server_id) = (client.leaf()?.spiffe_id, server.leaf()?.spiffe_id);
    Ok(greet(client, &server_id, server, &client_id).await?)
}

/// The same, with a client that expects `impostor` instead of the server: it must end the connection.
pub(super) async fn mistrust(client: &Svid, server: &Svid, impostor: &str) -> Result<()> {
    let client_id = client.leaf()?.spiffe_id;
    let outcome = greet(client, impostor, server, &client_id).await;
    ensure!(outcome.is_err(), "a client that expected {impostor} talked to another workload");
    Ok(())
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
        let (a, b) = (issue(ca.path(), A), issue(ca.path(), B));
        greet(&a, B, &b, A).await.unwrap();
        greet(&a, C, &b, A).await.unwrap_err();
        greet(&a, B, &b, C).await.unwrap_err();
    }

    #[tokio::test]
    async fn the_right_id_from_another_authority_is_refused() {
        let (ca, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (a, mut b) = (issue(ca.path(), A), issue(other.path(), B));
        meet(&a, &b).await.unwrap_err();
        b.bundle.clone_from(&a.bundle);
        meet(&a, &b).await.unwrap_err();
    }
}
