//! The client library for Rust programs, which reconnects by itself.

use std::path::Path;
use std::time::Duration;

use spiffe::{JwtSource, JwtSvid, WorkloadApiClient, X509Source, X509Svid};
use svid_csi::spiffe::svid::Leaf;

use super::node;
use crate::endpoints::renew_all;
use crate::fixture::{Node, test, until, volume};

const LIMIT: Duration = Duration::from_secs(120);
const WEB: &str = "spiffe://example.org/ns/shop/sa/web";

fn endpoint(socket: &Path) -> String {
    format!("unix://{}", socket.display())
}

fn serial(svid: &X509Svid) -> String {
    Leaf::read(svid.cert_chain()[0].as_bytes()).unwrap().serial
}

/// A program that follows its X.509-SVID.
struct Program(X509Source);

impl Program {
    async fn start(socket: &Path) -> Self {
        let source = X509Source::builder().endpoint(endpoint(socket)).build();
        Self(tokio::time::timeout(LIMIT, source).await.expect("an SVID in time").unwrap())
    }

    /// Its SVID's serial number, once that has changed.
    async fn serial_after(&self, last: &str) -> String {
        let mut updates = self.0.updated();
        let changed = async {
            loop {
                let serial = serial(&self.0.svid().unwrap());
                if serial != last {
                    return serial;
                }
                updates.changed().await.unwrap();
            }
        };
        tokio::time::timeout(LIMIT, changed).await.expect("an update in time")
    }
}

#[test]
fn a_program_follows_rotations_through_restarts_of_the_driver() {
    test(async || {
        let mut node = node().await;
        let program = Program::start(&node.publish(&volume("web")).await.join("agent.sock")).await;
        let svid = program.0.svid().unwrap();
        assert_eq!(svid.spiffe_id().to_string(), WEB);
        assert!(program.0.try_bundle_for_trust_domain(svid.spiffe_id().trust_domain()).is_some());
        renew_all(&node).await;
        let second = program.serial_after(&serial(&svid)).await;
        node.kill();
        node.start().await;
        renew_all(&node).await;
        let third = program.serial_after(&second).await;
        node.terminate().await;
        node.start().await;
        renew_all(&node).await;
        program.serial_after(&third).await;
        assert!(program.0.is_healthy());
        program.0.shutdown().await;
    });
}

async fn tokens(node: &Node) -> (JwtSource, WorkloadApiClient) {
    let endpoint = endpoint(&node.publish(&volume("web")).await.join("agent.sock"));
    let source = JwtSource::builder().endpoint(&endpoint).build();
    let source = tokio::time::timeout(LIMIT, source).await.expect("bundles in time").unwrap();
    (source, WorkloadApiClient::connect_to(endpoint).await.unwrap())
}

#[test]
fn a_program_validates_tokens_itself_and_with_the_driver() {
    test(async || {
        let mut node = node().await;
        let (source, client) = tokens(&node).await;
        let token = source.fetch_jwt_svid(["vault"]).await.unwrap();
        assert_eq!((token.spiffe_id().to_string().as_str(), token.audience()), (WEB, &["vault".to_owned()][..]));
        JwtSvid::parse_and_validate(token.token(), &source, &["vault"]).unwrap();
        JwtSvid::parse_and_validate(token.token(), &source, &["db"]).unwrap_err();
        assert_eq!(client.validate_jwt_token("vault", token.token()).await.unwrap().spiffe_id(), token.spiffe_id());
        client.validate_jwt_token("db", token.token()).await.unwrap_err();

        node.kill();
        node.start().await;
        until("the socket is served again", async || source.fetch_jwt_svid(["vault"]).await.is_ok()).await;
        let after = source.fetch_jwt_svid(["vault"]).await.unwrap();
        JwtSvid::parse_and_validate(after.token(), &source, &["vault"]).unwrap();
        let old = JwtSvid::parse_and_validate(token.token(), &source, &["vault"]);
        old.expect("tokens of before are still good");
        source.shutdown().await;
    });
}
