//! A TLS 1.3 server in Java with the PKCS#12 stores of its volume.

use std::process::Command;

use super::tls::Client;
use super::{Program, free_address};
use crate::endpoints::renew_all;
use crate::fixture::{Node, serial, test, until, volume};

const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/node/consumers/Server.java");

#[test]
#[ignore = "needs a JDK: just consumers"]
fn a_server_in_java_loads_both_stores_after_each_renewal() {
    test(async || {
        let node = Node::files(&["--admin-socket={dir}/admin.sock"]).await;
        let stores = [("file-pkcs12", "key.p12"), ("file-pkcs12-bundle", "trust.p12"), ("pkcs12-alias", "user")];
        let web =
            stores.iter().fold(volume("web"), |web, (name, value)| web.attribute(&format!("svid-csi/{name}"), value));
        let (target, other, address) =
            (node.publish(&web).await, node.publish(&volume("client")).await, free_address());
        let mut command = Command::new("java");
        command.arg(SERVER).arg(&target).arg(address.port().to_string());
        let java = Program::start(&node, "java", &mut command);
        let client = Client::with(&other);
        let serves = |serial: &str| {
            let greeted = "hello spiffe://example.org/ns/shop/sa/client";
            client.get(address).is_some_and(|seen| seen.leaf.serial == serial && seen.text.contains(greeted))
        };
        let mut last = serial(&target);
        until("the server serves", async || serves(&last)).await;
        let refused = Client::anonymous(&other).get(address).expect("the server shows its certificate");
        assert!(!refused.text.contains("hello"), "{}", refused.text);
        for _ in 0..3 {
            renew_all(&node).await;
            until("it is renewed", async || serial(&target) != last).await;
            last = serial(&target);
            until("the server serves it", async || serves(&last)).await;
        }
        assert_eq!(java.log(), "");
    });
}
