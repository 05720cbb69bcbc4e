//! A node with an agent.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use svid_csi_testkit::agent::{Agent, Call, Entry};

use crate::endpoints::{status, sum_of_metric};
use crate::fixture::{Node, TestName, named_test, pod, volume};

const COMMON: &[&str] = &[
    "--driver-name=csi.spiffe.io",
    "--source=broker",
    "--data-root={dir}/root",
    "--admin-socket={dir}/admin.sock",
    "--metrics-address=127.0.0.1:0",
    "--workload-api-socket-dir={dir}/run/agent",
];
pub(crate) const SOCKET: &[&str] = &["--broker-socket={dir}/run/broker/api.sock"];
pub(crate) const FILES: &[&str] = &["--delivery=files"];
pub(crate) const WORKLOAD_API: &[&str] = &["--delivery=workload-api"];

/// A node whose driver uses an agent.
pub(crate) struct Scene {
    pub(crate) agent: Agent,
    pub(crate) node: Node,
}

/// Runs a test on a node whose driver delivers files and is connected to the agent.
pub(crate) fn files_test(body: impl AsyncFnOnce(Scene)) {
    scene_test(&[FILES, SOCKET], body);
}

/// The same with sockets.
pub(crate) fn workload_api_test(body: impl AsyncFnOnce(Scene)) {
    scene_test(&[WORKLOAD_API, SOCKET], body);
}

/// The same with additional flags.
pub(crate) fn scene_test(args: &[&[&str]], body: impl AsyncFnOnce(Scene)) {
    named_test(&TestName::of(&body), async || body(Scene::running(args).await).await);
}

/// Runs a test on a node before the agent and the driver are started.
pub(crate) fn prepared_test(args: &[&[&str]], body: impl AsyncFnOnce(Scene)) {
    named_test(&TestName::of(&body), async || body(Scene::prepared(args)).await);
}

/// The SPIFFE ID that the tests register for a pod.
pub(crate) fn id(pod_name: &str) -> String {
    format!("spiffe://example.org/{pod_name}")
}

impl Scene {
    /// Neither the agent nor the driver is started yet.
    pub(crate) fn prepared(args: &[&[&str]]) -> Self {
        let args: Vec<_> = [COMMON].into_iter().chain(args.iter().copied()).collect();
        let node = Node::new(&args);
        let agent = Agent::prepared(&node.path("run"));
        Scene { agent, node }
    }

    /// The driver is connected to the agent.
    pub(crate) async fn running(args: &[&[&str]]) -> Self {
        let mut scene = Self::prepared(args);
        scene.agent.resume();
        scene.node.start().await;
        scene.connected().await;
        scene
    }

    /// Registers an entry for a pod.
    pub(crate) fn register(&self, pod_name: &str) {
        self.agent.register(&pod(pod_name), &[Entry::new(&id(pod_name))]);
    }

    /// Registers an entry for a pod and publishes a volume of it.
    pub(crate) async fn registered(&self, pod_name: &str) -> PathBuf {
        self.register(pod_name);
        self.node.publish(&volume(pod_name)).await
    }

    pub(crate) async fn connected(&self) {
        self.until("a connection", || (self.agent.connections().now == 1).then_some(())).await;
    }

    /// Waits until `probe` returns something; it is called after every change, call and connection.
    pub(crate) async fn until<T>(&self, what: &str, probe: impl FnMut() -> Option<T>) -> T {
        tokio::select! {
            biased;
            found = self.agent.until(what, probe) => found,
            () = self.complain_later(what) => unreachable!("the test has panicked"),
        }
    }

    async fn complain_later(&self, what: &str) {
        tokio::time::sleep(Duration::from_secs(115)).await;
        panic!("still waiting: {what}\n{:#?}\n{}", self.agent.calls(), self.node.log());
    }

    /// The subscriptions to a pod so far.
    pub(crate) fn subscriptions(&self, pod_name: &str) -> Vec<Call> {
        let uid = pod(pod_name).uid;
        self.agent.calls_of("SubscribeToX509SVID").into_iter().filter(|call| call.uid == uid).collect()
    }

    pub(crate) async fn status(&self) -> serde_json::Value {
        status(&self.node).await
    }

    pub(crate) async fn metric(&self, name: &str) -> f64 {
        sum_of_metric(&self.node, name).await
    }

    /// The number of issued identities in the audit log.
    pub(crate) fn issued(&self) -> usize {
        self.node.log().matches("identity issued").count()
    }
}

pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).map(|entries| entries.map(|entry| entry.unwrap().file_name()));
    let mut names: Vec<_> = entries.into_iter().flatten().map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}
