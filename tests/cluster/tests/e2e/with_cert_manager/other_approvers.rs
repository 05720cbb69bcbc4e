//! Requests that are not for SPIFFE identities, and other approvers.

use std::time::Duration;

use anyhow::ensure;
use k8s_openapi::api::core::v1::Event;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};
use svid_csi_cluster::cert_manager::{DefaultApprover, NAMESPACE};
use svid_csi_cluster::program::metric;
use svid_csi_cluster::requests;
use svid_csi_cluster::{issuers, objects, predecessor};

use super::stage::{Stage, play_beside, play_with};
use crate::eventually::{SOON, eventually};
use crate::pods::PodSpec;

/// The certificate of a CA that another issuer signs, as the predecessor's documentation begins with one.
pub fn ca_certificate(name: &str, issuer: &str) -> Value {
    json!({
        "apiVersion": "cert-manager.io/v1",
        "kind": "Certificate",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "commonName": name,
            "secretName": name,
            "duration": "2160h",
            "isCA": true,
            "issuerRef": {"name": issuer, "kind": "ClusterIssuer", "group": "cert-manager.io"},
        },
    })
}

#[tokio::test]
async fn the_cas_own_request_is_approved_if_the_default_approver_is_off() {
    play_with("e2e-own-ca", Duration::from_secs(3600), async |stage: &Stage<'_>| {
        let name = format!("{}-signed", stage.scene.name);
        stage.announce(None).await?;
        let approver = stage.approver(&["--auto-approve-non-spiffe"]).await?;
        stage.put_issuer(&issuers::self_signed_cluster_issuer(&format!("{name}-root"))).await?;
        let certificate = ca_certificate(&name, &format!("{name}-root"));
        stage.put(std::slice::from_ref(&certificate)).await?;
        eventually("the CA's certificate", SOON, async || {
            let seen = objects::get(&stage.scene.client, &certificate).await?;
            let conditions = seen["status"]["conditions"].as_array().cloned().unwrap_or_default();
            ensure!(conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"), "{conditions:?}");
            Ok(())
        })
        .await?;
        stage.put_issuer(&issuers::ca_cluster_issuer(&name, &name)).await?;
        let approved =
            metric(&approver.metrics().await?, "svid_csi_approver_decisions_total", &["decision=\"approved\""]);
        ensure!(approved >= Some(1.0), "it approved {approved:?}");
        // The secret belongs to cert-manager, which re-creates it as long as the certificate exists.
        objects::delete(&stage.scene.client, &[certificate, secret(&name)]).await
    })
    .await;
}

fn secret(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": NAMESPACE}})
}

#[tokio::test]
async fn a_default_approver_left_on_by_mistake_is_noticed() {
    play_beside("e2e-left-on", Duration::from_secs(3600), DefaultApprover::On, async |stage: &Stage<'_>| {
        let scene = stage.scene;
        stage.announce(None).await?;
        stage.put(&predecessor::requester(&scene.name, "default")).await?;
        let pod = scene.run(&PodSpec::idle("asker")).await?;
        let client = stage.client_of(&pod, "default").await?;
        let approver = stage.approver(&[]).await?;
        let events: Api<Event> = scene.api();
        eventually("the other approver to be noticed", 2 * SOON, async || {
            // Each is a race between the two, which ours may win.
            requests::create(&client, &stage.terms.request(&stage.pod_ref(&pod, "default"))?).await?;
            let counted = metric(&approver.metrics().await?, "svid_csi_approver_approved_by_another_total", &[]);
            ensure!(counted >= Some(1.0), "it counts {counted:?}");
            let seen = events.list(&ListParams::default()).await?.items;
            let mut messages = seen.iter().filter_map(|event| event.message.as_deref());
            let advice = "--controllers=*,-certificaterequests-approver";
            ensure!(messages.any(|message| message.contains(advice)), "no event says what to do");
            Ok(())
        })
        .await
    })
    .await;
}
