//! Pods whose identities come from a real SPIRE, which takes minutes to build: `just foreign`.

mod broker;
mod client;
mod rotation;
mod socket;

use anyhow::Result;
use svid_csi_cluster::accounts;
use svid_csi_cluster::objects;
use svid_csi_cluster::predecessor;
use svid_csi_cluster::spire::{AGENT_ACCOUNT, AGENT_AUDIENCE, AccessPolicy, BROKER_ID, Entry, Spire};

use crate::daemonset::{Driver, OWN, Plan, registration_args, words};
use crate::pods::PodSpec;
use crate::scene::{Scene, play};

/// A scene with a server, an agent, and an entry for the driver.
pub(crate) struct Stage<'a> {
    pub(crate) scene: &'a Scene,
    pub(crate) spire: Spire,
}

/// Runs a test on a stage of its own.
pub(crate) async fn play_with(name: &str, policy: AccessPolicy, story: impl AsyncFnOnce(&Stage<'_>) -> Result<()>) {
    play(name, async |scene: &Scene| {
        objects::apply(&scene.client, &[predecessor::account_of(&scene.name, AGENT_ACCOUNT)]).await?;
        let spire = Spire::start(&scene.layout, &scene.folder, &scene.name, policy).await?;
        let stage = Stage { scene, spire };
        stage.spire.start_agent(&stage.agent_token().await?).await?;
        stage.spire.register(Entry {
            id: BROKER_ID,
            selectors: &[&stage.in_namespace(), "k8s:pod-label:app:driver"],
            more: &[],
        })?;
        story(&stage).await
    })
    .await;
}

impl Stage<'_> {
    /// A token of the agent's account, bound to a pod of this node, as an agent in a DaemonSet has.
    async fn agent_token(&self) -> Result<String> {
        let pod = self.scene.run(&PodSpec { account: AGENT_ACCOUNT, ..PodSpec::idle("spire-agent") }).await?;
        let bound = accounts::Pod { name: &pod.name, uid: &pod.uid };
        accounts::token_for(&self.scene.client, &self.scene.name, AGENT_ACCOUNT, bound, AGENT_AUDIENCE).await
    }

    fn in_namespace(&self) -> String {
        format!("k8s:ns:{}", self.scene.name)
    }

    /// The SPIFFE ID that the pods get.
    pub(crate) fn identity(&self) -> String {
        format!("spiffe://example.org/ns/{}/sa/default", self.scene.name)
    }

    /// Creates an entry for the pods with that label `app`, and returns its id.
    pub(crate) fn register_pods(&self, app: &str, more: &[&str]) -> Result<String> {
        let label = format!("k8s:pod-label:app:{app}");
        self.spire.register(Entry { id: &self.identity(), selectors: &[&self.in_namespace(), &label], more })
    }

    /// A driver that asks the agent's Broker API.
    pub(crate) async fn deploy(&self, driver: &str, delivery: &str) -> Result<Driver<'_>> {
        let scene = self.scene;
        scene.announce_files(driver).await?;
        let mut args = words(&["driver", "--source", "broker", "--delivery", delivery, "--data-root", "/data"]);
        args.extend(words(&["--broker-socket", "/agent/broker/api.sock"]));
        args.extend(words(&["--workload-api-socket-dir", "/agent/sockets", "--driver-name", driver]));
        args.extend(words(&["--node-id", "$(NODE_NAME)", "--endpoint", "unix:///plugin/csi.sock"]));
        args.extend(registration_args(scene, driver));
        let deployed = scene.deploy(&Plan { manifest: OWN, driver, args }).await?;
        scene.wait_registered(driver).await?;
        Ok(deployed)
    }
}

/// A pod with that label `app`.
pub(crate) fn labelled<'a>(spec: PodSpec<'a>, app: &str) -> PodSpec<'a> {
    PodSpec { labels: serde_json::json!({"app": app}), ..spec }
}
