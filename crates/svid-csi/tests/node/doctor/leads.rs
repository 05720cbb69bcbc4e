//! What a refused publish names is what `doctor` finds on that node.

use std::fs;
use std::time::Duration;

use svid_csi_testkit::Flaw;
use svid_csi_testkit::agent::Entry;

use super::{command, doctor, ids, mount, output, unmount};
use crate::broker::scene::{files_test, id};
use crate::fixture::{Node, PASSTHROUGH, pod, test, until, volume};
use crate::room;

/// The message ends with the id, the log has it as a field, and `doctor` explains it.
fn names(node: &Node, message: &str, id: &str) {
    assert!(message.ends_with(&format!(" [{id}]")), "{message}");
    let failed = node.log();
    let failed = failed.lines().filter(|line| line.contains("CSI call failed"));
    let failed: Vec<_> = failed.filter(|line| line.contains("finding=") && line.contains(id)).collect();
    assert!(!failed.is_empty(), "{}", node.log());
    let (code, text) = output(&mut command(node, &["--explain", id]));
    assert!(code == 0 && text.starts_with(id), "{text}");
}

#[test]
fn an_agent_that_is_gone() {
    test(async || {
        let mut node = Node::new(&[PASSTHROUGH, &["--data-root={dir}/root", "--kubelet-dir={dir}/kubelet"]]);
        let agent = node.path("run/agent");
        fs::create_dir_all(&agent).unwrap();
        // On a mount of its own, so that the driver cannot keep a directory of the agent's sockets beside it.
        mount(&["-t".as_ref(), "tmpfs".as_ref(), "none".as_ref(), agent.as_os_str()]);
        node.start().await;
        unmount(&agent);
        fs::remove_dir(&agent).unwrap();
        let (_, message) = node.refused(&volume("web")).await;
        names(&node, &message, "agent-directory-missing");
        assert!(ids(&node).contains("agent-directory-missing"));
    });
}

#[test]
fn a_tmpfs_without_room_for_another_pod() {
    test(async || {
        let node = Node::files(room::SMALL).await;
        // An eighth of the two mebibytes is reserved.
        fs::write(node.path("root/data/ballast"), vec![0; 1_800 * 1_024]).unwrap();
        let (_, message) = node.refused(&volume("web")).await;
        names(&node, &message, "data-nearly-full");
        assert!(ids(&node).contains("data-nearly-full"));
    });
}

#[test]
fn a_namespace_that_uses_its_share_does_not_lead_to_a_finding_of_the_node() {
    test(async || {
        let node = Node::files(room::SMALL).await;
        let (targets, message) = room::fill(&node, |_| "greedy".to_owned()).await;
        assert!(message.contains("namespace") && !message.ends_with(']'), "{message}");
        assert!(!ids(&node).contains("data-nearly-full"));
        // The last of them was refused.
        let (code, answer) = doctor(&node, &[&format!("--pod=greedy/greedy-{}", targets.len())]);
        let last = answer["steps"].as_array().unwrap().last().unwrap()["findings"][0].clone();
        assert_eq!((code, &last["id"]), (2, &"pod-without-volume".into()), "{answer}");
        assert!(last["cause"].as_str().unwrap().contains("namespace"), "{answer}");
    });
}

#[test]
fn a_pod_without_an_entry_and_one_whose_identity_is_refused() {
    files_test(async |scene| {
        let node = &scene.node;
        let (_, message) = node.refused_within(&volume("web"), Duration::from_secs(5)).await;
        names(node, &message, "no-registration-entry");
        while_starting(node, "web", "no-registration-entry").await;
        scene.agent.register(&pod("api"), &[Entry::new(&id("api")).flaw(Flaw::IsCa)]);
        let (_, message) = node.refused(&volume("api")).await;
        names(node, &message, "identity-refused");
        scene.registered("db").await;
        scene.agent.edit(&pod("db"), |response| response.svids[0].bundle.clear());
        until("the finding", async || ids(node).contains("identity-refused")).await;
    });
}

/// The kubelet asks again meanwhile.
async fn while_starting(node: &Node, pod: &str, id: &str) {
    let (starting, long) = (volume(pod), Duration::from_secs(110));
    tokio::select! {
        started = node.publish_within(&starting, long) => panic!("{started:?}"),
        () = until(id, async || ids(node).contains(id)) => {}
    }
}
