//! An issuer that a ConfigMap names while driver and approver run.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use svid_csi_cluster::issuers::{self, SigningCa};
use svid_csi_cluster::{objects, predecessor};
use svid_csi_core::cert_request::IssuerRef;

use super::stage::{Stage, play_with};
use crate::files::ensure_verified;
use crate::pods::PodSpec;

const MAP: &str = "issuer";

fn config_map(namespace: &str, issuer: &IssuerRef) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": MAP, "namespace": namespace},
        "data": {"issuer-name": issuer.name, "issuer-kind": issuer.kind, "issuer-group": issuer.group},
    })
}

#[tokio::test]
async fn a_config_map_that_appears_changes_and_vanishes_is_followed() {
    play_with("e2e-switch", Duration::from_secs(3600), async |stage: &Stage<'_>| {
        let (scene, name) = (stage.scene, &stage.scene.name);
        stage.announce(Some(MAP)).await?;
        stage.put(&predecessor::requester(name, "default")).await?;
        let [second, third] = ["second", "third"].map(SigningCa::create);
        let (second, third) = (second?, third?);
        let cluster = format!("{name}-second");
        stage.put(&[second.secret(None, &cluster), third.secret(Some(name), "third")]).await?;
        stage.put_issuer(&issuers::ca_cluster_issuer(&cluster, &cluster)).await?;
        stage.put_issuer(&issuers::ca_issuer(name, "third", "third")).await?;

        let all = [stage.ca.certificate(), second.certificate(), third.certificate()];
        let bundle = format!("--source-ca-bundle={}", stage.write_bundle(&all)?.display());
        let map = format!("--runtime-issuance-config-map-name={MAP}");
        let place = format!("--runtime-issuance-config-map-namespace={name}");
        let _approver = stage.approver(&[&map, &place]).await?;
        stage.driver(&[&map, &place, &bundle]).await?;

        let of_flags = reference(name, "ClusterIssuer");
        ensure_issued_by(stage, "before", &of_flags).await?;
        for (pod, issuer) in
            [("appeared", reference(&cluster, "ClusterIssuer")), ("changed", reference("third", "Issuer"))]
        {
            objects::apply(&scene.client, &[config_map(name, &issuer)]).await?;
            ensure_issued_by(stage, pod, &issuer).await?;
        }
        objects::delete(&scene.client, &[config_map(name, &of_flags)]).await?;
        ensure_issued_by(stage, "vanished", &of_flags).await
    })
    .await;
}

fn reference(name: &str, kind: &str) -> IssuerRef {
    IssuerRef { name: name.to_owned(), kind: kind.to_owned(), group: "cert-manager.io".to_owned() }
}

/// Starts pods until a request goes to that issuer, because driver and approver receive the ConfigMap with a delay.
async fn ensure_issued_by(stage: &Stage<'_>, name: &str, issuer: &IssuerRef) -> Result<()> {
    for attempt in 0..5 {
        let name = format!("{name}-{attempt}");
        let pod = stage.scene.run(&PodSpec::on_files(&name, &stage.driver_name())).await?;
        ensure_verified(stage.scene, &pod.verify_files().await?)?;
        let last = stage.requests_of(&pod).await?.pop().context("the pod has no request")?;
        if last.spec.issuer_ref == *issuer {
            return Ok(());
        }
    }
    ensure!(false, "after {name}, nobody asks {issuer:?}");
    Ok(())
}
