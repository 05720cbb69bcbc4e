//! `svid-csi renew` against a running driver.

use std::path::Path;
use std::process::Command;

use crate::fixture::{Node, serial, test, until, volume};

/// The exit code, stdout and stderr.
fn renew(node: &Node, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_svid-csi"));
    command.args(["renew", "--data-root"]).arg(node.path("root")).args(args);
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn said(text: &str) -> (Option<i32>, String, String) {
    (Some(0), text.to_owned(), String::new())
}

async fn changes(target: &Path, from: &str) {
    until("the identity is renewed", async || serial(target) != from).await;
}

#[test]
fn one_pod_or_all_are_renewed() {
    test(async || {
        let node = Node::files(&[]).await;
        assert_eq!(renew(&node, &["--all"]), said("0 volumes are being renewed\n"));
        let (web, api) = (node.publish(&volume("web")).await, node.publish(&volume("api")).await);
        let (first_web, first_api) = (serial(&web), serial(&api));
        assert_eq!(renew(&node, &["--pod", "shop/web"]), said("1 volume is being renewed\n"));
        changes(&web, &first_web).await;
        assert_eq!(serial(&api), first_api);
        let second_web = serial(&web);
        assert_eq!(renew(&node, &["--all"]), said("2 volumes are being renewed\n"));
        changes(&web, &second_web).await;
        changes(&api, &first_api).await;
    });
}

#[test]
fn volumes_that_cannot_be_renewed_are_reported_as_a_failure() {
    test(async || {
        let mut node = Node::files(&[]).await;
        node.publish(&volume("web")).await;
        let fails = |node: &Node, args: &[&str], why: &str| {
            let (code, out, error) = renew(node, args);
            assert_eq!((code, out.as_str()), (Some(1), ""), "{error}");
            assert!(error.starts_with("error: ") && error.contains(why) && error.lines().count() == 1, "{error}");
        };
        fails(
            &node,
            &["--pod", "shop/nobody"],
            "no volume with an identity for the pod shop/nobody: does the pod run on this node?",
        );
        fails(&node, &["--all", "--admin-socket=/nowhere/s"], "there is no socket /nowhere/s: is the driver running");
        let csi = format!("--admin-socket={}", node.path("csi.sock").display());
        fails(&node, &["--all", &csi], "is another program listening there?");
        node.kill();
        fails(&node, &["--all"], "root/admin.sock: the driver is no longer running");
    });
}
