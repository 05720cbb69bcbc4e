//! Two ghostunnels, each with the socket of its pod, between a program and its peer.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::tls::Client;
use super::{Program, built, free_address};
use crate::endpoints::renew_all;
use crate::fixture::{Node, serial, test, until, volume};
use crate::workload_api::node_with;

const WEB: &str = "spiffe://example.org/ns/shop/sa/web";
const CART: &str = "spiffe://example.org/ns/shop/sa/cart";

/// Sends every line back.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
        }
    });
    address
}

/// A connection of the program to its own ghostunnel.
struct Conversation(BufReader<TcpStream>);

impl Conversation {
    fn open(address: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Some(Self(BufReader::new(stream)))
    }

    /// Whether the other end sends the line back.
    fn echoes(&mut self, text: &str) -> bool {
        let mut answer = String::new();
        let sent = self.0.get_mut().write_all(format!("{text}\n").as_bytes());
        sent.is_ok() && self.0.read_line(&mut answer).is_ok() && answer.trim_end() == text
    }
}

fn start(node: &Node, name: &str, program: &Path, socket: &Path, words: &[&str]) -> Program {
    let mut command = Command::new(program);
    command.args(words).arg("--use-workload-api-addr").arg(format!("unix://{}", socket.display()));
    Program::start(node, name, &mut command)
}

#[test]
#[ignore = "needs Go: just consumers"]
fn ghostunnels_on_both_sides_follow_rotations_and_keep_connections() {
    test(async || {
        let node = node_with(&["--allow-plan=local-ca:files"]).await;
        let program = built(&node, "ghostunnel");
        let socket = async |pod: &str| node.publish(&volume(pod)).await.join("agent.sock");
        let (web, cart, stranger) = (socket("web").await, socket("cart").await, socket("stranger").await);
        let files = node.publish(&volume("cart-files").attribute("svid-csi/delivery", "files")).await;
        let (echo, tls, plain, refused) = (echo(), free_address(), free_address(), free_address());
        let [echo, listen, plain_text, refused_text] = [echo, tls, plain, refused].map(|address| address.to_string());
        let server = ["server", "--listen", &listen, "--target", &echo, "--allow-uri", CART];
        let of_web = start(&node, "server", &program, &web, &server);
        let client = ["client", "--listen", &plain_text, "--target", &listen, "--verify-uri", WEB];
        let of_cart = start(&node, "client", &program, &cart, &client);
        let client = ["client", "--listen", &refused_text, "--target", &listen, "--verify-uri", WEB];
        let _of_stranger = start(&node, "stranger", &program, &stranger, &client);

        let passes = |address| Conversation::open(address).is_some_and(|mut through| through.echoes("hello"));
        until("the programs are connected", async || passes(plain)).await;
        let mut open = Conversation::open(plain).unwrap();
        assert!(open.echoes("first"));
        until("the stranger's ghostunnel listens", async || Conversation::open(refused).is_some()).await;
        assert!(!passes(refused), "another pod is not let through");

        let observer = Client::with(&files);
        let shown = || observer.get(tls).map(|seen| seen.leaf.serial);
        for round in 0..3 {
            let (before, own) = (shown().expect("a certificate"), serial(&files));
            renew_all(&node).await;
            until("every pod is renewed", async || serial(&files) != own).await;
            until("the server has its next certificate", async || shown().is_some_and(|now| now != before)).await;
            assert!(passes(plain), "in round {round}: {}\n{}", of_web.log(), of_cart.log());
            assert!(open.echoes("still"), "the connection of before has ended in round {round}");
        }
    });
}
