//! Tests that mount, each in a mount namespace of its own.

use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::{any, env};

/// Set in the process that runs a test's body.
const INSIDE: &str = "SVID_CSI_IN_MOUNT_NS";

/// The arguments with which `unshare` can create a mount namespace: none for root, a user namespace for others.
const WAYS: [&[&str]; 2] = [&[], &["--user", "--map-root-user"]];

/// Those for a process namespace in it, too.
const ALONE: &[&str] = &["--pid", "--fork", "--kill-child", "--mount-proc"];

/// The full name of a test, as `cargo test -- --list` prints it.
///
/// It is read from the type of a closure that the test function defines, so that it cannot be the name of another test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestName(String);

impl TestName {
    /// The name of the test function in which this closure is written.
    pub fn of<Closure>(_: &Closure) -> Self {
        let path = any::type_name::<Closure>();
        let path = path.split("::{{closure}}").next().unwrap_or(path);
        let without_crate = path.split_once("::").map_or(path, |(_, path)| path);
        Self(without_crate.to_owned())
    }

    /// The line that the run in the namespace prints at the end of the body.
    fn confirmation(&self) -> String {
        format!("the body of {} has run", self.0)
    }
}

/// Runs `body` in a mount namespace of its own, where it may mount and nothing is left behind.
///
/// Its output is shown like that of any other test. The test binary runs itself again for that one test, because a
/// thread of a running process cannot enter a user namespace.
///
/// Without root and without unprivileged user namespaces the test is skipped, and a line reports that.
///
/// # Panics
/// If the test fails inside or does not run its body there, and with `CI=true` in the environment also instead of
/// skipping.
pub fn in_mount_ns(body: impl FnOnce()) {
    in_mount_ns_as(&TestName::of(&body), body);
}

/// [`in_mount_ns`] for fixtures, which call this with a closure of their own: `test` is the name of the test that calls
/// them.
///
/// # Panics
/// As [`in_mount_ns`].
pub fn in_mount_ns_as(test: &TestName, body: impl FnOnce()) {
    in_ns(test, mount_ns_command, body);
}

/// [`in_mount_ns_as`] in a process namespace of its own if possible, like a container: a driver cannot see from there that no
/// mount of the test reaches the host.
///
/// # Panics
/// As [`in_mount_ns`].
pub fn in_container_as(test: &TestName, body: impl FnOnce()) {
    in_ns(test, || container_command().or_else(mount_ns_command), body);
}

fn in_ns(test: &TestName, command: impl FnOnce() -> Option<Command>, body: impl FnOnce()) {
    if env::var_os(INSIDE).is_some() {
        body();
        // If there are no threads, the test runner has already printed the name of the test.
        return say(&format!("\n{}", test.confirmation()));
    }
    let Some(command) = command() else {
        return skip(test);
    };
    if let Err(failure) = run_again(command, test) {
        panic!("{} {failure}", test.0);
    }
}

/// Runs this test binary again for one test.
fn run_again(mut command: Command, test: &TestName) -> Result<(), String> {
    let this = env::current_exe().expect("the path of this test binary");
    let output = command
        .arg(this)
        .args(["--exact", &test.0, "--nocapture", "--include-ignored"])
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .output()
        .expect("unshare, which has just worked");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    say(&said);
    if !output.status.success() {
        return Err(format!("failed in its mount namespace: {}", output.status));
    }
    if !said.lines().any(|line| line == test.confirmation()) {
        return Err("did not run in its mount namespace".to_owned());
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "what a test says is captured and shown by the test runner")]
fn say(text: &str) {
    println!("{text}");
}

/// The beginning of a command line that runs the rest in a mount namespace of its own, with private propagation. `None`
/// if neither root nor unprivileged user namespaces are available.
pub fn mount_ns_command() -> Option<Command> {
    static WAY: OnceLock<Option<&[&str]>> = OnceLock::new();
    WAY.get_or_init(|| WAYS.into_iter().find(|way| namespace_works(way, &[]))).map(|way| unshare(way, &[]))
}

fn container_command() -> Option<Command> {
    static WAY: OnceLock<Option<&[&str]>> = OnceLock::new();
    WAY.get_or_init(|| WAYS.into_iter().find(|way| namespace_works(way, ALONE))).map(|way| unshare(way, ALONE))
}

fn unshare(way: &[&str], more: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]).args(way).args(more).arg("--");
    command
}

fn namespace_works(way: &[&str], more: &[&str]) -> bool {
    let probe = unshare(way, more).arg("true").stderr(Stdio::null()).status();
    probe.is_ok_and(|status| status.success())
}

fn skip(test: &TestName) {
    let line = format!(
        "skipped: {} needs root or unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone / \
         user.max_user_namespaces / apparmor_restrict_unprivileged_userns)",
        test.0
    );
    assert!(env::var("CI").as_deref() != Ok("true"), "{line}");
    say(&line);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_that_of_the_test_that_contains_the_closure() {
        let nested = || async || 1;
        assert_eq!(TestName::of(&nested), TestName::of(&nested()));
        let name = "mount_ns::tests::the_name_is_that_of_the_test_that_contains_the_closure";
        assert_eq!(TestName::of(&nested).0, name);
    }

    #[test]
    fn a_run_that_does_not_reach_the_body_is_a_failure() {
        let Some(command) = mount_ns_command() else { return skip(&TestName::of(&|| ())) };
        let failure = run_again(command, &TestName("mount_ns::tests::no_such_test".to_owned())).unwrap_err();
        assert!(failure.starts_with("did not run in its mount namespace"), "{failure}");
    }
}
