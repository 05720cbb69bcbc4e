//! Commands and signals.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use svid_csi_testkit::agent::Agent;

use crate::fixture::{WatchProcess, agent, serial, socket};

fn started(folder: &Path) -> Agent {
    let agent = agent(folder);
    agent.resume();
    agent
}

fn fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// A process that a signal ends.
fn sleeper() -> Child {
    Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap()
}

#[test]
fn a_command_runs_on_each_change_with_its_details() {
    let folder = tempfile::tempdir().unwrap();
    let agent = started(folder.path());
    let pipe = folder.path().join("pipe");
    fifo(&pipe);
    let script =
        r#"echo "$SVID_CSI_UPDATE $SVID_CSI_SPIFFE_ID $SVID_CSI_SERIAL $SVID_CSI_BUNDLE_SIZE $1" >"$0"; exit 3"#;
    let exec = ["--exec", "sh", "-c", script, pipe.to_str().unwrap(), "--once"];
    let mut watch = WatchProcess::socket(&socket(folder.path()), &exec);
    for number in [1, 2] {
        let update = watch.update();
        let output = fs::read_to_string(&pipe).unwrap();
        let expected = format!("{number} spiffe://example.org/workload {} 1 --once\n", serial(&update));
        assert_eq!(output, expected, "a command that fails does not end the watching");
        agent.rotate_own();
    }
    watch.logs("the command failed");
}

#[test]
fn changes_during_a_command_are_combined() {
    let folder = tempfile::tempdir().unwrap();
    let agent = started(folder.path());
    let (began, go_on) = (folder.path().join("began"), folder.path().join("go-on"));
    fifo(&began);
    fifo(&go_on);
    let script = r#"echo "$SVID_CSI_SERIAL" >"$0"; read -r word <"$1""#;
    let exec = ["--exec", "sh", "-c", script, began.to_str().unwrap(), go_on.to_str().unwrap()];
    let mut watch = WatchProcess::socket(&socket(folder.path()), &exec);
    let first = serial(&watch.update());
    assert_eq!(fs::read_to_string(&began).unwrap().trim_end(), first);
    let during: Vec<String> = (0..3)
        .map(|_| {
            agent.rotate_own();
            serial(&watch.update())
        })
        .collect();
    fs::write(&go_on, "go\n").unwrap();
    assert_eq!(fs::read_to_string(&began).unwrap().trim_end(), during[2], "the last one, and none before it");
    fs::write(&go_on, "go\n").unwrap();
    agent.rotate_own();
    let last = serial(&watch.update());
    assert_eq!(fs::read_to_string(&began).unwrap().trim_end(), last);
}

#[test]
fn a_missing_command_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let _agent = started(folder.path());
    let (status, updates, log) =
        WatchProcess::socket(&socket(folder.path()), &["--once", "--exec", "/no/command"]).end();
    assert_eq!((status.code(), updates.len()), (Some(0), 1));
    assert!(log.iter().any(|line| line.contains("the command cannot be run")), "{log:#?}");
}

#[test]
fn a_process_is_sent_the_signal_until_it_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let agent = started(folder.path());
    let mut sleeper = sleeper();
    let mut watch = WatchProcess::socket(&socket(folder.path()), &[&format!("--signal={}:USR1", sleeper.id())]);
    watch.update();
    assert_eq!(sleeper.wait().unwrap().signal(), Some(10));
    for _ in 0..2 {
        agent.rotate_own();
        watch.update();
    }
    watch.logs("the process has ended");
    watch.terminate();
    let (status, _, log) = watch.end();
    assert_eq!(status.code(), Some(0));
    assert_eq!(log.iter().filter(|line| line.contains("the process has ended")).count(), 1, "{log:#?}");
}

#[test]
fn hangup_is_the_signal_unless_another_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let _agent = started(folder.path());
    let mut sleeper = sleeper();
    let (status, ..) =
        WatchProcess::socket(&socket(folder.path()), &["--once", "--signal", &sleeper.id().to_string()]).end();
    assert!(status.success());
    assert_eq!(sleeper.wait().unwrap().signal(), Some(1));
}

#[test]
fn sigterm_ends_it_at_once_at_any_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut waiting = WatchProcess::socket(&socket(folder.path()), &[]);
    waiting.logs("there is no socket");
    waiting.terminate();
    assert_eq!(waiting.end().0.code(), Some(0));

    let _agent = started(folder.path());
    let began = folder.path().join("began");
    fifo(&began);
    let script = r#"echo $$ >"$0"; exec sleep 600 >/dev/null 2>&1"#;
    let exec = ["--exec", "sh", "-c", script, began.to_str().unwrap()];
    let mut running = WatchProcess::socket(&socket(folder.path()), &exec);
    running.update();
    let command: u32 = fs::read_to_string(&began).unwrap().trim_end().parse().unwrap();
    running.terminate();
    assert_eq!(running.end().0.code(), Some(0));
    crate::fixture::send("KILL", command);
}
