//! The pods behind a request, and the rules that need them.

mod facts;

pub use self::facts::{Lookup, MAX_FACT_AGE, PodFacts, PodKey};
use super::fault::{PodFault, PodProblem, Reasons};
use super::policy::{Mode, Policy, ServiceAccount};
use super::request::Request;
use super::stamp::{self, NODE_NAME, POD_NAME, POD_UID};
use crate::cert_request::OwnerReference;
use crate::quoted::Quoted;
use crate::spiffe_id::SpiffeId;

/// The pods to read before a request is settled. Only a request that passes all other rules has any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reads {
    pod: PodKey,
    driver: Option<DriverPod>,
    id: SpiffeId,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct DriverPod {
    key: PodKey,
    account: ServiceAccount,
    node: String,
}

/// The pods that the mode requires for a request, after the rules about owner and stamps, which need no pod.
pub(super) fn reads(request: &Request, id: Option<SpiffeId>, policy: &Policy, reasons: &mut Reasons) -> Option<Reads> {
    let driver = match &policy.mode {
        Mode::Pod => {
            check_owner_stamp(request, reasons);
            return None;
        }
        Mode::OwnServiceAccount { .. } => Some(None),
        Mode::NodeBound { driver } => driver_pod(request, driver, reasons).map(Some),
    };
    let owner = reasons.take(owner(request))?;
    let pod = reasons.take(PodKey::new(&request.namespace, &owner.name, &owner.uid))?;
    Some(Reads { pod, driver: driver?, id: id? })
}

fn owner(request: &Request) -> Result<&OwnerReference, PodFault> {
    let pods: Vec<_> = request.owners.iter().filter(|owner| owner.is_pod()).collect();
    if let [pod] = pods[..] { Ok(pod) } else { Err(PodFault::Owner { found: pods.len() }) }
}

/// If the API server stamped the requesting pod, it must be the pod that owns the request.
fn check_owner_stamp(request: &Request, reasons: &mut Reasons) {
    let Some(Some(stamp)) = reasons.take(stamp::find(request, POD_UID)) else { return };
    let Some(owner) = reasons.take(owner(request)) else { return };
    if owner.uid != stamp {
        reasons.add(PodFault::OwnerStamp { owner: Quoted::new(&owner.uid), stamp: Quoted::new(stamp) });
    }
}

fn driver_pod(request: &Request, account: &ServiceAccount, reasons: &mut Reasons) -> Option<DriverPod> {
    let mut stamp = |key| reasons.take(stamp::require(request, key));
    let (uid, name, node) = (stamp(POD_UID), stamp(POD_NAME), stamp(NODE_NAME));
    let key = reasons.take(PodKey::new(&account.namespace, name?, uid?))?;
    Some(DriverPod { key, account: account.clone(), node: node?.to_owned() })
}

impl Reads {
    /// The pod the request is for.
    pub fn pod(&self) -> &PodKey {
        &self.pod
    }

    /// The pod of the driver that created it, if the mode needs it.
    pub fn driver(&self) -> Option<&PodKey> {
        self.driver.as_ref().map(|driver| &driver.key)
    }

    /// Checks the pods. Returns whether the approver may not read one that the mode needs.
    pub(super) fn check(&self, pod: &Lookup, driver: Option<&Lookup>, policy: &Policy, reasons: &mut Reasons) -> bool {
        let Some(expected) = &self.driver else {
            self.check_account(pod, policy, reasons);
            return false;
        };
        let driver = driver.unwrap_or(&Lookup::Forbidden);
        expected.check(driver, reasons);
        self.check_target(pod, expected, policy, reasons);
        [driver, pod].contains(&&Lookup::Forbidden)
    }

    fn fault(&self, problem: PodProblem) -> PodFault {
        PodFault::Target { pod: self.pod.quoted(), problem }
    }

    fn check_account<'a>(&self, pod: &'a Lookup, policy: &Policy, reasons: &mut Reasons) -> Option<&'a PodFacts> {
        let facts = reasons.take(self.pod.find(pod).map_err(|problem| self.fault(problem)))??;
        let own = SpiffeId::for_service_account(&policy.trust_domain, &facts.namespace, &facts.service_account);
        if own.as_ref() != Ok(&self.id) {
            let found = Quoted::new(&facts.service_account);
            let expected = Quoted::new(self.id.path().rsplit('/').next().unwrap_or_default());
            reasons.add(self.fault(PodProblem::Account { expected, found }));
        }
        Some(facts)
    }

    fn check_target(&self, pod: &Lookup, driver: &DriverPod, policy: &Policy, reasons: &mut Reasons) {
        let Some(facts) = self.check_account(pod, policy, reasons) else { return };
        let has_volume = facts.csi_drivers.contains(&policy.driver_name);
        let problems = [
            facts.not_on(&driver.node),
            facts.finished(),
            facts.is_mirror.then_some(PodProblem::Mirror),
            (!has_volume).then(|| PodProblem::Volume { driver: Quoted::new(&policy.driver_name) }),
        ];
        problems.into_iter().flatten().for_each(|problem| reasons.add(self.fault(problem)));
    }
}

impl DriverPod {
    /// The stamp of the node's name is not enough: tokens of other pods on that node carry it too.
    fn check(&self, driver: &Lookup, reasons: &mut Reasons) {
        let fault = |problem| PodFault::Driver { pod: self.key.quoted(), problem };
        let Some(Some(facts)) = reasons.take(self.key.find(driver).map_err(fault)) else { return };
        let account = (facts.service_account != self.account.name).then(|| PodProblem::Account {
            expected: Quoted::new(&self.account.name),
            found: Quoted::new(&facts.service_account),
        });
        let problems = [account, facts.not_on(&self.node), facts.finished()];
        problems.into_iter().flatten().for_each(|problem| reasons.add(fault(problem)));
    }
}
