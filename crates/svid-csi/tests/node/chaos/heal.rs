//! The end of all faults: what the driver must repair by itself, and what with the kubelet's next calls.

use std::time::{Duration, Instant};

use futures::future::join_all;
use svid_csi_testkit::effects::Watch;

use super::beliefs::Belief;
use super::calls::{Verdict, Violation, violated};
use super::plan::{Line, Operation, Shape, Supervision};
use super::reader::Reader;
use super::sight;
use super::swarm::Driver;
use super::world::World;

/// The first back-off without an identity takes up to 36 s, on a machine that may be busy.
const PATIENCE: Duration = Duration::from_secs(75);
/// What other programs on the machine can add to a limit: that many times as much, and no more than four minutes.
const SLOWER: u32 = 3;
const MOST_BUSY: Duration = Duration::from_secs(240);
const OF_A_CALL: u64 = 60_000;
const AT_ONCE: usize = 16;

impl World {
    pub(crate) async fn heal(&mut self, reader: &Reader) -> Verdict {
        for (fault, _) in std::mem::take(&mut self.active) {
            self.relieve(&fault);
        }
        if !self.agent_runs {
            self.start_agent();
        }
        self.heal_api();
        self.start(Supervision::Effects, Watch::default()).await?;
        if self.node.has_ended() {
            return Err(Violation { volume: None, what: "the driver does not start".to_owned() });
        }
        // A back-off is at most about as long as the faults have been.
        let faults = self.troubled_since.take().map_or(Duration::ZERO, |since| since.elapsed());
        let patience = PATIENCE + faults * 3 / 2;
        self.empty_after_withdrawals().await?;
        self.nothing_left_alone(patience).await?;
        self.left_alone = false;
        self.attaching_failed = false;
        self.withdrawn_is_gone(patience).await?;
        self.heals_by_itself(patience).await?;
        (0..self.header.pods).for_each(|pod| self.entitle(pod));
        self.reconcile(patience).await?;
        self.check_mounts()?;
        self.nothing_left(patience).await?;
        self.status_is_disk().await?;
        reader.notes(|notes| self.is_audited(&mut notes.serials))?;
        Ok(())
    }

    /// Waits for something of a volume.
    async fn until(
        &self,
        patience: Duration,
        index: usize,
        mut verdict: impl AsyncFnMut() -> Result<(), String>,
    ) -> Verdict {
        let began = Instant::now();
        loop {
            match verdict().await {
                Ok(()) => return Ok(()),
                Err(_) if !self.is_late(began, patience) => tokio::time::sleep(Duration::from_millis(200)).await,
                Err(what) => return Err(violated(index, format!("{what}, {patience:?} after the last fault"))),
            }
        }
    }

    /// Whether that much time has passed, without what other programs on the machine took from the driver.
    pub(crate) fn is_late(&self, began: Instant, patience: Duration) -> bool {
        let passed = began.elapsed();
        let most = MOST_BUSY.min(patience * SLOWER);
        passed > patience + self.shared().calm.busy_within(passed, Instant::now()).min(most)
    }

    /// What the agent has withdrawn is not readable, whatever else the volume may be by now.
    async fn withdrawn_is_gone(&self, patience: Duration) -> Verdict {
        let beliefs = self.shared().beliefs.clone();
        let is_withdrawn = |index| !beliefs.entitled[World::pod_of(index)];
        let all = beliefs.slots.iter().enumerate();
        let withdrawn = all.filter(|(index, slot)| is_withdrawn(*index) && slot.in_use && slot.tampered.is_none());
        let withdrawn = withdrawn.flat_map(|(index, slot)| slot.may_be.iter().map(move |shape| (index, *shape)));
        for (index, shape) in withdrawn.filter(|(_, shape)| shape.is_of_agent()) {
            let target = self.shared().targets[index].clone();
            let is_gone = async || match sight::look(&target, World::pod_of(index), shape).await {
                Ok(sight) => Err(format!("withdrawn, and still readable: {sight:?}")),
                Err(_) => Ok(()),
            };
            self.until(patience, index, is_gone).await?;
        }
        Ok(())
    }

    /// What the driver needs no one for.
    async fn heals_by_itself(&self, patience: Duration) -> Verdict {
        // Tokens and passwords come with the kubelet's calls.
        let alone = self.published(|index, shape| {
            !(shape.needs_token() || matches!(shape, Shape::Formats | Shape::Passthrough))
                && (!shape.is_of_agent() || self.shared().beliefs.entitled[World::pod_of(index)])
        });
        for (index, shape) in alone {
            let target = self.shared().targets[index].clone();
            let is_fresh = async || self.is_fresh(index, shape, &target).await.map(drop);
            self.until(patience, index, is_fresh).await?;
        }
        Ok(())
    }

    /// The published volumes whose shape is certain, as far as no other program has changed them.
    fn published(&self, which: impl Fn(usize, Shape) -> bool) -> Vec<(usize, Shape)> {
        let slots = self.shared().beliefs.slots.clone();
        let all = slots.iter().enumerate().filter(|(_, slot)| slot.tampered.is_none());
        all.filter_map(|(index, slot)| Some((index, slot.shape()?)))
            .filter(|(index, shape)| which(*index, *shape))
            .collect()
    }

    /// The kubelet publishes every volume until that succeeds, and unpublishes the others.
    async fn reconcile(&self, patience: Duration) -> Verdict {
        let began = Instant::now();
        let mut left: Vec<_> = (0..self.shared().beliefs.slots.len()).collect();
        while !left.is_empty() {
            for some in left.chunks(AT_ONCE) {
                let calls = some.iter().map(async |index| {
                    let wanted = self.shared().beliefs.slots[*index].wanted;
                    match wanted {
                        Some(shape) => self.publish(*index, shape, OF_A_CALL).await?,
                        None => self.unpublish(*index, OF_A_CALL).await?,
                    }
                    // The pod still wants it after a final code too.
                    self.shared().beliefs.slots[*index].wanted = wanted;
                    Ok(())
                });
                join_all(calls).await.into_iter().collect::<Verdict>()?;
            }
            let mut rest = Vec::new();
            for index in left {
                if let Err(what) = self.is_reconciled(index).await {
                    if self.is_late(began, patience) {
                        let last = self.errors.borrow().get(&index).cloned().unwrap_or_default();
                        return Err(violated(
                            index,
                            format!("{what}, {patience:?} after the last fault; last error: {last}"),
                        ));
                    }
                    rest.push(index);
                }
            }
            left = rest;
            if !left.is_empty() {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
        Ok(())
    }

    async fn is_reconciled(&self, index: usize) -> Result<(), String> {
        let slot = self.shared().beliefs.slots[index].clone();
        match slot.wanted {
            Some(_) => self.is_whole(index).await.map(drop),
            None if slot.belief == Belief::Unmounted => Ok(()),
            None => Err("it is not unpublished".to_owned()),
        }
    }

    /// The line that ends everything: all pods.
    pub(crate) fn last_lines(pods: usize) -> Vec<Line> {
        let line = |operations| Line { operations, fault: None, wait: 0 };
        let start = Operation::Start { under: Supervision::Nothing };
        vec![
            line(vec![Operation::Heal]),
            line((0..pods).map(|pod| Operation::End { pod }).collect()),
            line(vec![Operation::Kill, start]),
            line(vec![Operation::Heal]),
        ]
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.driver != Driver::Down
            && self.agent_runs
            && !self.api_fails.get()
            && self.active.is_empty()
            && !self.left_alone
    }
}
