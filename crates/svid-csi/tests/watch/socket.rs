//! Over the Workload API.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use svid_csi_testkit::agent::{Answer, Entry};
use tonic::Status;

use crate::fixture::{PROGRAM, WatchProcess, agent, pod, serial, socket};

const OTHER: &str = "spiffe://example.org/other";

#[test]
fn each_rotation_is_an_update() {
    let folder = tempfile::tempdir().unwrap();
    let agent = agent(folder.path());
    agent.resume();
    let mut watch = WatchProcess::socket(&socket(folder.path()), &[]);
    let first = watch.update();
    assert_eq!(first["svids"][0]["spiffe_id"], "spiffe://example.org/workload");
    assert_eq!((&first["update"], &first["svids"][0]["bundle"]), (&1.into(), &1.into()));
    assert_eq!(first["source"], socket(folder.path()).to_str().unwrap());
    let time = |name: &str| first["svids"][0][name].as_str().unwrap().to_owned();
    assert!(time("not_before") < time("not_after") && time("not_after").ends_with('Z'));

    agent.rotate_own();
    let second = watch.update();
    assert_ne!(serial(&first), serial(&second));
    agent.add_root();
    let third = watch.update();
    assert_eq!((serial(&third), &third["svids"][0]["bundle"]), (serial(&second), &2.into()));
}

#[test]
fn a_repeated_message_is_not_an_update() {
    let folder = tempfile::tempdir().unwrap();
    let agent = agent(folder.path());
    agent.register(&pod("web"), &[Entry::new(OTHER)]);
    let said = agent.response(&pod("web"));
    agent.respond_to_driver(Answer::Svids(said.clone()));
    agent.resume();
    let mut watch = WatchProcess::socket(&socket(folder.path()), &[]);
    let first = watch.update();
    agent.respond_to_driver(Answer::Svids(said));
    agent.restart();
    watch.logs("no longer waiting");
    agent.rotate_own();
    let second = watch.update();
    assert_eq!(second["update"], 2);
    assert_ne!(serial(&first), serial(&second));
}

#[test]
fn several_svids_hints_and_federated_bundles_are_shown() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (agent, foreign) = (agent(folder.path()), agent(elsewhere.path()));
    let entries = [Entry::new(OTHER).hint("outside"), Entry::new("spiffe://example.org/workload").hint("inside")];
    agent.register(&pod("web"), &entries);
    foreign.register(&pod("web"), &[Entry::new(OTHER)]);
    let mut said = agent.response(&pod("web"));
    let bundle = foreign.response(&pod("web")).svids.remove(0).bundle;
    said.federated_bundles.insert("spiffe://other.org".to_owned(), bundle);
    agent.respond_to_driver(Answer::Svids(said));
    agent.resume();
    let update = WatchProcess::socket(&socket(folder.path()), &["--once"]).update();
    assert_eq!(update["svids"].as_array().unwrap().len(), 2);
    assert_eq!((&update["svids"][0]["hint"], &update["svids"][1]["hint"]), (&"outside".into(), &"inside".into()));
    assert_eq!(update["federated"]["other.org"], 1);
}

#[test]
fn a_late_or_stopped_agent_is_waited_for_and_logged_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut watch = WatchProcess::socket(&socket(folder.path()), &[]);
    watch.logs("there is no socket");
    let agent = agent(folder.path());
    agent.resume();
    let first = watch.update();
    watch.logs("no longer waiting");
    agent.stop();
    watch.logs("no process is listening on");
    agent.own(&[Entry::new(OTHER)]);
    agent.resume();
    let second = watch.update();
    assert_ne!(first["svids"][0]["spiffe_id"], second["svids"][0]["spiffe_id"]);
    assert_eq!(second["update"], 2);
    assert_eq!((watch.times_logged("there is no socket"), watch.times_logged("no process is listening on")), (1, 1));
}

#[test]
fn refusals_are_explained() {
    let folder = tempfile::tempdir().unwrap();
    let agent = agent(folder.path());
    agent.respond_to_driver(Answer::Refused(Status::permission_denied("no identity issued\u{1b}[31m")));
    agent.resume();
    let mut watch = WatchProcess::socket(&socket(folder.path()), &[]);
    watch.logs("no identity is registered for this workload, or it was withdrawn: PermissionDenied");
    watch.logs(r"no identity issued\\x1b[31m");
    agent.respond_to_driver(Answer::Refused(Status::unavailable("")));
    watch.logs("the server is not ready");
    agent.own(&[Entry::new(OTHER)]);
    watch.update();
}

#[test]
fn an_invalid_identity_is_not_an_update() {
    let folder = tempfile::tempdir().unwrap();
    let agent = agent(folder.path());
    agent.resume();
    let mut watch = WatchProcess::socket(&socket(folder.path()), &[]);
    let first = watch.update();
    agent.register(&pod("web"), &[Entry::new(OTHER)]);
    let mut mixed = agent.response(&pod("web"));
    agent.rotate(&pod("web"));
    mixed.svids[0].x509_svid_key = agent.response(&pod("web")).svids[0].x509_svid_key.clone();
    agent.respond_to_driver(Answer::Svids(mixed));
    watch.logs("is refused");
    let is_requested_again = (0..6_000).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        agent.calls_of("FetchX509SVID").len() >= 3
    });
    assert!(is_requested_again, "a clock may have been wrong");
    assert_eq!(watch.times_logged("is refused"), 1);
    agent.own(&[Entry::new(OTHER)]);
    let second = watch.update();
    assert_eq!((&first["update"], &second["update"]), (&1.into(), &2.into()));
}

#[test]
fn once_ends_with_the_first_update_or_reports_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let (status, updates, log) = WatchProcess::socket(&socket(folder.path()), &["--once", "--timeout=100ms"]).end();
    assert_eq!((status.code(), updates.len()), (Some(1), 0));
    assert!(log.last().unwrap().contains("nothing to show after 0.1 s: there is no socket"), "{log:#?}");

    let agent = agent(folder.path());
    agent.respond_to_driver(Answer::Silence);
    agent.resume();
    let (status, _, log) = WatchProcess::socket(&socket(folder.path()), &["--once", "--timeout=100ms"]).end();
    assert_eq!(status.code(), Some(1));
    assert!(log.last().unwrap().contains("does not respond"), "{log:#?}");

    agent.own(&[Entry::new(OTHER)]);
    let (status, updates, log) = WatchProcess::socket(&socket(folder.path()), &["--once"]).end();
    assert_eq!((status.code(), updates.len(), log), (Some(0), 1, Vec::new()));
    agent.spoil_tokens(Some(Arc::new(|answer| answer.svids.clear())));
    let (status, updates, log) = WatchProcess::socket(&socket(folder.path()), &["--once", "--audience=a"]).end();
    assert_eq!((status.code(), updates.len()), (Some(1), 1));
    assert!(log.last().unwrap().contains("no JWT-SVID for the audience"), "{log:#?}");
}

#[test]
fn text_is_a_line_for_each_svid_without_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let agent = agent(folder.path());
    agent.own(&[Entry::new(OTHER), Entry::new("spiffe://example.org/workload")]);
    agent.resume();
    let standard = format!("unix://{}", socket(folder.path()).display());
    let output =
        Command::new(PROGRAM).args(["watch", "--once"]).env("SPIFFE_ENDPOINT_SOCKET", standard).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert!(output.status.success() && lines.len() == 2, "{text}");
    assert!(lines[0].contains(&format!(" update 1: {OTHER} serial ")), "{text}");
    assert!(lines[1].contains("bundle of 1 certificate, SVID 2 of 2, from /"), "{text}");
    assert!(text.len() < 600, "only the shown fields: {text}");
}

#[test]
fn a_folder_in_place_of_a_socket_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(socket(folder.path())).unwrap();
    let mut watch = WatchProcess::socket(&socket(folder.path()), &[]);
    watch.logs("no process is listening on");
    watch.terminate();
    assert_eq!(watch.end().0.code(), Some(0));
}
