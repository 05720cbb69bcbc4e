//! `kubectl svid status`.

mod answer;
mod print;
mod sums;

use std::cmp::Ordering;
use std::process::ExitCode;

use anyhow::{Result, bail};
use serde_json::{Value, json};
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
    if options.json {
        let Sums { states, horizon, .. } = &sums;
        let all = json!({
            "nodes_asked": answers.nodes, "states": states, "outage_horizon": horizon,
            "nodes": nodes(options, &answers.answered), "unanswered": answers.unanswered,
        });
        printing::write(&ascii_json(&format!("{all:#}\n")))?;
    } else {
        let rows = rows(options, &answers.answered);
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
    let mut rows: Vec<_> = all.filter(|(_, volume)| is_wanted(options, volume)).collect();
    rows.sort_by(|one, other| compare(options.sort, *one, *other));
    rows
}

/// The nodes with those volumes.
fn nodes(options: &StatusArguments, answers: &[NodeStatus]) -> Vec<Value> {
    let with_volumes = |node: &NodeStatus| {
        let mut shown = json!(node);
        let rows = rows(options, std::slice::from_ref(node));
        shown["volumes"] = rows.into_iter().map(|(_, volume)| json!(volume)).collect();
        shown
    };
    answers.iter().map(with_volumes).collect()
}

fn is_wanted(options: &StatusArguments, volume: &VolumeRow) -> bool {
    options.state.is_empty() || volume.known_state().is_some_and(|state| options.state.contains(&state))
}

fn compare(order: Order, one: (&str, &VolumeRow), other: (&str, &VolumeRow)) -> Ordering {
    let by_pod = (&one.1.pod, &one.1.id).cmp(&(&other.1.pod, &other.1.id));
    let end = |volume: &VolumeRow| volume.seconds_left.unwrap_or(i64::MAX);
    let state = |volume: &VolumeRow| volume.known_state().unwrap_or(VolumeState::Ok);
    let first = match order {
        Order::Pod => Ordering::Equal,
        Order::Node => one.0.cmp(other.0),
        Order::Expiry => end(one.1).cmp(&end(other.1)),
        Order::State => state(one.1).cmp(&state(other.1)),
    };
    first.then(by_pod)
}
