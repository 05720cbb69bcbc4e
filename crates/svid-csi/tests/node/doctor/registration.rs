//! The kubelet and the driver's sockets.

use std::fs;
use std::os::unix::net::UnixListener;
use std::process::Command;

use super::{command, doctor, finds, healthy, hide, ids, open_to_all, output};
use crate::fixture::{FILES, Node, run, test};

const DATA: &[&str] = &["--data-root={dir}/root", "--trust-domain=example.org", "--kubelet-dir={dir}/kubelet"];

#[test]
fn a_healthy_node_shows_nothing() {
    test(async || {
        let node = healthy(&[]).await;
        assert!(ids(&node).is_empty(), "{}", doctor(&node, &[]).1);
        let (code, answer) = doctor(&node, &["--category=registration", "--category=identity"]);
        assert_eq!(code, 0, "{answer}");
        assert_eq!(answer["node"], "n1");
        let (code, text) = output(&mut command(&node, &["--category=driver"]));
        assert!(code == 0 && text.starts_with("node n1: nothing is wrong\n"), "{text}");
        // From another mount namespace, in which nothing of the driver is mounted.
        let mut elsewhere = Command::new("unshare");
        let data = node.path("root/data").display().to_string();
        elsewhere.args(["--mount", "--propagation", "private", "sh", "-c"]);
        elsewhere.arg(format!(
            "umount -l {data} && exec \"$0\" doctor --output=short --data-root {}",
            node.path("root").display()
        ));
        let (_, text) = output(elsewhere.arg(env!("CARGO_BIN_EXE_svid-csi")));
        assert!(text.lines().all(|line| super::OF_NAMESPACE.iter().any(|id| line.contains(id))), "{text}");
    });
}

#[test]
fn a_driver_that_the_kubelet_does_not_know() {
    test(async || {
        let flags =
            ["--kubelet-registration-dir={dir}/kubelet/plugins_registry", "--kubelet-registration-path={dir}/csi.sock"];
        let mut node = Node::new(&[FILES, DATA, &flags]);
        node.start().await;
        finds(&node, &["not-registered"]).await;
        let (code, text) = output(&mut command(&node, &["--wait=1s", "--output=short"]));
        assert!(code == 2 && text.contains("fault not-registered demo.svid-csi: the kubelet has not"), "{text}");
        node.kubelet.register("demo.svid-csi", std::time::Duration::from_secs(60)).await.unwrap();
        let (code, text) = output(&mut command(&node, &["--wait=60s", "--category=registration"]));
        assert_eq!(code, 0, "{text}");
    });
}

#[test]
fn a_path_that_leads_nowhere_or_to_another_driver() {
    test(async || {
        for (path, expected) in
            [("run/none.sock", "registration-path-wrong"), ("spiffe.sock", "registration-path-other-driver")]
        {
            let own = format!("--kubelet-registration-path={{dir}}/{path}");
            let also = "--also-profile=csi.spiffe.io:csi-socket={dir}/spiffe.sock,registration-path={dir}/spiffe.sock";
            let agent = "-workload-api-socket-dir={dir}/run/agent";
            let registry = "--kubelet-registration-dir={dir}/kubelet/plugins_registry";
            let mut node = Node::new(&[FILES, DATA, &[registry, also, agent, &own]]);
            let _agent = node.agent();
            open_to_all(&node.path("run/agent/agent.sock"));
            node.start().await;
            finds(&node, &["not-registered", expected]).await;
        }
    });
}

#[test]
fn sockets_that_are_hidden() {
    test(async || {
        let node = healthy(&[]).await;
        hide(&node.path("plugin"));
        let found = ids(&node);
        assert!(found.contains("csi-socket-unreachable") && found.contains("registration-path-wrong"), "{found:?}");
        super::unmount(&node.path("plugin"));
        hide(&node.kubelet.registration_dir());
        let found = ids(&node);
        assert!(found.contains("registration-socket-unreachable"), "{found:?}");
    });
}

#[test]
fn sockets_of_others() {
    test(async || {
        let node = healthy(&[]).await;
        let registry = node.kubelet.registration_dir();
        let (own, second) = (registry.join("demo.svid-csi-reg.sock"), registry.join("second.sock"));
        fs::hard_link(&own, &second).unwrap();
        finds(&node, &["two-drivers-one-name"]).await;
        fs::remove_file(second).unwrap();
        drop(UnixListener::bind(registry.join("a 'quoted'\n\x1b[31m.sock")).unwrap());
        finds(&node, &["registration-socket-stale"]).await;
        let (_, text) = output(&mut command(&node, &["--category=registration"]));
        assert!(text.contains("\\n\\u{1b}[31m.sock") && !text.contains('\x1b'), "{text}");
        let (_, answer) = doctor(&node, &[]);
        let finding = super::found(&answer).find(|finding| finding["id"] == "registration-socket-stale").unwrap();
        run("sh", &["-c", &super::text(finding, "fix")]);
        finds(&node, &[]).await;
    });
}
