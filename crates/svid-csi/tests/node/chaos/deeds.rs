//! What peers and administrators do, one after the other.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use svid_csi::demo::kubelet::{Kubelet, Plugin};
use svid_csi_testkit::TestCa;
use svid_csi_testkit::agent::Entry;
use svid_csi_testkit::api_server::{Fault as ApiFault, Issuing, Mode};
use svid_csi_testkit::effects::Watch;

use super::beliefs::{Belief, Beliefs, Tampering, agents_id};
use super::calls::Violation;
use super::plan::{ApiTrouble, Operation, Supervision};
use super::swarm::Driver;
use super::world::World;
use crate::fixture::unseal_below;

const SECONDS_OF_PAUSE: u64 = 2;
/// With every call supervised, and many volumes.
const LONGEST_START: Duration = Duration::from_secs(120);

impl World {
    /// Does what no one else does at the same time. `watch` is what a startup is watched for.
    pub(crate) async fn prepare(&mut self, operation: &Operation, watch: &Watch) -> Result<(), Violation> {
        match operation {
            Operation::Start { under } => self.start(*under, watch.clone()).await?,
            Operation::Kill => self.kill(),
            Operation::Terminate => self.terminate().await,
            Operation::RestartKubelet => self.restart_kubelet(),
            Operation::Vanish { pod } => self.vanish(*pod),
            Operation::StopAgent => {
                self.agent.stop();
                self.agent_runs = false;
            }
            Operation::StartAgent => self.start_agent(),
            Operation::ReplaceAgent => {
                self.agent.stop();
                let _ = fs::remove_dir_all(self.node.path("run/agent"));
                self.agent.resume();
                self.agent_runs = true;
            }
            Operation::RotateAgent => self.agent.rotate_all(),
            Operation::AgentRoot => self.agent.add_root(),
            Operation::Withdraw { pod } => {
                let mut shared = self.shared();
                shared.beliefs.entitled[*pod] = false;
                self.agent.withdraw(&shared.beliefs.pod(*pod));
            }
            Operation::Entitle { pod } => self.entitle(*pod),
            Operation::Api { trouble } => self.trouble_api(*trouble),
            Operation::CertManagerRoot => self.add_root(),
            Operation::Publish { .. }
            | Operation::Unpublish { .. }
            | Operation::End { .. }
            | Operation::Renew { .. }
            | Operation::Stats { .. }
            | Operation::Heal => {}
        }
        Ok(())
    }

    /// Starts the driver, if it is down. It may end at once where a fault is at work.
    pub(crate) async fn start(&mut self, under: Supervision, watch: Watch) -> Result<(), Violation> {
        if self.driver != Driver::Down {
            return Ok(());
        }
        if under == Supervision::Nothing {
            self.node.spawn();
            self.driver = Driver::Free;
        } else {
            self.node.spawn_watched(Some(watch), |scope| {
                let scope = scope.with_clock(self.ahead.get()).with_requests_to(self.server.address());
                if under == Supervision::Looks { scope.with_reads() } else { scope }
            });
            self.driver = Driver::Supervised;
        }
        self.shared().process = Some(self.node.pid());
        let (socket, began) = (self.node.path("csi.sock"), Instant::now());
        let plugin = loop {
            match Plugin::connect(&socket).await {
                Ok(plugin) => break plugin,
                Err(_) if self.node.has_ended() => return Ok(()),
                Err(_) if self.is_late(began, LONGEST_START) => {
                    return Err(Violation {
                        volume: None,
                        what: "the driver does not answer after its start".to_owned(),
                    });
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        self.shared().beliefs.started(Instant::now());
        self.plugin.get_or_insert(plugin);
        Ok(())
    }

    pub(crate) fn kill(&mut self) {
        if self.driver != Driver::Down {
            self.node.kill();
            self.driver = Driver::Down;
            self.shared().process = None;
        }
    }

    async fn terminate(&mut self) {
        if self.driver != Driver::Down {
            self.node.signal("TERM");
            self.reaped().await;
        }
    }

    /// The driver is about to end, and then has.
    pub(crate) async fn reaped(&mut self) {
        while !self.node.has_ended() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.node.reap();
        self.driver = Driver::Down;
        self.shared().process = None;
    }

    /// It knows volumes by their folders only: whatever has one may be mounted.
    fn restart_kubelet(&mut self) {
        self.node.kubelet = Kubelet::new(&self.node.path("kubelet")).unwrap();
        for slot in &mut self.shared().beliefs.slots {
            if slot.belief == Belief::Mounted {
                slot.belief = Belief::Uncertain;
            }
        }
    }

    /// Another program unmounts all of a pod and removes its folder.
    fn vanish(&mut self, pod: usize) {
        let mut shared = self.shared();
        // The driver leaves a record that it cannot read alone until a call about its volume, and none would come.
        let is_cut = |index: usize| shared.beliefs.slots[index].tampered == Some(Tampering::Record);
        if Beliefs::volumes_of(pod).any(is_cut) {
            return;
        }
        for index in Beliefs::volumes_of(pod) {
            let target = &shared.targets[index];
            let umount = || Command::new("umount").arg("--lazy").arg(target).stderr(Stdio::null()).status();
            while umount().is_ok_and(|status| status.success()) {}
        }
        let folder = self.node.kubelet.pods_dir().join(shared.beliefs.pod(pod).uid);
        unseal_below(&folder);
        let _ = fs::remove_dir_all(folder);
        let former = self.former(&shared.beliefs, pod, true);
        shared.beliefs.end(pod, former);
        drop(shared);
        self.retarget();
    }

    pub(crate) fn start_agent(&mut self) {
        self.agent.resume();
        self.agent_runs = true;
    }

    pub(crate) fn entitle(&self, pod: usize) {
        let mut shared = self.shared();
        if !std::mem::replace(&mut shared.beliefs.entitled[pod], true) {
            let entry = Entry::new(&agents_id(pod)).lifetime(Duration::from_secs(self.header.lifetime));
            self.agent.register(&shared.beliefs.pod(pod), &[entry]);
        }
    }

    fn trouble_api(&self, trouble: ApiTrouble) {
        let all = |fault| self.server.faults.always("*", "*", fault);
        match trouble {
            ApiTrouble::Stopped => self.server.stop(),
            ApiTrouble::TooManyRequests => all(ApiFault::TooManyRequests(SECONDS_OF_PAUSE)),
            ApiTrouble::Gone => all(ApiFault::Gone),
            ApiTrouble::Silent => all(ApiFault::Hang),
            ApiTrouble::InternalError => all(ApiFault::InternalError),
            ApiTrouble::AnswersLost => all(ApiFault::LoseAnswer),
            ApiTrouble::Denied => self.server.cert_manager.mode(Mode::Deny("chaos".to_owned())),
            ApiTrouble::NothingIssued => self.server.cert_manager.mode(Mode::ByHand),
        }
        self.api_fails.set(true);
    }

    /// The API server and cert-manager work again.
    pub(crate) fn heal_api(&self) {
        self.server.faults.clear();
        self.server.resume();
        self.api_fails.set(false);
        let ca = self.cas.borrow().last().unwrap().clone();
        self.server.cert_manager.mode(Mode::Issue(Issuing::by(&ca)));
    }

    fn add_root(&self) {
        let mut cas = self.cas.borrow_mut();
        let ca = Arc::new(TestCa::new(&format!("root {}", cas.len())));
        cas.push(ca.clone());
        let bundle: String = cas.iter().map(|ca| ca.bundle_pem()).collect();
        let (file, next) = (self.node.path("ca.crt"), self.node.path("ca.crt.next"));
        fs::write(&next, bundle).unwrap();
        fs::rename(next, file).unwrap();
        self.server.cert_manager.mode(Mode::Issue(Issuing::by(&ca)));
    }
}
