//! The CSI project's own conformance tests, with the driver and cert-manager as its source.

use std::time::Duration;

use super::stage::{Stage, play_with};
use crate::sanity::{COMMON, ensure_passes};

#[tokio::test]
async fn csi_sanity_passes_for_a_driver_of_cert_manager() {
    play_with("e2e-sanity-cm", Duration::from_secs(3600), async |stage: &Stage<'_>| {
        let kubeconfig = stage.scene.layout.kubeconfig().display().to_string();
        let mut args = vec!["--profile", "spiffe.csi.cert-manager.io", "--kubeconfig", &kubeconfig];
        args.extend(["--issuer-name", &stage.terms.issuer, "--trust-domain", &stage.terms.trust_domain]);
        ensure_passes(stage.scene, &args, COMMON).await
    })
    .await;
}
