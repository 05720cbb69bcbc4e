//! Notifications to systemd.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use crate::fixture::{FILES, Node, test, until, volume};

const WATCHDOG: Duration = Duration::from_millis(200);

fn node() -> Node {
    Node::new(&[FILES, &["--data-root={dir}/root", "--trust-domain=example.org"]])
}

/// All notifications so far.
fn notifications(socket: &UnixDatagram) -> Vec<String> {
    socket.set_nonblocking(true).unwrap();
    let mut buffer = [0; 4096];
    let one = || socket.recv(&mut buffer).ok().map(|length| String::from_utf8(buffer[..length].to_vec()).unwrap());
    std::iter::from_fn(one).collect()
}

#[test]
fn ready_is_sent_once_the_kubelet_is_answered_and_stopping_before_the_end() {
    test(async || {
        let mut node = node();
        let socket = UnixDatagram::bind(node.path("notify")).unwrap();
        let path = node.path("notify");
        node.variable("NOTIFY_SOCKET", path.to_str().unwrap());
        node.spawn();
        let mut before = Vec::new();
        until("the service manager is notified", async || {
            before = notifications(&socket);
            !before.is_empty()
        })
        .await;
        assert_eq!(before, ["READY=1\nSTATUS=serving demo.svid-csi on node n1"]);
        node.publish(&volume("web")).await;
        assert_eq!(notifications(&socket), Vec::<String>::new(), "no watchdog was requested");
        node.terminate().await;
        assert_eq!(notifications(&socket), ["STOPPING=1\nSTATUS=stopping; volumes stay mounted"]);
    });
}

#[test]
fn the_watchdog_on_an_abstract_socket_is_fed_only_while_the_driver_runs() {
    test(async || {
        let mut node = node();
        let name = format!("svid-csi-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        node.variable("NOTIFY_SOCKET", &format!("@{name}"));
        node.variable("WATCHDOG_USEC", &WATCHDOG.as_micros().to_string());
        let started = Instant::now();
        node.start().await;
        let mut beats = 0;
        until("it was fed ten times", async || {
            beats += notifications(&socket).iter().filter(|state| *state == "WATCHDOG=1").count();
            beats >= 10
        })
        .await;
        assert!(started.elapsed() >= WATCHDOG * 4, "ten times at half the time, the first at once");

        let pid = node.pid().to_string();
        crate::fixture::run("kill", &["-STOP", &pid]);
        let state = || std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        until("it is stopped", async || state().contains("T (stopped)")).await;
        notifications(&socket);
        tokio::time::sleep(WATCHDOG * 3).await;
        assert_eq!(notifications(&socket), Vec::<String>::new(), "a stopped process is not alive");
        crate::fixture::run("kill", &["-CONT", &pid]);
    });
}

#[test]
fn a_missing_socket_does_not_stop_the_driver() {
    test(async || {
        let mut node = node();
        node.variable("NOTIFY_SOCKET", "/nowhere/notify");
        node.start().await;
        node.publish(&volume("web")).await;
        assert!(node.log().contains("cannot write to NOTIFY_SOCKET"), "{}", node.log());
    });
}
