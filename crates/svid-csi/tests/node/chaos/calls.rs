//! The kubelet's calls.

use std::time::{Duration, Instant};

use futures::future::join_all;
use svid_csi::demo::kubelet::KubeletError;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::beliefs::{Belief, Beliefs, Former};
use super::plan::{Operation, Shape, VOLUMES_A_POD};
use super::world::World;

/// A broken promise of the driver, and the volume.
#[derive(Debug, Clone)]
pub(crate) struct Violation {
    pub(crate) volume: Option<usize>,
    pub(crate) what: String,
}

pub(crate) type Verdict = Result<(), Violation>;

pub(crate) fn violated(volume: usize, what: impl Into<String>) -> Violation {
    Violation { volume: Some(volume), what: what.into() }
}

/// A pod's end waits longer than a call of the plan.
const OF_END: u64 = 20_000;

impl World {
    /// Does what needs the driver, all of it at the same time.
    pub(crate) async fn call(&self, operations: &[Operation]) -> Verdict {
        let done = operations.iter().map(async |operation| match operation {
            Operation::Publish { volume, shape, patience } => self.publish(*volume, *shape, *patience).await,
            Operation::Unpublish { volume, patience } => self.unpublish(*volume, *patience).await,
            Operation::End { pod } => self.end(*pod).await,
            Operation::Renew { pod } => {
                self.renew(*pod).await;
                Ok(())
            }
            Operation::Stats { volume } => {
                if let Some(plugin) = &self.plugin {
                    let volume = self.any(*volume);
                    let _ = timeout(Duration::from_secs(20), self.node.kubelet.stats(plugin, &volume)).await;
                }
                Ok(())
            }
            _ => Ok(()),
        });
        join_all(done).await.into_iter().collect()
    }

    /// A publish, as what the volume is or as something else.
    pub(crate) async fn publish(&self, index: usize, shape: Shape, patience: u64) -> Verdict {
        let Some(plugin) = &self.plugin else { return Ok(()) };
        let volume = self.volume(index, shape);
        {
            let slot = &mut self.shared().beliefs.slots[index];
            slot.calls += 1;
            slot.gone = None;
            if shape != Shape::Nonsense {
                slot.wanted = Some(shape);
                if !slot.may_be.contains(&shape) {
                    slot.may_be.push(shape);
                }
            }
        }
        let answer = timeout(Duration::from_millis(patience), self.node.kubelet.publish(plugin, &volume)).await;
        self.remember(index, &answer);
        let mut shared = self.shared();
        let slot = &mut shared.beliefs.slots[index];
        slot.calls += 1;
        match answer {
            Ok(Ok(_)) if shape == Shape::Nonsense => return Err(violated(index, "published as nonsense")),
            Ok(Ok(_)) => {
                *self.published.borrow_mut().entry(shape).or_default() += 1;
                (slot.belief, slot.tampered, slot.in_use) = (Belief::Mounted, None, true);
                slot.may_be = vec![shape];
                drop(shared);
                self.is_recorded(index).map_err(|wrong| violated(index, format!("after a publish: {wrong}")))?;
            }
            Ok(Err(error @ KubeletError::Call { .. })) if !error.is_uncertain() => {
                if slot.belief != Belief::Mounted {
                    // The kubelet removed the folders, and does not unpublish.
                    (slot.belief, slot.wanted, slot.in_use) = (Belief::Unmounted, None, false);
                    slot.gone = Some(Beliefs::forgotten(Instant::now()));
                    slot.may_be.clear();
                }
            }
            Ok(Err(error @ (KubeletError::Call { .. } | KubeletError::Connect { .. }))) if error.is_uncertain() => {
                uncertain(&mut slot.belief);
            }
            Ok(Err(_)) if slot.tampered.is_some() => uncertain(&mut slot.belief),
            Ok(Err(error)) => return Err(violated(index, format!("after a final code of a publish: {error}"))),
            Err(_) => uncertain(&mut slot.belief),
        }
        Ok(())
    }

    /// An unpublish, unless the kubelet believes that the volume is unmounted.
    pub(crate) async fn unpublish(&self, index: usize, patience: u64) -> Verdict {
        let Some(plugin) = &self.plugin else { return Ok(()) };
        let volume = self.any(index);
        {
            let slot = &mut self.shared().beliefs.slots[index];
            if slot.belief == Belief::Unmounted {
                return Ok(());
            }
            slot.calls += 1;
            (slot.belief, slot.wanted, slot.in_use) = (Belief::Uncertain, None, false);
        }
        let answer = timeout(Duration::from_millis(patience), self.node.kubelet.unpublish(plugin, &volume)).await;
        self.remember(index, &answer);
        let mut shared = self.shared();
        let slot = &mut shared.beliefs.slots[index];
        slot.calls += 1;
        match answer {
            Ok(Ok(())) => {
                (slot.belief, slot.gone, slot.tampered) = (Belief::Unmounted, Some(Instant::now()), None);
                slot.may_be.clear();
                drop(shared);
                self.is_gone(index).map_err(|left| violated(index, format!("after an unpublish: {left}")))
            }
            Ok(Err(error @ KubeletError::File(_))) if slot.tampered.is_none() => {
                Err(violated(index, format!("unpublished, but the kubelet cannot remove its folders: {error}")))
            }
            _ => Ok(()),
        }
    }

    /// For the story of a failure.
    fn remember<T>(&self, index: usize, answer: &Result<Result<T, KubeletError>, Elapsed>) {
        let error = match answer {
            Ok(Ok(_)) => String::new(),
            Ok(Err(error)) => error.to_string(),
            Err(elapsed) => elapsed.to_string(),
        };
        self.errors.borrow_mut().insert(index, error);
    }

    /// All volumes of a pod are unpublished, and its folder is removed.
    pub(crate) async fn end(&self, pod: usize) -> Verdict {
        let volumes = Beliefs::volumes_of(pod);
        join_all(volumes.clone().map(|volume| self.unpublish(volume, OF_END)))
            .await
            .into_iter()
            .collect::<Verdict>()?;
        let former = {
            let beliefs = &self.shared().beliefs;
            if volumes.clone().any(|index| beliefs.slots[index].belief != Belief::Unmounted) {
                return Ok(());
            }
            self.former(beliefs, pod, false)
        };
        let of_now = self.shared().beliefs.pod(pod);
        let forgotten = self.node.kubelet.forget(&of_now);
        forgotten
            .map_err(|error| violated(volumes.start, format!("the folder of the pod cannot be removed: {error}")))?;
        self.shared().beliefs.end(pod, former);
        self.retarget();
        Ok(())
    }

    /// The volumes of a pod that is about to end.
    pub(crate) fn former(&self, beliefs: &Beliefs, pod: usize, awaits_start: bool) -> Vec<Former> {
        let former = |index: usize| {
            let volume = beliefs.volume(index, Shape::Files);
            let id = volume.id().as_str().to_owned();
            let gone = if awaits_start { None } else { beliefs.slots[index].gone.or(Some(Instant::now())) };
            Former { id, volume: index, target: self.node.kubelet.target(&volume), gone }
        };
        Beliefs::volumes_of(pod).map(former).collect()
    }

    /// An administrator asks; whether anyone listens is not their concern.
    async fn renew(&self, pod: Option<usize>) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let path = pod.map_or_else(|| "/renew".to_owned(), |pod| format!("/renew?pod=shop/p{pod}"));
        let ask = async {
            let mut stream = tokio::net::UnixStream::connect(self.node.path("admin.sock")).await?;
            let request = format!("POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            stream.read_to_end(&mut Vec::new()).await
        };
        let _ = timeout(Duration::from_secs(10), ask).await;
    }

    /// The pod of a volume.
    pub(crate) fn pod_of(volume: usize) -> usize {
        volume / VOLUMES_A_POD
    }
}

fn uncertain(belief: &mut Belief) {
    if *belief == Belief::Unmounted {
        *belief = Belief::Uncertain;
    }
}
