//! The same question to many drivers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use futures::{StreamExt, stream};
use serde::Serialize;
use svid_csi_core::quoted::one_line;

use crate::cluster::Cluster;
use crate::drivers::DriverPod;
use crate::exec::{self, Ended};

/// How many nodes are asked at a time.
const AT_ONCE: usize = 50;
/// How many nodes a line names.
const MOST_NAMES: usize = 20;

/// What the drivers answered.
pub(crate) struct Answers<T> {
    /// The answers, by node.
    pub(crate) answered: Vec<T>,
    pub(crate) unanswered: Vec<Unanswered>,
    /// How many nodes were asked.
    pub(crate) nodes: usize,
}

/// A driver without an answer.
#[derive(Debug, Serialize)]
pub(crate) struct Unanswered {
    pub(crate) node: String,
    /// `namespace/name`.
    pub(crate) driver_pod: String,
    pub(crate) why: String,
}

/// Asks all drivers, many at a time.
pub(crate) async fn ask<T>(
    cluster: &Cluster,
    drivers: Vec<DriverPod>,
    words: &[&str],
    read: impl Fn(&DriverPod, Ended) -> Result<T, String>,
) -> Answers<T> {
    let nodes = drivers.iter().map(|driver| driver.node.as_str()).collect::<BTreeSet<_>>().len();
    let asked = drivers.into_iter().map(async |driver| {
        let answer = exec::run(cluster, &driver, words).await.and_then(|ended| read(&driver, ended));
        (driver, answer)
    });
    let mut all: Vec<_> = stream::iter(asked).buffer_unordered(AT_ONCE).collect().await;
    all.sort_by(|(one, _), (other, _)| (&one.node, &one.name).cmp(&(&other.node, &other.name)));
    let (mut answered, mut unanswered) = (Vec::new(), Vec::new());
    for (driver, answer) in all {
        match answer {
            Ok(answer) => answered.push(answer),
            Err(why) => {
                let driver_pod = format!("{}/{}", driver.namespace, driver.name);
                unanswered.push(Unanswered { node: driver.node, driver_pod, why });
            }
        }
    }
    Answers { answered, unanswered, nodes }
}

impl<T> Answers<T> {
    /// How many nodes were asked, how many answered, and why the others did not.
    pub(crate) fn summary(&self) -> String {
        let missing: BTreeSet<_> = self.unanswered.iter().map(|unanswered| &unanswered.node).collect();
        let mut text = format!("nodes: {} asked, {} answered\n", self.nodes, self.nodes - missing.len());
        let mut reasons: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for Unanswered { node, why, .. } in &self.unanswered {
            reasons.entry(why).or_default().insert(node);
        }
        for (why, nodes) in reasons {
            let _ = writeln!(text, "no answer from {}: {}", named(nodes), one_line(why));
        }
        text
    }
}

/// `2 nodes (a, b)`.
pub(crate) fn named<'a>(nodes: impl IntoIterator<Item = &'a str>) -> String {
    let nodes: Vec<_> = nodes.into_iter().map(one_line).collect();
    let more = nodes.len().saturating_sub(MOST_NAMES);
    let mut shown = nodes[..nodes.len() - more].join(", ");
    if more > 0 {
        let _ = write!(shown, " and {more} more");
    }
    format!("{} node{} ({shown})", nodes.len(), if nodes.len() == 1 { "" } else { "s" })
}
