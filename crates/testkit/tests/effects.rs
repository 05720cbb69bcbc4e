//! The supervisor, with a shell in place of the driver.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test fails by panicking")]

use std::process::{ExitStatus, Stdio};

use nix::errno::Errno;
use svid_csi_testkit::effects::{self, Act, At, Class, Names, Point, Run, Scope, Span, Watched};
use tempfile::TempDir;

/// Runs a script in a folder, with a fault.
fn run(folder: &TempDir, script: &str, at: At, act: Act) -> (Run, ExitStatus) {
    let mut command = effects::stopped("sh".as_ref());
    command.args(["-c", script]).current_dir(folder.path()).stderr(Stdio::null());
    let scope = Scope::of(folder.path()).ignoring(folder.path().join("ignored")).without("other");
    let watched = Watched::spawn(command, scope, Some(Some(Point { at, act }))).unwrap();
    let status = watched.wait();
    (watched.finish(), status)
}

fn is_possible() -> bool {
    let error = effects::forbidden();
    assert!(error.is_none() || std::env::var("CI").as_deref() != Ok("true"), "ptrace: {error:?}");
    error.is_none()
}

const SCRIPT: &str = "mkdir a ignored other; mkdir b; rmdir a; mkdir c; exit 0";

#[test]
fn a_kill_comes_before_or_after_the_call() {
    if !is_possible() {
        return;
    }
    for (act, is_there) in [(Act::KillBefore, false), (Act::KillAfter, true)] {
        let folder = tempfile::tempdir().unwrap();
        let (run, _) = run(&folder, SCRIPT, At::Nth(2), act);
        assert!(run.fired);
        assert_eq!((folder.path().join("a").exists(), folder.path().join("b").exists()), (true, is_there), "{act:?}");
        assert!(!folder.path().join("c").exists(), "{act:?}");
    }
}

#[test]
fn a_call_fails_once_or_from_then_on() {
    if !is_possible() {
        return;
    }
    for (span, is_there) in [(Span::Once, true), (Span::ForGood, false)] {
        let folder = tempfile::tempdir().unwrap();
        let (run, status) = run(&folder, SCRIPT, At::Matching(Class::Mkdir, 2), Act::Fail(Errno::ENOSPC, span));
        assert!(run.fired && status.success());
        let exists = |name: &str| folder.path().join(name).exists();
        assert_eq!((exists("ignored"), exists("other")), (true, true));
        assert_eq!((exists("a"), exists("b"), exists("c")), (false, false, is_there), "{span:?}");
        let trace = Names::default().with(format!("{}/", folder.path().display()), "").render(&run.trace);
        let last = if is_there { "" } else { " = ENOSPC" };
        let expected =
            format!("mkdir       a 0777\nmkdir       b 0777 = ENOSPC\nrmdir       a\nmkdir       c 0777{last}\n");
        assert_eq!(trace, expected);
    }
}

#[test]
fn a_point_that_is_not_reached_does_not_fire() {
    if !is_possible() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (run, status) = run(&folder, SCRIPT, At::Nth(5), Act::KillBefore);
    assert!(!run.fired && status.success() && folder.path().join("c").exists());
    assert_eq!(run.trace.len(), 4);
}

#[test]
fn reads_count_if_that_is_asked_for() {
    if !is_possible() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "text").unwrap();
    let mut command = effects::stopped("cat".as_ref());
    command.arg("file").current_dir(folder.path()).stdout(Stdio::null()).stderr(Stdio::null());
    let point = Point { at: At::Matching(Class::Read, 1), act: Act::Fail(Errno::EIO, Span::Once) };
    let watched = Watched::spawn(command, Scope::of(folder.path()).with_reads(), Some(Some(point))).unwrap();
    assert!(!watched.wait().success());
    assert!(watched.finish().fired);
}
