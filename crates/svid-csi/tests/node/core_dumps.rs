//! Processes that hold keys do not leave core dumps, and other processes cannot inspect them.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

use crate::fixture::{Node, run, test, until};

/// For this process and those it starts.
fn allow_core_dumps() {
    let maximum = getrlimit(Resource::Core).maximum;
    assert_ne!(maximum, Some(0), "this machine allows no core dumps, which this is about");
    setrlimit(Resource::Core, Rlimit { current: maximum, maximum }).unwrap();
}

/// The maximum size of a core dump.
fn core_limit(pid: u32) -> String {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    line.split_whitespace().nth(4).unwrap().to_owned()
}

/// Whether a process of the same user that may not trace all others may inspect it (ptrace(2), PTRACE_MODE_READ).
fn can_be_looked_into(pid: u32) -> bool {
    // On a separate thread, because each thread has its own capabilities.
    let looking = std::thread::spawn(move || {
        let CapabilitySets { effective, permitted, inheritable } = capabilities(None).unwrap();
        let without = CapabilitySet::SYS_PTRACE.complement();
        let less = CapabilitySets { effective: effective & without, permitted: permitted & without, inheritable };
        set_capabilities(None, less).unwrap();
        fs::read_link(format!("/proc/{pid}/cwd")).is_ok()
    });
    looking.join().unwrap()
}

async fn is_closed(program: &str, pid: u32) {
    until(&format!("{program} forbids core dumps"), async || core_limit(pid) == "0" && !can_be_looked_into(pid)).await;
}

struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(args: &[&str]) -> Ending {
    let mut command = Command::new(env!("CARGO_BIN_EXE_svid-csi"));
    Ending(command.args(args).stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

#[test]
fn an_aborting_driver_leaves_no_core_dump() {
    test(async || {
        allow_core_dumps();
        let mut node = Node::files(&[]).await;
        is_closed("driver", node.pid()).await;
        run("kill", &["-ABRT", &node.pid().to_string()]);
        let status = node.ended();
        assert!(status.signal() == Some(6) && !status.core_dumped(), "{status:?}");
    });
}

#[test]
fn approver_and_watch_leave_no_core_dump() {
    test(async || {
        allow_core_dumps();
        assert!(can_be_looked_into(std::process::id()), "a process that did nothing about it");
        let dir = tempfile::tempdir().unwrap();
        let kubeconfig: PathBuf = dir.path().join("kubeconfig");
        let nowhere = "{apiVersion: v1, kind: Config, current-context: c, clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}], contexts: [{name: c, context: {cluster: c, user: u}}], users: [{name: u, user: {}}]}";
        fs::write(&kubeconfig, nowhere).unwrap();
        let kubeconfig = kubeconfig.to_str().unwrap();
        let flags = ["--issuer-name=ca", "--trust-domain=example.org", "--metrics-bind-address=0"];
        let approver = start(
            &[&["approver", "--kubeconfig", kubeconfig, "--readiness-probe-bind-address=127.0.0.1:0"], &flags[..]]
                .concat(),
        );
        is_closed("approver", approver.0.id()).await;
        let watch = start(&["watch", "--socket=/nowhere/agent.sock"]);
        is_closed("watch", watch.0.id()).await;
    });
}
