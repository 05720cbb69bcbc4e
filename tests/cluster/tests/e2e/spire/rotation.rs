//! The server's authority is replaced while many pods use their identities.

use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use svid_csi::spiffe::svid::Svid;
use svid_csi_cluster::spire::AccessPolicy;
use svid_csi_core::identity::leads_to;

use super::{Stage, labelled, play_with};
use crate::eventually::{SOON, eventually};
use crate::mountpoints::target;
use crate::pods::{PodSpec, TestPod};

/// As many as a node has by default.
const PODS: usize = 110;

#[tokio::test]
#[ignore = "needs SPIRE: just foreign"]
async fn every_chain_leads_to_every_bundle_while_the_authority_is_replaced() {
    play_with("e2e-spire-rotate", AccessPolicy::Permissive, async |stage: &Stage<'_>| {
        let driver = "spire-rotate.svid-csi";
        stage.deploy(driver, "files").await?;
        stage.register_pods("user", &[])?;
        let names: Vec<_> = (0..PODS).map(|index| format!("user-{index}")).collect();
        let mut pods = Vec::new();
        for name in &names {
            let spec = PodSpec::new(name, driver, vec!["/bin/sleep", "2147483647"]);
            pods.push(stage.scene.create(&labelled(spec, "user")).await?);
        }
        for pod in &pods {
            eventually(&format!("pod {} to run", pod.name), 5 * SOON, async || pod.wait_running().await).await?;
        }
        let old = read_all(stage, &pods)?;
        stage
            .spire
            .rotate_authority(async |step| {
                let expected = match step {
                    "prepared" => "both authorities in every bundle",
                    "activated" | "tainted" => "chains of the new authority",
                    _ => "only the new authority in every bundle",
                };
                eventually(&format!("{expected} ({step})"), 2 * SOON, async || {
                    let now = read_all(stage, &pods)?;
                    all_fit(&now).with_context(|| format!("after the authority was {step}"))?;
                    let done = now.iter().zip(&old).all(|(now, old)| match step {
                        "prepared" => now.bundle.len() == 2,
                        "activated" => true,
                        "tainted" => now.chain != old.chain,
                        _ => now.bundle.len() == 1 && now.bundle != old.bundle,
                    });
                    ensure!(done, "not yet");
                    Ok(())
                })
                .await
            })
            .await
    })
    .await;
}

fn read_all(stage: &Stage<'_>, pods: &[TestPod<'_>]) -> Result<Vec<Svid>> {
    pods.iter().map(|pod| read(&target(stage.scene, pod)).with_context(|| pod.name.clone())).collect()
}

/// One generation: the files may be swapped meanwhile, and are read again then.
fn read(volume: &Path) -> Result<Svid> {
    for _ in 0..100 {
        let generation = volume.join(std::fs::read_link(volume.join("..data"))?);
        if let Ok(svid) = Svid::read(&generation) {
            return Ok(svid);
        }
    }
    Ok(Svid::read(volume)?)
}

/// Fails if some pod would refuse another one.
fn all_fit(pods: &[Svid]) -> Result<()> {
    let now = SystemTime::now();
    let mut judged = std::collections::HashSet::new();
    for chain in pods.iter().map(|pod| &pod.chain) {
        for bundle in pods.iter().map(|pod| &pod.bundle) {
            if judged.insert((chain, bundle)) {
                leads_to(chain, bundle, now)?;
            }
        }
    }
    Ok(())
}
