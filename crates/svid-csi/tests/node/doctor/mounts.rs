//! The volumes in pods, and the agent's directory.

use std::fs;

use super::{doctor, finds, found, healthy, hide, ids, listen, mount, output, unmount};
use crate::fixture::{Node, pod, test, volume};

const PODS: &[&str] = &["--kubelet-dir={dir}/kubelet"];

fn on_tmpfs(node: &Node) {
    fs::create_dir_all(node.path("run/agent")).unwrap();
    mount(&["-t".as_ref(), "tmpfs".as_ref(), "none".as_ref(), node.path("run/agent").as_os_str()]);
}

#[test]
fn volumes_that_are_unmounted_covered_or_left() {
    test(async || {
        let node = healthy(&[]).await;
        let target = node.kubelet.target(&volume("web"));
        hide(&target);
        // What the pod would read is not there either.
        finds(&node, &["volume-covered", "identity-not-delivered"]).await;
        unmount(&target);
        finds(&node, &[]).await;
        unmount(&target);
        finds(&node, &["volume-not-mounted", "identity-not-delivered"]).await;
        let (code, answer) = doctor(&node, &["--pod=shop/web"]);
        let steps = answer["steps"].as_array().unwrap();
        assert!(code == 2 && steps.last().unwrap()["what"] == "the volume is mounted into the pod", "{answer}");
        fs::remove_dir_all(node.kubelet.pods_dir().join(pod("web").uid)).unwrap();
        let found = ids(&node);
        assert!(found.contains("volume-of-gone-pod") && !found.contains("volume-not-mounted"), "{found:?}");
    });
}

#[test]
fn a_pod_is_followed_to_its_end() {
    test(async || {
        let node = healthy(&[]).await;
        let (_, answer) = doctor(&node, &["--pod=shop/web"]);
        assert_eq!(answer["steps"].as_array().unwrap().len(), 6 + usize::from(answer["worst"] != "fault"), "{answer}");
        let (code, answer) = doctor(&node, &["--pod=shop/none"]);
        let last = answer["steps"].as_array().unwrap().last().unwrap().clone();
        assert_eq!(code, 2);
        let ids: Vec<_> = last["findings"].as_array().unwrap().iter().map(|finding| finding["id"].clone()).collect();
        assert!(ids.contains(&"pod-without-volume".into()), "{answer}");
        let (code, text) = output(&mut super::command(&node, &["--pod=shop/none"]));
        assert!(code == 2 && text.contains("shop/none: it stops at the step"), "{text}");
    });
}

#[test]
fn a_pods_folder_that_is_not_shared() {
    test(async || {
        let node = healthy(&[]).await;
        let (_, answer) = doctor(&node, &[]);
        for id in super::OF_NAMESPACE {
            assert!(found(&answer).any(|finding| finding["id"] == id), "{id} in {answer}");
        }
    });
}

#[test]
fn an_agent_that_is_missing_silent_or_dead() {
    test(async || {
        let node = Node::passthrough(PODS).await;
        finds(&node, &["agent-directory-missing"]).await;
        fs::create_dir(node.path("run/agent")).unwrap();
        finds(&node, &["agent-directory-empty"]).await;
        let listener = listen(&node.path("run/agent/agent.sock"));
        node.publish(&volume("web")).await;
        finds(&node, &[]).await;
        drop(listener);
        finds(&node, &["agent-socket-dead"]).await;
    });
}

#[test]
fn an_agents_directory_that_does_not_heal_and_is_replaced() {
    test(async || {
        let mut node = Node::new(&[crate::fixture::PASSTHROUGH, &["--data-root={dir}/root"], PODS]);
        on_tmpfs(&node);
        let _agent = listen(&node.path("run/agent/agent.sock"));
        node.start().await;
        node.publish(&volume("web")).await;
        finds(&node, &["agent-directory-does-not-heal"]).await;
        unmount(&node.path("run/agent"));
        on_tmpfs(&node);
        let _agent = listen(&node.path("run/agent/agent.sock"));
        finds(&node, &["agent-directory-does-not-heal", "agent-directory-replaced"]).await;
        // Another program's mount is not the agent's.
        hide(&node.kubelet.target(&volume("web")));
        finds(&node, &["agent-directory-does-not-heal", "volume-covered"]).await;
    });
}
