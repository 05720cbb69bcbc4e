//! A machine with one candidate.

use std::pin::pin;
use std::time::{Duration, SystemTime};

use futures::poll;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use super::server::{Cluster, Link};
use crate::host::simulated::{self, Machine, Random};
use crate::kube::lease::{Candidate, Leadership, Notes};

/// Tasks that are ready after a step wake others, which are ready then.
const TURNS: usize = 12;

pub(super) struct Candidacy {
    runtime: Runtime,
    machine: Machine,
    leadership: Leadership,
    link: Link,
    pause: Option<Pause>,
}

struct Pause {
    left: Duration,
    /// How far the runtime's clock is behind.
    behind: Duration,
    is_sleep: bool,
}

impl Candidacy {
    /// A process that begins as a candidate, on a machine whose clocks agree with no other's.
    pub(super) fn start(cluster: &Cluster, random: &mut Random) -> Self {
        let machine = Machine {
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + random.below(7_200)),
            booted: Duration::from_secs(random.below(1_000_000)),
            random: Random::new(random.below(u64::MAX)),
        };
        let identity = format!("candidate-{}", random.below(u64::MAX));
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let link = Link::default();
        let (candidate, leadership) = {
            let _simulated = simulated::begin(machine.clone());
            let _entered = runtime.enter();
            let client = cluster.client(link.clone());
            Candidate::new(client, "cert-manager", "spiffe.csi.cert-manager.io", identity, Notes::new("svid-csi/notes"))
        };
        runtime.spawn(candidate.run(CancellationToken::new()));
        Self { runtime, machine, leadership, link, pause: None }
    }

    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    /// The process is stopped: no task runs, all clocks continue.
    pub(super) fn stop(&mut self, left: Duration) {
        self.pause.get_or_insert(Pause { left, behind: Duration::ZERO, is_sleep: false });
    }

    /// The machine sleeps: no task runs, and CLOCK_MONOTONIC stops.
    pub(super) fn sleep(&mut self, left: Duration) {
        self.pause.get_or_insert(Pause { left, behind: Duration::ZERO, is_sleep: true });
    }

    /// Everything works from the next step on.
    pub(super) fn heal(&mut self) {
        self.link.restore();
        if let Some(pause) = &mut self.pause {
            pause.left = Duration::ZERO;
        }
    }

    /// Lets that much time pass. Returns whether it leads; a paused process cannot do anything as the leader.
    pub(super) fn step(&mut self, passes: Duration) -> bool {
        self.machine.wall += passes;
        self.machine.booted += passes;
        let mut behind = Duration::ZERO;
        if let Some(pause) = &mut self.pause {
            if !pause.is_sleep {
                pause.behind += passes;
            }
            pause.left = pause.left.saturating_sub(passes);
            if !pause.left.is_zero() {
                return false;
            }
            behind = if pause.is_sleep { Duration::ZERO } else { pause.behind };
            self.pause = None;
        } else {
            behind += passes;
        }
        let _simulated = simulated::begin(self.machine.clone());
        let leadership = self.leadership.clone();
        let leads = self.runtime.block_on(async move {
            let mut advanced = pin!(tokio::time::advance(behind));
            // The clock has advanced, and no task has run since.
            let is_done = poll!(&mut advanced).is_ready();
            let leads_at_once = leadership.is_leading();
            if !is_done {
                advanced.await;
            }
            for _ in 0..TURNS {
                tokio::task::yield_now().await;
            }
            leads_at_once || leadership.is_leading()
        });
        if let Some(random) = simulated::change(|machine| machine.random.clone()) {
            self.machine.random = random;
        }
        leads
    }
}
