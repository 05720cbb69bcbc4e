//! Descriptors of the driver: pods get a part of them.

use std::fs;

use svid_csi::demo::kubelet::InlineVolume;
use svid_csi_testkit::pod;
use tokio::net::{TcpStream, UnixStream};
use tonic::Code;

use crate::endpoints::{address, metric, renew_all};
use crate::fixture::{Node, serial, test, until, volume};
use crate::workload_api::client::Svids;
use crate::workload_api::{ROOT, SOCKETS};

const LIMIT: u32 = 120;
const METRICS: &[&str] = &["--metrics-address=127.0.0.1:0", "--allow-plan=local-ca:files"];

fn open_descriptors(node: &Node) -> usize {
    fs::read_dir(format!("/proc/{}/fd", node.pid())).unwrap().count()
}

/// A node of that many descriptors.
async fn node() -> Node {
    let mut node = Node::new(&[SOCKETS, ROOT, METRICS]);
    node.limit_descriptors(LIMIT);
    node.start().await;
    node
}

fn with_files(name: &str) -> InlineVolume {
    volume(name).attribute("svid-csi/delivery", "files")
}

/// Everything the kubelet and an administrator ask for.
async fn all_is_well(node: &Node, name: &str) {
    let volume = with_files(name);
    let target = node.publish(&volume).await;
    let first = serial(&target);
    renew_all(node).await;
    until("it is renewed", async || serial(&target) != first).await;
    assert_eq!(node.trouble(&volume).await, None);
    node.unpublish(&volume).await;
}

#[test]
#[ignore = "takes all processor time for seconds: just leaks"]
fn pods_leave_descriptors_to_the_kubelet() {
    test(async || {
        let node = node().await;
        let at_first = open_descriptors(&node);
        let mut sockets = Vec::new();
        // Until no pod gets another socket.
        let refused = loop {
            let volume = InlineVolume::new(&pod(&format!("hostile-{}", sockets.len())), "spiffe");
            match node.kubelet.publish(&node.plugin().await, &volume).await {
                Ok(target) => sockets.push((volume, target.join("agent.sock"))),
                Err(error) => break error,
            }
        };
        assert_eq!(refused.code(), Some(Code::ResourceExhausted), "{refused}");
        assert!(refused.to_string().contains("the limit for sockets"), "{refused}");
        assert!(sockets.len() >= 10, "{}", sockets.len());

        let mut silent = Vec::new();
        for _ in 0..20 {
            for (_, socket) in &sockets {
                silent.extend(UnixStream::connect(socket).await);
            }
        }
        let mut on_tcp = Vec::new();
        for _ in 0..100 {
            on_tcp.extend(TcpStream::connect(address(&node)).await);
        }
        all_is_well(&node, "beside").await;
        let open = open_descriptors(&node);
        assert!(open < usize::try_from(LIMIT).unwrap(), "{open}");
        assert!(!node.log().contains("cannot accept connections"), "{}", node.log());
        let refused = Svids::open(&sockets[0].1).await.map(drop).unwrap_err();
        println!("{at_first} descriptors at first, {open} of {LIMIT} with {} sockets; {refused}", sockets.len());

        drop((silent, on_tcp));
        for (volume, _) in &sockets {
            node.unpublish(volume).await;
        }
        until("all are closed", async || open_descriptors(&node) <= at_first + 2).await;
        assert_eq!(metric(&node, "workload_api_connections").await, Some(0.0));
        node.publish(&sockets[0].0).await;
    });
}
