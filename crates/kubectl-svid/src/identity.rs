//! `kubectl svid identity`.

use std::process::ExitCode;

use anyhow::Result;

use crate::arguments::IdentityArguments;
use crate::cluster::Cluster;
use crate::{pods, renew};

/// The identity of a pod, according to its node's driver.
pub(crate) async fn run(cluster: &Cluster, options: &IdentityArguments) -> Result<ExitCode> {
    let pod = pods::find(cluster, &options.pod).await?;
    let mut words = vec!["identity", "--pod", &pod.name];
    words.extend(options.json.then_some("--json"));
    words.extend(options.pem.then_some("--pem"));
    renew::on_each(cluster, &pod.drivers, &words).await
}
