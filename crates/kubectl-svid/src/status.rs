//! `kubectl svid status`.

mod answer;
mod print;
mod sums;

use std::process::ExitCode;

use anyhow::{Result, bail};
use serde_json::json;
use svid_csi_core::findings::volume_state::VolumeState;
use svid_csi_core::quoted::{ascii_json, one_line};

use self::answer::{NodeStatus, VolumeRow};
use self::sums::Sums;
use crate::arguments::{Order, StatusArguments};
use crate::cluster::Cluster;
use crate::everywhere;
use crate::{drivers, pods, printing};

/// Asks all nodes, one node, or a pod's node.
pub(crate) async fn run(cluster: &Cluster, options: &StatusArguments) -> Result<ExitCode> {
    let mut words = vec!["status", "--json"];
    let mut served = None;
    let drivers = if let Some(name) = &options.pod {
        let pod = pods::find(cluster, name).await?;
        words.extend(["--pod", served.insert(pod.name).as_str()]);
        pod.drivers
    } else {
        if !options.all_namespaces {
            words.extend(["--namespace", &cluster.namespace]);
        }
        drivers::find(cluster, options.node.as_deref()).await?
    };
    let answers = everywhere::ask(cluster, drivers, &words, answer::read).await;
    let sums = Sums::of(&answers.answered);
    let rows = rows(options, &answers.answered);
    if options.json {
        let Sums { states, horizon, .. } = &sums;
        let all = json!({
            "nodes_asked": answers.nodes, "states": states, "outage_horizon": horizon,
            "nodes": answers.answered, "unanswered": answers.unanswered,
        });
        printing::write(&ascii_json(&format!("{all:#}\n")))?;
    } else {
        let heading = answers.summary() + &sums.text();
        printing::write(&(heading + &print::rows(&rows, printing::width(), printing::is_coloured())))?;
    }
    let is_unknown = sums.volumes() == 0 && answers.unanswered.is_empty();
    if let Some(pod) = served.as_deref().filter(|_| is_unknown) {
        bail!("pod {} has a CSI volume, but its node's driver knows none of it", one_line(pod));
    }
    Ok(ExitCode::from(match () {
        () if !answers.unanswered.is_empty() || sums.has_bad() => 2,
        () if !sums.sources_down.is_empty() => 1,
        () => 0,
    }))
}

/// The volumes to show, in order.
fn rows<'a>(options: &StatusArguments, answers: &'a [NodeStatus]) -> Vec<(&'a str, &'a VolumeRow)> {
    let all = answers.iter().flat_map(|node| node.volumes.iter().map(|volume| (node.node.as_str(), volume)));
    let is_wanted = |volume: &VolumeRow| {
        options.state.is_empty() || volume.known_state().is_some_and(|state| options.state.contains(&state))
    };
    let mut rows: Vec<_> = all.filter(|(_, volume)| is_wanted(volume)).collect();
    rows.sort_by(|(_, one), (_, other)| (&one.pod, &one.id).cmp(&(&other.pod, &other.id)));
    match options.sort {
        Order::Pod => {}
        Order::Node => rows.sort_by_key(|(node, _)| *node),
        Order::Expiry => rows.sort_by_key(|(_, volume)| volume.seconds_left.unwrap_or(i64::MAX)),
        Order::State => rows.sort_by_key(|(_, volume)| volume.known_state().unwrap_or(VolumeState::Ok)),
    }
    rows
}
