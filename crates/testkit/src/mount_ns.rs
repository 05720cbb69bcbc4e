//! Tests that mount, each in a mount namespace of its own.

use std::env;
use std::process::{Command, Stdio};

/// Set in the process that runs a test's body.
const INSIDE: &str = "SVID_CSI_IN_MOUNT_NS";

/// What `unshare` may need to hand out a mount namespace: nothing more for root, a user namespace for others.
const WAYS: [&[&str]; 2] = [&[], &["--user", "--map-root-user"]];

/// Runs `body` in a mount namespace of its own, where it may mount and nothing is left behind.
///
/// `test_name` is the full name of the calling test, as `cargo test -- --list` prints it: the test binary runs itself
/// again for that one test, because a thread of a running process cannot enter a user namespace.
///
/// Where neither root nor unprivileged user namespaces are to be had the test is skipped with a line that says so.
///
/// # Panics
/// When the test fails inside, and instead of skipping it where the environment has `CI=true`.
pub fn in_mount_ns(test_name: &str, body: impl FnOnce()) {
    if env::var_os(INSIDE).is_some() {
        return body();
    }
    let Some(mut command) = mount_ns_command() else {
        return skip(test_name);
    };
    let this = env::current_exe().expect("the path of this test binary");
    let status = command
        .arg(this)
        .args(["--exact", test_name, "--nocapture", "--include-ignored"])
        .env(INSIDE, "1")
        .status()
        .expect("unshare, which has just worked");
    assert!(status.success(), "{test_name} failed in its mount namespace: {status}");
}

/// The beginning of a command line that runs the rest of it in a mount namespace of its own, with private propagation.
/// `None` where neither root nor unprivileged user namespaces are to be had.
pub fn mount_ns_command() -> Option<Command> {
    WAYS.into_iter().find(|way| namespace_works(way)).map(unshare)
}

fn unshare(way: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]).args(way).arg("--");
    command
}

fn namespace_works(way: &[&str]) -> bool {
    let probe = unshare(way).arg("true").stderr(Stdio::null()).status();
    probe.is_ok_and(|status| status.success())
}

#[expect(clippy::print_stdout, reason = "a skipped test says so")]
fn skip(test_name: &str) {
    let line = format!(
        "skipped: {test_name} needs root or unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone / \
         user.max_user_namespaces / apparmor_restrict_unprivileged_userns)"
    );
    assert!(env::var("CI").as_deref() != Ok("true"), "{line}");
    println!("{line}");
}
