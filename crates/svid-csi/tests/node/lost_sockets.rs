//! The CSI and registration sockets are deleted or replaced while the driver runs: by a cleanup of the node, a
//! reinstalled kubelet, or an older driver that ends.

use std::fs;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use crate::endpoints::{metric, tcp};
use crate::fixture::{FILES, Node, test, until, volume};

const WITHIN: Duration = Duration::from_secs(30);
const NAME: &str = "demo.svid-csi";

async fn registered() -> Node {
    let mut node = Node::new(&[
        FILES,
        &["--data-root={dir}/root", "--trust-domain=example.org", "--metrics-address=127.0.0.1:0"],
        &["--kubelet-registration-dir={dir}/kubelet/plugins_registry", "--endpoint={dir}/plugin/csi.sock"],
        &["--kubelet-registration-path={dir}/plugin/csi.sock"],
    ]);
    node.spawn();
    register(&node).await;
    node
}

/// The kubelet accepts the driver, and publishes through the socket that it announces; again if its registration socket
/// is re-created in the meantime, as a real kubelet does.
async fn register(node: &Node) {
    until("the driver is registered and alive", async || {
        let Ok(plugin) = node.kubelet.register(NAME, WITHIN).await else { return false };
        let published = node.kubelet.publish(&plugin, &volume("web")).await;
        published.is_ok() && is_registered(node).await && is_alive(node).await
    })
    .await;
}

async fn is_registered(node: &Node) -> bool {
    metric(node, "registered").await == Some(1.0)
}

async fn is_alive(node: &Node) -> bool {
    tcp(node, "/livez").await.starts_with("HTTP/1.1 200")
}

/// The kubelet does not return to a socket that it knows; the driver's is a new one.
async fn lost(node: &Node) {
    until("the driver notices", async || !is_registered(node).await).await;
    register(node).await;
}

#[test]
fn a_deleted_csi_socket_is_bound_and_registered_again() {
    test(async || {
        let node = registered().await;
        fs::remove_file(node.path("plugin/csi.sock")).unwrap();
        lost(&node).await;
        fs::remove_dir_all(node.path("plugin")).unwrap();
        lost(&node).await;
    });
}

#[test]
fn a_deleted_registration_socket_is_bound_again() {
    test(async || {
        let node = registered().await;
        fs::remove_file(node.kubelet.registration_dir().join(format!("{NAME}-reg.sock"))).unwrap();
        lost(&node).await;
        fs::remove_dir_all(node.kubelet.registration_dir()).unwrap();
        lost(&node).await;
    });
}

#[test]
fn a_replaced_socket_is_bound_again_as_soon_as_possible() {
    test(async || {
        let node = registered().await;
        let socket = node.path("plugin/csi.sock");
        // A socket of a driver that has ended.
        fs::remove_file(&socket).unwrap();
        drop(UnixListener::bind(&socket).unwrap());
        lost(&node).await;
        // A socket of another running driver, and then a file.
        let other = node.path("plugin/other.sock");
        let _running = UnixListener::bind(&other).unwrap();
        fs::rename(&other, &socket).unwrap();
        until("it is not alive", async || !is_alive(&node).await).await;
        assert!(tcp(&node, "/livez").await.contains("csi.sock was deleted or replaced"));
        fs::remove_file(&socket).unwrap();
        fs::write(&socket, "precious").unwrap();
        until("it says why", async || node.log().contains("a file that is not a socket is already there")).await;
        assert!(!is_alive(&node).await);
        assert_eq!(fs::read_to_string(&socket).unwrap(), "precious");
        fs::remove_file(&socket).unwrap();
        register(&node).await;
    });
}
