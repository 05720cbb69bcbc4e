//! Sums over all nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde::Serialize;
use svid_csi_core::findings::volume_state::VolumeState;
use svid_csi_core::go_duration::short;
use svid_csi_core::quoted::one_line;

use super::answer::{NodeStatus, VolumeRow};
use crate::everywhere::named;

/// See the module documentation.
pub(super) struct Sums<'a> {
    /// How many volumes there are in each state.
    pub(super) states: BTreeMap<&'a str, usize>,
    /// The nodes on which a source is not connected.
    pub(super) sources_down: BTreeMap<&'a str, BTreeSet<&'a str>>,
    /// How long pods keep their identities if no more are issued.
    pub(super) horizon: Option<Horizon>,
    busy: usize,
}

/// When pods would be without an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Horizon {
    first_seconds: u64,
    half_seconds: u64,
}

impl<'a> Sums<'a> {
    pub(super) fn of(nodes: &'a [NodeStatus]) -> Self {
        let (mut states, mut sources_down) = (BTreeMap::new(), BTreeMap::<_, BTreeSet<_>>::new());
        for node in nodes {
            for volume in &node.volumes {
                *states.entry(volume.state.as_str()).or_default() += 1;
            }
            for source in node.sources.iter().filter(|source| !source.connected) {
                sources_down.entry(source.source.as_str()).or_default().insert(node.node.as_str());
            }
        }
        let horizon = horizon(nodes.iter().flat_map(|node| &node.volumes));
        Self { states, sources_down, horizon, busy: nodes.iter().fold(0, |busy, node| busy.saturating_add(node.busy)) }
    }

    /// How many volumes the nodes have.
    pub(super) fn volumes(&self) -> usize {
        self.states.values().fold(self.busy, |sum, count| sum.saturating_add(*count))
    }

    /// Whether a pod has no identity that peers accept.
    pub(super) fn has_bad(&self) -> bool {
        let bad = [VolumeState::Expired, VolumeState::Missing, VolumeState::Untrusted];
        bad.into_iter().any(|state| self.states.contains_key(state.name()))
    }

    pub(super) fn text(&self) -> String {
        let place = |name: &str| VolumeState::ALL.iter().position(|state| state.name() == name);
        let mut states: Vec<_> = self.states.iter().map(|(state, count)| (place(state), *state, *count)).collect();
        states.extend((self.busy > 0).then_some((None, "busy", self.busy)));
        states.sort_unstable();
        let shown: Vec<_> = states.iter().map(|(_, state, count)| format!("{count} {}", one_line(state))).collect();
        let mut text = match self.volumes() {
            0 => "volumes: none\n".to_owned(),
            total => format!("volumes: {total} ({})\n", shown.join(", ")),
        };
        for (source, nodes) in &self.sources_down {
            let _ = writeln!(text, "source {}: not connected on {}", one_line(source), named(nodes.iter().copied()));
        }
        if let Some(Horizon { first_seconds, half_seconds }) = self.horizon {
            let (first, half) = (short(first_seconds), short(half_seconds));
            let _ = writeln!(
                text,
                "if the sources failed now: first pod without an identity in {first}, half of them in {half}"
            );
        }
        text
    }
}

/// As each node computes it for itself: of published volumes only.
fn horizon<'a>(volumes: impl Iterator<Item = &'a VolumeRow>) -> Option<Horizon> {
    let is_published =
        |volume: &&VolumeRow| !matches!(volume.known_state(), Some(VolumeState::Starting | VolumeState::Removing));
    let left = volumes.filter(is_published).filter_map(|volume| volume.seconds_left);
    let mut left: Vec<u64> = left.map(|seconds| u64::try_from(seconds).unwrap_or_default()).collect();
    left.sort_unstable();
    Some(Horizon { first_seconds: *left.first()?, half_seconds: *left.get((left.len() - 1) / 2)? })
}
