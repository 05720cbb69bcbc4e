//! The supervisor, with a shell in place of the driver.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test fails by panicking")]

use std::io::{BufRead, Read, Write};
use std::net::TcpListener;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use svid_csi_testkit::effects::{self, Act, At, Class, Names, Point, Run, Scope, Span, Watch, Watched};
use tempfile::TempDir;

/// Runs a script in a folder, with a fault.
fn run(folder: &TempDir, script: &str, at: At, act: Act) -> (Run, ExitStatus) {
    let mut command = effects::stopped("sh".as_ref());
    command.args(["-c", script]).current_dir(folder.path()).stderr(Stdio::null());
    let scope = Scope::of(folder.path()).ignoring(folder.path().join("ignored")).without("other");
    let watched = Watched::spawn(command, scope, Some(Some(Point { at, act }).into())).unwrap();
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
fn a_point_is_about_the_named_paths_only() {
    if !is_possible() {
        return;
    }
    for (span, is_there) in [(Span::Once, true), (Span::ForGood, false)] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = effects::stopped("sh".as_ref());
        command
            .args(["-c", "mkdir a; mkdir b1; mkdir b2; mkdir c; mkdir b3"])
            .current_dir(folder.path())
            .stderr(Stdio::null());
        let point = Point { at: At::Matching(Class::Mkdir, 2), act: Act::Fail(Errno::EIO, span) };
        let about = vec!["/b".to_owned(), "/unknown".to_owned()];
        let watch = Watch { point: Some(point), about };
        let watched = Watched::spawn(command, Scope::of(folder.path()), Some(watch)).unwrap();
        watched.wait();
        let run = watched.finish();
        assert!(run.fired && run.trace.len() == 5, "{run:?}");
        let exists = ["a", "b1", "b2", "c", "b3"].map(|name| folder.path().join(name).exists());
        assert_eq!(exists, [true, true, false, true, is_there], "{span:?}");
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
    let watched = Watched::spawn(command, Scope::of(folder.path()).with_reads(), Some(Some(point).into())).unwrap();
    assert!(!watched.wait().success());
    assert!(watched.finish().fired);
}

#[test]
fn a_held_call_waits_while_everything_else_continues() {
    if !is_possible() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut command = effects::stopped("sh".as_ref());
    command.args(["-c", "mkdir a & until [ -e go ]; do sleep 0.01; done; mkdir c; wait"]).current_dir(folder.path());
    let point = Point { at: At::Nth(1), act: Act::Hold };
    let watched = Watched::spawn(command, Scope::of(folder.path()), Some(Some(point).into())).unwrap();
    wait_until(|| watched.has_fired());
    std::fs::write(path("go"), "").unwrap();
    wait_until(|| path("c").exists());
    assert!(!path("a").exists() && watched.ended().is_none());
    watched.release();
    assert!(watched.wait().success() && path("a").exists());
}

#[test]
fn a_request_that_changes_something_is_an_effect() {
    if !is_possible() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (act, arrives) in [(Act::KillBefore, false), (Act::KillAfter, true)] {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let connect = format!("exec 3<>/dev/tcp/127.0.0.1/{}", address.port());
        let script = format!("{connect}; printf 'GET /a HTTP/1.1\\r\\n' >&3; printf 'POST /b?c=d HTTP/1.1\\r\\n' >&3");
        let mut command = effects::stopped("bash".as_ref());
        command.args(["-c", &script]);
        let scope = Scope::of(folder.path()).with_requests_to(address);
        let watched = Watched::spawn(command, scope, Some(Some(Point { at: At::Nth(1), act }).into())).unwrap();
        let mut sent = String::new();
        server.accept().unwrap().0.read_to_string(&mut sent).unwrap();
        watched.wait();
        let run = watched.finish();
        assert_eq!(Names::default().render(&run.trace), "request     /b POST\n");
        assert_eq!((run.fired, sent.contains("GET /a"), sent.contains("POST /b")), (true, true, arrives), "{act:?}");
    }
}

fn wait_until(condition: impl Fn() -> bool) {
    while !condition() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn the_wall_clock_is_ahead_and_can_be_set() {
    if !is_possible() {
        return;
    }
    let mut command = effects::stopped("sh".as_ref());
    command.args(["-c", "while read -r line; do date +%s; done"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    command.stdin(std::os::fd::OwnedFd::from(theirs.try_clone().unwrap())).stdout(std::os::fd::OwnedFd::from(theirs));
    let watched = Watched::spawn(command, Scope::of("/nowhere").with_clock(7200), None).unwrap();
    let now = || {
        i64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()).unwrap()
    };
    let mut read = std::io::BufReader::new(ours.try_clone().unwrap());
    for ahead in [7200, -7200, 0] {
        watched.set_clock(ahead).unwrap();
        let before = now();
        ours.write_all(b"\n").unwrap();
        let mut line = String::new();
        read.read_line(&mut line).unwrap();
        let seen = line.trim().parse::<i64>().unwrap() - ahead;
        assert!((before..=now()).contains(&seen), "{ahead}: {line}");
    }
}
