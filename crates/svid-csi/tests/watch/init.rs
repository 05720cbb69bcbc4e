//! As the first process of a container.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::fixture::{PROGRAM, WatchProcess, agent, send, socket};

const NAMESPACE: [&str; 4] = ["--user", "--map-root-user", "--pid", "--fork"];

/// Whether this machine lets a test have its own namespaces. In CI it must.
#[expect(clippy::print_stdout, reason = "a skipped test says so")]
fn can_be_first() -> bool {
    let tried = Command::new("unshare").args(NAMESPACE).arg("true").stderr(Stdio::null()).status();
    if tried.is_ok_and(|status| status.success()) {
        return true;
    }
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "unshare --pid does not work here");
    println!("skipped: unshare --pid does not work here");
    false
}

fn children(pid: u32) -> Vec<u32> {
    let path = PathBuf::from(format!("/proc/{pid}/task/{pid}/children"));
    let listed = fs::read_to_string(path).unwrap_or_default();
    listed.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "still waiting: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn first_process(socket: &Path, more: &[&str]) -> WatchProcess {
    let mut command = Command::new("unshare");
    command.args(NAMESPACE).arg(PROGRAM).args(["watch", "--json", "--socket"]).arg(socket).args(more);
    WatchProcess::spawn(command)
}

#[test]
fn orphans_do_not_remain_zombies_and_sigterm_ends_it() {
    if !can_be_first() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let agent = agent(folder.path());
    agent.resume();
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // The reader outlives the command that started it, and ends when a process writes.
    let script = r#"(read -r word <"$0") & exit 0"#;
    let exec = ["--exec", "sh", "-c", script, pipe.to_str().unwrap()];
    let mut watch = first_process(&socket(folder.path()), &exec);
    watch.update();
    watch.logs("the command was run");
    let first = until("the process", || children(watch.pid()).first().copied());
    assert_eq!(children(first).len(), 1, "the orphan is a child of the first process");
    fs::write(&pipe, "end\n").unwrap();
    until("the orphan is waited for", || children(first).is_empty().then_some(()));

    agent.rotate_own();
    watch.update();
    send("TERM", first);
    // unshare ends with the status of its child.
    assert_eq!(watch.end().0.code(), Some(0));
}
