//! Pods whose identities the driver asks the Broker API for.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use svid_csi_cluster::eventually::throughout;
use svid_csi_cluster::issuers::SigningCa;
use svid_csi_cluster::objects;
use svid_csi_cluster::predecessor;
use svid_csi_cluster::spire::{AccessPolicy, BROKER_ID, Entry};

use super::{Stage, labelled, play_with};
use crate::eventually::{SOON, eventually};
use crate::files::ensure_verified;
use crate::pods::{MOUNT, PodSpec, TestPod, json_lines};
use crate::workload_api::SOCKET;

/// Waits until the pod has files that verify, and returns what they are.
async fn wait_verified(stage: &Stage<'_>, pod: &TestPod<'_>) -> Result<Value> {
    eventually(&format!("the files of {} to verify", pod.name), SOON, async || {
        let seen = pod.verify_files().await?;
        ensure_verified(stage.scene, &seen)?;
        Ok(seen)
    })
    .await
}

/// Waits until the pod has another certificate than `before`.
async fn wait_other(
    stage: &Stage<'_>,
    pod: &TestPod<'_>,
    before: &Value,
    what: &str,
    patience: Duration,
) -> Result<()> {
    eventually(what, patience, async || {
        let now = wait_verified(stage, pod).await?;
        ensure!(now["serial"] != before["serial"], "{now}");
        Ok(())
    })
    .await
}

async fn wait_withdrawn(pod: &TestPod<'_>) -> Result<()> {
    eventually(&format!("the files of {} to be withdrawn", pod.name), SOON, async || {
        let names = pod.exec(&["ls", MOUNT]).await?;
        ensure!(!names.contains("tls."), "it has {names}");
        Ok(())
    })
    .await
}

#[tokio::test]
#[ignore = "needs SPIRE: just foreign"]
async fn files_follow_the_entry_of_their_pod() {
    play_with("e2e-spire-files", AccessPolicy::Permissive, async |stage: &Stage<'_>| {
        let driver = "spire-files.svid-csi";
        stage.deploy(driver, "files").await?;
        let pod = stage.scene.create(&labelled(PodSpec::on_files("user", driver), "user")).await?;
        pod.wait_event("the missing entry", |message| message.contains("k8s:sa:default")).await?;
        let entry = stage.register_pods("user", &[])?;
        pod.wait_running().await?;
        let first = wait_verified(stage, &pod).await?;

        stage.spire.deregister(&entry)?;
        wait_withdrawn(&pod).await?;
        let entry = stage.register_pods("user", &["-x509SVIDTTL", "40"])?;
        let second = wait_verified(stage, &pod).await.context("with the entry created again")?;
        ensure!(first["serial"] != second["serial"], "the withdrawn certificate is back: {second}");
        wait_other(stage, &pod, &second, "a rotation by the agent", 2 * SOON).await?;

        stage.spire.kill_agent();
        let kept = wait_verified(stage, &pod).await?;
        stage.spire.restart_agent().await?;
        wait_other(stage, &pod, &kept, "an identity from the restarted agent", SOON).await?;
        stage.spire.deregister(&entry)?;
        wait_withdrawn(&pod).await?;
        ensure!(pod.restarts().await? == 0, "the pod was restarted");
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs SPIRE: just foreign"]
async fn sockets_serve_every_identity_tokens_and_bundles() {
    play_with("e2e-spire-api", AccessPolicy::Permissive, async |stage: &Stage<'_>| {
        let driver = "spire-api.svid-csi";
        stage.deploy(driver, "workload-api").await?;
        stage.register_pods("user", &["-hint", "internal"])?;
        let other = "spiffe://example.org/other";
        stage.spire.register(Entry {
            id: other,
            selectors: &[&stage.in_namespace(), "k8s:pod-label:app:user"],
            more: &["-hint", "external"],
        })?;
        let pod = stage.scene.run(&labelled(PodSpec::watching("user", driver, SOCKET), "user")).await?;
        let id = stage.identity();
        let both = |line: &Value| {
            let ids: Vec<_> = line["svids"].as_array().into_iter().flatten().map(|svid| &svid["spiffe_id"]).collect();
            ids.contains(&&Value::from(other)) && ids.contains(&&Value::from(id.clone()))
        };
        pod.wait_line("both identities", 0, both).await?;
        let once = ["/bin/svid-csi", "watch", "--once", "--json", "--audience", "vault", SOCKET[0], SOCKET[1]];
        let tokens = json_lines(&pod.exec(&once).await?);
        let subjects: Vec<_> = tokens[0]["tokens"].as_array().into_iter().flatten().map(|one| &one["sub"]).collect();
        ensure!(subjects.contains(&&Value::from(id.clone())), "{tokens:?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs SPIRE: just foreign"]
async fn an_enforced_policy_refuses_the_driver_until_a_role_allows_it() {
    play_with("e2e-spire-policy", AccessPolicy::Enforced, async |stage: &Stage<'_>| {
        let driver = "spire-policy.svid-csi";
        stage.deploy(driver, "files").await?;
        stage.register_pods("user", &[])?;
        let pod = stage.scene.create(&labelled(PodSpec::on_files("user", driver), "user")).await?;
        pod.wait_event("the denial", |message| message.contains("PermissionDenied")).await?;

        let rules = [predecessor::rule("", "pods", &["impersonate-via-spire"])];
        let mut role = predecessor::role(&stage.scene.name, "impersonate", ("", ""), &rules);
        role[1]["subjects"] =
            serde_json::json!([{"kind": "User", "name": BROKER_ID, "apiGroup": "rbac.authorization.k8s.io"}]);
        objects::apply(&stage.scene.client, &role).await?;
        pod.wait_running().await?;
        wait_verified(stage, &pod).await.map(drop)
    })
    .await;
}

#[tokio::test]
#[ignore = "needs SPIRE: just foreign"]
async fn pods_keep_their_files_while_the_server_is_down_and_after_an_eviction() {
    play_with("e2e-spire-outage", AccessPolicy::Permissive, async |stage: &Stage<'_>| {
        let driver = "spire-outage.svid-csi";
        stage.deploy(driver, "files").await?;
        stage.register_pods("user", &["-x509SVIDTTL", "60"])?;
        let pod = stage.scene.run(&labelled(PodSpec::on_files("user", driver), "user")).await?;
        let first = wait_verified(stage, &pod).await?;

        // Past half of the lifetime, at which the agent rotates.
        stage.spire.kill_server();
        throughout("the files verify", Duration::from_secs(35), async || {
            ensure_verified(stage.scene, &pod.verify_files().await?)
        })
        .await?;
        stage.spire.start_server().await?;
        wait_other(stage, &pod, &first, "the agent to rotate", SOON).await?;

        let agents = stage.spire.ask(&["agent", "list"])?;
        let path = agents["agents"][0]["id"]["path"].as_str().context("no agent is listed")?.to_owned();
        stage.spire.ask(&["agent", "evict", "-spiffeID", &format!("spiffe://example.org{path}")])?;
        let before = wait_verified(stage, &pod).await?;
        stage.spire.restart_agent().await?;
        wait_other(stage, &pod, &before, "an identity from the agent that attested again", SOON).await?;
        ensure!(pod.restarts().await? == 0, "the pod was restarted");
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs SPIRE: just foreign"]
async fn federated_bundles_follow_the_server() {
    play_with("e2e-spire-federated", AccessPolicy::Permissive, async |stage: &Stage<'_>| {
        let driver = "spire-federated.svid-csi";
        stage.deploy(driver, "files").await?;
        let [first, second] = ["first", "second"].map(SigningCa::create);
        let (first, second) = (first?, second?);
        stage.spire.federate("other.org", first.certificate())?;
        stage.register_pods("user", &["-federatesWith", "spiffe://other.org"])?;
        let attributes = serde_json::json!({"svid-csi/file-bundle-map": "bundles.json"});
        let spec = PodSpec { attributes, ..PodSpec::on_files("user", driver) };
        let pod = stage.scene.run(&labelled(spec, "user")).await?;
        let authorities = async |count: usize| {
            eventually(&format!("{count} authorities of other.org"), SOON, async || {
                let text = pod.exec(&["cat", "/spiffe/bundles.json"]).await?;
                let map: Value = serde_json::from_str(&text)?;
                let keys = map["trust_domains"]["other.org"]["keys"].as_array().map(Vec::len);
                ensure!(keys == Some(count), "{text}");
                Ok(())
            })
            .await
        };
        authorities(1).await?;
        stage.spire.federate("other.org", &[first.certificate(), second.certificate()].concat())?;
        authorities(2).await?;
        wait_verified(stage, &pod).await.map(drop)
    })
    .await;
}
