//! `svid-csi demo` as a user starts it: with every step, in time, and without root.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_svid-csi");

/// The time that the demo promises, in milliseconds.
const AT_MOST: u64 = 20_000;

const STEPS: [&str; 18] = [
    "namespace",
    "agent",
    "driver",
    "register",
    "files-pod",
    "socket-pod",
    "fs-group",
    "mutual-tls",
    "renewal",
    "kill",
    "driver-again",
    "recovery",
    "renewal-again",
    "mutual-tls-again",
    "new-agent",
    "unpublish",
    "stop",
    "clean",
];

#[test]
fn it_works_for_the_current_user() {
    run_demo(&mut Command::new(PROGRAM));
}

#[test]
fn it_works_without_root() {
    // A user other than root has run it without root above.
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return;
    }
    // The folder that the program is built in may be inaccessible to others.
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("svid-csi");
    fs::copy(PROGRAM, &program).unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let steps =
        run_demo(Command::new("setpriv").args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program));
    if let Some(steps) = steps {
        assert_eq!(steps[0]["root"], false);
    }
}

/// The steps of a successful demo; `None` if this machine does not allow its namespaces.
#[expect(clippy::print_stdout, reason = "a skipped test says so")]
fn run_demo(program: &mut Command) -> Option<Vec<Value>> {
    let output = program.args(["demo", "--json"]).current_dir("/").output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let steps: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    if steps[0]["ok"] == false && std::env::var("CI").as_deref() != Ok("true") {
        println!("skipped: the demo needs root or unprivileged user namespaces: {}", steps[0]["error"]);
        return None;
    }
    assert!(output.status.success(), "{lines}{}", String::from_utf8_lossy(&output.stderr));
    let names: Vec<_> = steps.iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(names, STEPS);
    assert!(steps.iter().all(|step| step["ok"] == true), "{lines}");
    assert!(steps[STEPS.len() - 1]["elapsed_ms"].as_u64().unwrap() < AT_MOST, "{lines}");
    Some(steps)
}
