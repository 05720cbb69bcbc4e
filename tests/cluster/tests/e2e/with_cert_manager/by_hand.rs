//! cert-manager itself, without a driver and without an approver.

use std::time::Duration;

use anyhow::{Context, ensure};
use kube::ResourceExt;
use svid_csi_cluster::predecessor;
use svid_csi_cluster::requests::{self, approve, wait_condition};
use svid_csi_core::cert_request::{Issued, Progress};

use super::stage::{Stage, play_with};
use crate::pods::PodSpec;

#[tokio::test]
async fn a_request_of_a_pod_is_stamped_and_once_approved_signed() {
    play_with("e2e-by-hand", Duration::from_secs(3600), async |stage: &Stage<'_>| {
        let scene = stage.scene;
        stage.put(&predecessor::requester(&scene.name, "default")).await?;
        let pod = scene.run(&PodSpec::idle("asker")).await?;
        let client = stage.client_of(&pod, "default").await?;
        let object = stage.terms.request(&stage.pod_ref(&pod, "default"))?;
        let name = requests::create(&client, &object).await?;

        let seen = stage.requests().get(&name).await?;
        let user = format!("system:serviceaccount:{}:default", scene.name);
        ensure!(seen.spec.username == user, "it is stamped with {:?}", seen.spec.username);
        let stamp = seen.spec.extra.get("authentication.kubernetes.io/pod-uid").context("no UID of the pod")?;
        ensure!(stamp[..] == [pod.uid.clone()], "it is stamped with pod {stamp:?}");

        approve(&stage.requests(), &name).await?;
        wait_condition(&stage.requests(), &name, "Ready").await?;
        let signed = stage.requests().get(&name).await?;
        let Progress::Issued(Issued { chain, .. }) = Progress::read(signed.status.as_ref())? else {
            anyhow::bail!("{} is ready without a certificate", signed.name_any());
        };
        ensure!(chain.len() == 1, "a root signs, and the chain has {} certificates", chain.len());
        Ok(())
    })
    .await;
}
