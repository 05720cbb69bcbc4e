//! A server on Node.js that watches its files.

use std::fs;
use std::process::Command;

use super::tls::Client;
use super::{Program, example, free_address};
use crate::endpoints::renew_all;
use crate::fixture::{Node, serial, test, until, volume};

#[test]
#[ignore = "needs Node.js: just consumers"]
fn a_server_on_node_js_follows_its_files_and_knows_its_clients() {
    test(async || {
        let node = Node::files(&["--admin-socket={dir}/admin.sock"]).await;
        let (target, address) = (node.publish(&volume("web")).await, free_address());
        let [cart, stranger] = ["cart", "stranger"];
        let (cart, stranger) = (node.publish(&volume(cart)).await, node.publish(&volume(stranger)).await);
        let script = node.path("server.js");
        fs::write(&script, example("js", "createServer", &target).replace("8443", &address.port().to_string()))
            .unwrap();
        let program = Program::start(&node, "node", Command::new("node").arg(&script));
        let client = Client::with(&cart);
        let serves = |serial: &str| {
            client.get(address).is_some_and(|seen| seen.leaf.serial == serial && seen.text.contains(" 200 OK"))
        };
        let mut last = serial(&target);
        until("the server serves", async || serves(&last)).await;
        for (other, response) in [(Client::with(&stranger), Some(" 403 ")), (Client::anonymous(&cart), None)] {
            let seen = other.get(address).expect("the server shows its certificate");
            match response {
                Some(expected) => assert!(seen.text.contains(expected), "{}", seen.text),
                None => assert!(!seen.text.contains("HTTP/1.1"), "{}", seen.text),
            }
        }
        for _ in 0..3 {
            renew_all(&node).await;
            until("it is renewed", async || serial(&target) != last).await;
            last = serial(&target);
            until("the server serves it", async || serves(&last)).await;
        }
        assert_eq!(program.log(), "");
    });
}
