//! Lets the API server validate everything that users apply, without storing it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use svid_csi_cluster::kubectl;
use svid_csi_cluster::predecessor;
use svid_csi_cluster::tools::Tools;

use super::release::{Release, with_release};
use crate::predecessors::{SPIFFE, only_spiffe};
use crate::scene::Scene;
use crate::with_cert_manager::stage::{Stage, play_with};

const PROFILES: [(&str, &str); 3] = [("standalone", SPIFFE), ("spire", SPIFFE), ("cert-manager", predecessor::DRIVER)];
/// In these namespaces, because a dry run does not create namespaces for later objects.
const NAMESPACES: [&str; 3] = ["svid-csi", "example", "spire"];
/// Its kind of object belongs to another project.
const FOREIGN: &str = "clusterspiffeid.yaml";
/// An example of these is for the chart.
const VALUES: &str = "values.yaml";

#[tokio::test]
async fn the_api_server_accepts_every_profile_manifest_and_example() {
    // With cert-manager's kinds of objects, and without another driver of these names.
    let _one = only_spiffe().await;
    play_with("e2e-dry-run", Duration::from_secs(3600), async |stage: &Stage<'_>| {
        let examples = stage.scene.layout.repo.join("deploy/examples");
        with_release(stage.scene, SPIFFE, async |release| dry_install(release, &examples).await).await?;
        let namespaces =
            NAMESPACES.map(|name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
        stage.put(&namespaces).await?;
        let mut files = yaml_files(&stage.scene.layout.repo.join("deploy/manifests"))?;
        files.extend(yaml_files(&examples)?);
        ensure!(files.len() >= 10, "there are only {files:?}");
        for file in files {
            dry_apply(stage.scene, &file)?;
        }
        Ok(())
    })
    .await;
}

async fn dry_install(release: &Release<'_>, examples: &Path) -> Result<()> {
    for (profile, driver) in PROFILES {
        dry_install_of(release, profile, driver, &json!({})).await?;
    }
    let gke = std::fs::read_to_string(examples.join("gke").join(VALUES))?;
    dry_install_of(release, "standalone", "podcertificate.gke.io", &serde_saphyr::from_str(&gke)?).await
}

async fn dry_install_of(release: &Release<'_>, profile: &str, driver: &str, values: &Value) -> Result<()> {
    let said = release.dry_run(profile, values).await.context(driver.to_owned())?;
    ensure!(said.contains("STATUS: pending-install") && said.contains(&format!("name: {driver}")), "{said}");
    Ok(())
}

fn dry_apply(scene: &Scene, file: &Path) -> Result<()> {
    let (tools, path) = (Tools::new(&scene.layout), file.display().to_string());
    kubectl::ask(&scene.layout, &tools, &["apply", "--dry-run=server", "--validate=strict", "-f", &path]).map(drop)
}

/// The files in a folder and its subfolders, except those that this cluster does not support.
fn yaml_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(yaml_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "yaml")
            && !path.ends_with(FOREIGN)
            && !path.ends_with(VALUES)
        {
            found.push(path);
        }
    }
    Ok(found)
}
