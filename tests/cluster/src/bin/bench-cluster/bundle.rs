//! The time until a changed trust bundle is in every volume of a node.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use svid_csi_cluster::eventually::{SOON, eventually};
use svid_csi_cluster::files;
use svid_csi_cluster::issuers::SigningCa;
use svid_csi_testkit::measure::Figure;

use crate::publish::{at_once, unpublish};
use crate::world::World;

const VOLUMES: usize = 250;

pub(crate) async fn measure(world: &World) -> Result<Vec<Figure>> {
    let terms = world.terms(Duration::from_secs(3600));
    let _approver = world.approver(&terms).await?;
    let path = world.folder.join("bundle.pem");
    files::write(&path, world.ca.certificate())?;
    let (_driver, plugin) =
        world.driver_with(&terms, vec!["--source-ca-bundle".to_owned(), path.display().to_string()]).await?;
    let volumes = world.volumes("bundle", VOLUMES).await?;
    at_once(&world.kubelet, &plugin, &volumes).await?;
    let next = format!("{}{}", world.ca.certificate(), SigningCa::create("next")?.certificate());
    let changed = Instant::now();
    files::write(&path, &next)?;
    for volume in &volumes {
        let bundle = world.kubelet.target(volume).join("ca.crt");
        eventually("the new bundle in every volume", SOON, async || {
            let certificates = fs::read_to_string(&bundle)?.matches("BEGIN CERTIFICATE").count();
            ensure!(certificates == 2, "there are {certificates} certificates");
            Ok(())
        })
        .await?;
    }
    let took = changed.elapsed().as_secs_f64();
    unpublish(&world.kubelet, &plugin, &volumes).await?;
    Ok(vec![Figure::new(format!("a changed bundle in all of {VOLUMES} volumes"), took, "s").at_most(2.0)])
}
