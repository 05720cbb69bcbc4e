//! `kubectl svid renew`.

use std::process::ExitCode;

use anyhow::Result;

use crate::arguments::RenewArguments;
use crate::cluster::Cluster;
use crate::drivers::{self, DriverPod};
use crate::{exec, pods, printing};

/// Renews the volumes of a pod, or of a node.
pub(crate) async fn run(cluster: &Cluster, options: &RenewArguments) -> Result<ExitCode> {
    if let Some(pod) = &options.pod {
        let pod = pods::find(cluster, pod).await?;
        return on_each(cluster, &pod.drivers, &["renew", "--pod", &pod.name]).await;
    }
    on_each(cluster, &drivers::find(cluster, options.node.as_deref()).await?, &["renew", "--all"]).await
}

/// Runs a command in these drivers, one after the other, and prints its output. The exit code is the worst.
pub(crate) async fn on_each(cluster: &Cluster, drivers: &[DriverPod], words: &[&str]) -> Result<ExitCode> {
    let mut worst = 0;
    for driver in drivers {
        if drivers.len() > 1 {
            printing::note(&format!("driver pod {}/{}:", driver.namespace, driver.name));
        }
        match exec::pass_on(cluster, driver, words).await {
            Ok(code) => worst = worst.max(code),
            // The label is generic: another one may be the driver.
            Err(why) => {
                printing::note(&format!(
                    "error: node {}, driver pod {}/{}: {why}",
                    driver.node, driver.namespace, driver.name
                ));
                worst = 2;
            }
        }
    }
    Ok(ExitCode::from(worst))
}
