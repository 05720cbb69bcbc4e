//! nginx, reloaded by `svid-csi watch`.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::tls::Client;
use super::{Program, example, free_address};
use crate::endpoints::renew_all;
use crate::fixture::{Node, serial, test, until, volume};

/// The documented server and script, with a configuration around the server that needs no file of the system.
fn start(node: &Node, target: &Path) -> (Program, SocketAddr) {
    let (folder, address) = (node.path("nginx"), free_address());
    for part in ["html", "logs"] {
        fs::create_dir_all(folder.join(part)).unwrap();
    }
    fs::write(folder.join("html/index.html"), "served by nginx\n").unwrap();
    let server = example("nginx", "ssl_certificate ", target).replace("8443", &address.to_string());
    let own = folder.display();
    let temporary =
        ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|name| format!("{name}_temp_path {own}/{name};\n"));
    let http = format!("access_log off;\n{}{server}", temporary.concat());
    let config = format!("user root;\nworker_processes 1;\npid {own}/pid;\nevents {{}}\nhttp {{\n{http}\n}}\n");
    fs::write(folder.join("nginx.conf"), config).unwrap();

    // The names that the script uses.
    let programs = node.path("path");
    fs::create_dir_all(&programs).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_svid-csi"), programs.join("svid-csi")).unwrap();
    let system = std::env::var("PATH").unwrap();
    let wrapper = format!("#!/bin/sh\nPATH={system}:/usr/sbin exec nginx -p {own} -c {own}/nginx.conf \"$@\"\n");
    fs::write(programs.join("nginx"), wrapper).unwrap();
    fs::set_permissions(programs.join("nginx"), fs::Permissions::from_mode(0o755)).unwrap();

    let script = example("sh", "exec nginx", target);
    let path = format!("{}:{system}", programs.display());
    let program = Program::start(node, "nginx", Command::new("sh").args(["-c", &script]).env("PATH", path));
    (program, address)
}

#[test]
#[ignore = "needs nginx: just consumers"]
fn nginx_is_reloaded_and_finishes_the_requests_of_before() {
    test(async || {
        let node = Node::files(&["--admin-socket={dir}/admin.sock"]).await;
        let (target, other) = (node.publish(&volume("web")).await, node.publish(&volume("client")).await);
        let (nginx, address) = start(&node, &target);
        let client = Client::with(&other);
        let serves = |serial: &str| {
            client.get(address).is_some_and(|seen| seen.leaf.serial == serial && seen.text.contains("served by nginx"))
        };
        let first = serial(&target);
        until("nginx serves", async || serves(&first)).await;
        let refused = Client::anonymous(&other).get(address).expect("an answer");
        assert!(refused.text.contains("No required SSL certificate"), "{}", refused.text);

        let open = client.connect(address, "GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n");
        std::thread::sleep(std::time::Duration::from_millis(500));
        renew_all(&node).await;
        until("it is renewed", async || serial(&target) != first).await;
        let second = serial(&target);
        until("nginx serves the second certificate", async || serves(&second)).await;
        let answer = open.finish("\r\n").expect("the connection is still open");
        assert_eq!(answer.leaf.serial, first);
        assert!(answer.text.contains("served by nginx"), "{}", answer.text);
        assert!(!nginx.log().contains("[emerg]"), "{}", nginx.log());
    });
}
