//! The shares of pods on this node: connections, calls, and the bytes in transit.
//!
//! A pod has one limit over all its volumes, and all pods together have one. A part of each is reserved for every pod,
//! so that greedy pods leave enough to the others.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::process::{Resource, getrlimit};
use svid_csi_core::findings::facts::PodDescriptors;
use svid_csi_core::volume::VolumeSpec;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;
use tracing::warn;

const CONNECTIONS: Bounds = Bounds { what: "connections", own: 4, pod: 32, node: 2048 };
const CALLS: Bounds = Bounds { what: "calls", own: 16, pod: 128, node: 8192 };
const BYTES: Bounds = Bounds { what: "bytes in transit", own: 512 << 10, pod: 2 << 20, node: 32 << 20 };

/// A socket has a second one for a connection that it has accepted, and may refuse.
const DESCRIPTORS_OF_SOCKET: u32 = 2;

/// The limits of one resource.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    what: &'static str,
    /// The amount reserved for every pod, whatever the others use.
    own: usize,
    /// The limit of one pod, including its reserved amount.
    pod: usize,
    /// The limit of all pods together beyond their reserved amounts.
    node: usize,
}

/// A limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// The pod's.
    #[error("this pod has {0} {1} already: close those that are not in use")]
    Pod(usize, &'static str),
    /// The limit of all pods is reached.
    #[error("pods on this node have reached the limit of shared {1}; each pod may have only the {0} reserved for it")]
    Node(usize, &'static str),
    /// The limit on descriptors is reached.
    #[error("pods on this node have reached the limit for {0}: a quarter of the driver's file descriptors")]
    Descriptors(&'static str),
}

impl From<Full> for Status {
    fn from(full: Full) -> Self {
        Status::resource_exhausted(full.to_string())
    }
}

/// One pod's use of a resource.
#[derive(Debug)]
pub(super) struct Share {
    bounds: Bounds,
    own: Arc<Semaphore>,
    more: Arc<Semaphore>,
    of_node: Arc<Semaphore>,
    refused: AtomicBool,
}

/// A reserved amount, which is released when this is dropped.
#[derive(Debug)]
pub(super) struct Taken {
    _of_pod: OwnedSemaphorePermit,
    of_node: Option<OwnedSemaphorePermit>,
}

impl Taken {
    /// Whether it comes from the amount reserved for every pod.
    pub(super) fn is_own(&self) -> bool {
        self.of_node.is_none()
    }
}

impl Share {
    fn new(bounds: Bounds, of_node: &Arc<Semaphore>) -> Self {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        let (own, more) = (semaphore(bounds.own), semaphore(bounds.pod - bounds.own));
        Self { bounds, own, more, of_node: of_node.clone(), refused: AtomicBool::new(false) }
    }

    /// Reserves that amount, if it is available now.
    pub(super) fn try_take(&self, amount: usize) -> Result<Taken, Full> {
        let amount = permits(amount);
        if let Ok(own) = self.own.clone().try_acquire_many_owned(amount) {
            return Ok(Taken { _of_pod: own, of_node: None });
        }
        let Bounds { what, own, pod, .. } = self.bounds;
        let more = self.more.clone().try_acquire_many_owned(amount).map_err(|_| Full::Pod(pod, what))?;
        let of_node = self.of_node.clone().try_acquire_many_owned(amount).map_err(|_| Full::Node(own, what))?;
        Ok(Taken { _of_pod: more, of_node: Some(of_node) })
    }

    /// Whether nothing is reserved.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn is_untouched(&self) -> bool {
        let available = self.own.available_permits() + self.more.available_permits();
        available == self.bounds.pod
    }

    /// Waits until that amount is available; more than the limit of a pod counts as all of it.
    pub(super) async fn take(&self, amount: usize) -> Taken {
        let own = async {
            if amount > self.bounds.own {
                // The own amount never suffices, and waiting for it would block smaller messages.
                return std::future::pending().await;
            }
            Taken { _of_pod: acquired(&self.own, amount).await, of_node: None }
        };
        let more = async {
            let amount = amount.min(self.bounds.pod - self.bounds.own);
            let of_pod = acquired(&self.more, amount).await;
            Taken { _of_pod: of_pod, of_node: Some(acquired(&self.of_node, amount).await) }
        };
        tokio::select! {
            biased;
            taken = own => taken,
            taken = more => taken,
        }
    }
}

fn permits(amount: usize) -> u32 {
    u32::try_from(amount).unwrap_or(u32::MAX)
}

async fn acquired(semaphore: &Arc<Semaphore>, amount: usize) -> OwnedSemaphorePermit {
    let acquired = semaphore.clone().acquire_many_owned(permits(amount)).await;
    acquired.expect("it is never closed")
}

#[derive(Debug)]
pub(super) struct PodShares {
    pod: String,
    pub(super) connections: Share,
    pub(super) calls: Share,
    pub(super) bytes: Share,
}

impl PodShares {
    /// Whether nothing is reserved.
    #[cfg(feature = "fuzzing")]
    pub(super) fn are_untouched(&self) -> bool {
        [&self.connections, &self.calls, &self.bytes].into_iter().all(Share::is_untouched)
    }

    /// Logs that a limit was reached, once per share.
    pub(super) fn refused(&self, share: &Share, full: Full) {
        if !share.refused.swap(true, Ordering::Relaxed) {
            warn!(pod = self.pod, bound = %full, "a pod has reached a limit of its Workload API sockets; anything above it is refused");
        }
    }
}

/// The shares of all pods.
#[derive(Debug)]
pub(super) struct Shares {
    connections: Arc<Semaphore>,
    calls: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    /// A quarter of all descriptors. Another is for sockets; the kubelet and health checks have the other half.
    pub(super) descriptors_of_connections: Arc<Semaphore>,
    descriptors_of_sockets: Arc<Semaphore>,
    quarter: usize,
    /// By the UID of the pod.
    pods: Mutex<HashMap<String, Weak<PodShares>>>,
}

impl Default for Shares {
    fn default() -> Self {
        let [connections, calls, bytes] =
            [CONNECTIONS, CALLS, BYTES].map(|bounds| Arc::new(Semaphore::new(bounds.node)));
        let quarter = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) / 4;
        let quarter = usize::try_from(quarter).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        let [descriptors_of_connections, descriptors_of_sockets] = [(); 2].map(|()| Arc::new(Semaphore::new(quarter)));
        let pods = Mutex::default();
        Self { connections, calls, bytes, descriptors_of_connections, descriptors_of_sockets, quarter, pods }
    }
}

impl Shares {
    /// Reserves the descriptors of a volume's socket.
    pub(super) fn place_of_socket(&self) -> Result<OwnedSemaphorePermit, Full> {
        let place = self.descriptors_of_sockets.clone().try_acquire_many_owned(DESCRIPTORS_OF_SOCKET);
        place.map_err(|_| Full::Descriptors("sockets"))
    }

    /// The descriptors that pods may take up, and have taken up.
    pub(super) fn descriptors(&self) -> PodDescriptors {
        let taken = |free: &Semaphore| self.quarter.saturating_sub(free.available_permits()) as u64;
        PodDescriptors {
            most: self.quarter as u64,
            sockets: taken(&self.descriptors_of_sockets),
            connections: taken(&self.descriptors_of_connections),
        }
    }

    /// The share of this volume's pod, over all its volumes.
    pub(super) fn of(&self, spec: &VolumeSpec) -> Arc<PodShares> {
        let (uid, name) = match &spec.pod {
            Some(pod) => (pod.uid.clone(), pod.to_string()),
            None => (spec.id.to_string(), spec.id.to_string()),
        };
        let mut pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shares) = pods.get(&uid).and_then(Weak::upgrade) {
            return shares;
        }
        pods.retain(|_, shares| shares.strong_count() > 0);
        let shares = Arc::new(PodShares {
            pod: name,
            connections: Share::new(CONNECTIONS, &self.connections),
            calls: Share::new(CALLS, &self.calls),
            bytes: Share::new(BYTES, &self.bytes),
        });
        pods.insert(uid, Arc::downgrade(&shares));
        shares
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const BOUNDS: Bounds = Bounds { what: "things", own: 2, pod: 5, node: 4 };

    #[test]
    fn no_other_pod_can_use_a_pods_own_share() {
        let node = Arc::new(Semaphore::new(BOUNDS.node));
        let [greedy, another, third] = [(); 3].map(|()| Share::new(BOUNDS, &node));
        let mut taken: Vec<_> = (0..5).map(|_| greedy.try_take(1).unwrap()).collect();
        assert_eq!(greedy.try_take(1).unwrap_err(), Full::Pod(5, "things"));
        taken.extend((0..3).map(|_| another.try_take(1).unwrap()));
        assert_eq!(another.try_take(1).unwrap_err(), Full::Node(2, "things"));
        let own = [third.try_take(1).unwrap(), third.try_take(1).unwrap()];
        third.try_take(1).unwrap_err();
        drop((taken, own));
        assert_eq!(node.available_permits(), 4);
        (0..5).for_each(|_| drop(third.try_take(1).unwrap()));
    }

    #[test]
    fn a_waiting_call_gets_released_capacity_and_does_not_block_others() {
        let node = Arc::new(Semaphore::new(BOUNDS.node));
        let share = Share::new(BOUNDS, &node);
        let small = share.try_take(2).unwrap();
        let large = share.take(100).now_or_never().expect("all that one may have beyond its own");
        let mut waiting = Box::pin(share.take(100));
        assert!((&mut waiting).now_or_never().is_none());
        drop(small);
        drop(share.take(2).now_or_never().expect("its own is there again"));
        drop(large);
        assert!(waiting.now_or_never().is_some());
    }
}
