//! The adverse conditions of `NodeGetStorageHealth` (CSI 1.13, alpha): what the findings mean for a driver name as a whole.
//!
//! The kubelet writes them into the CSINode object, which more people may read than pods. So no condition names a pod.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use super::facts::{AgentSeen, DataSeen, DriverFacts, Facts};
use super::{Report, check};
use crate::plan::Plan;

/// The most that a kubelet accepts; it ignores all of them if there are more.
const MOST: usize = 16;
/// The longest message that the API server accepts, in bytes.
const LONGEST: usize = 1024;

/// An adverse condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageCondition {
    /// Whether no pod gets an identity from this driver; otherwise some are affected.
    pub is_unreachable: bool,
    /// The id of the finding, as Kubernetes spells reasons: `BrokerNotConnected`.
    pub reason: String,
    /// The problem, and its cause or the number of affected volumes.
    pub message: String,
}

/// Who is affected by a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// Every pod that uses the source.
    AllPods,
    /// The node.
    Node,
    /// The volumes that it is about.
    Volumes,
}

/// The findings that are conditions, the worst first.
const CONDITIONS: [(&str, Extent); 19] = [
    ("agent-directory-missing", Extent::AllPods),
    ("agent-directory-empty", Extent::AllPods),
    ("agent-socket-dead", Extent::AllPods),
    ("broker-not-connected", Extent::AllPods),
    ("requests-not-watched", Extent::AllPods),
    ("local-ca-not-loaded", Extent::AllPods),
    ("identity-expired", Extent::Volumes),
    ("identity-missing", Extent::Volumes),
    ("identity-overdue", Extent::Volumes),
    ("identity-untrusted", Extent::Volumes),
    ("trust-bundle-missing", Extent::Volumes),
    ("request-not-approved", Extent::Volumes),
    ("request-not-issued", Extent::Volumes),
    ("identity-refused", Extent::Volumes),
    ("request-failed", Extent::Volumes),
    ("no-registration-entry", Extent::Volumes),
    ("agent-not-answering", Extent::Volumes),
    ("roots-not-shared", Extent::Node),
    ("data-nearly-full", Extent::Node),
];

/// The conditions of the only driver name in `driver`, at most 16.
pub fn conditions(
    driver: DriverFacts,
    agent: Option<AgentSeen>,
    data: Option<DataSeen>,
    now: SystemTime,
) -> Vec<StorageCondition> {
    let plans = driver.names.iter().flat_map(|name| &name.plans).filter_map(|plan| plan.parse::<Plan>().ok());
    let has_one_source = plans.map(Plan::source).collect::<BTreeSet<_>>().len() == 1;
    let report = Report::of(&Facts { agent, data: data.map(Ok), ..Facts::new(Ok(driver), now) });
    let mut found: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    for finding in &report.findings {
        found.entry(finding.id).or_default().insert(&finding.about, &finding.cause);
    }
    let condition = |(id, extent): &(&str, Extent)| {
        let condition = condition(id, *extent, found.get(id)?);
        Some(StorageCondition { is_unreachable: has_one_source && condition.is_unreachable, ..condition })
    };
    CONDITIONS.iter().filter_map(condition).take(MOST).collect()
}

/// From the causes by what they are about.
fn condition(id: &str, extent: Extent, causes: &BTreeMap<&str, &str>) -> StorageCondition {
    let title = check(id).map_or(id, |check| check.title);
    let details = match extent {
        Extent::Volumes => format!("{} affected", causes.len()),
        Extent::AllPods | Extent::Node => causes.values().copied().collect::<Vec<_>>().join("; "),
    };
    let mut message = format!("{}: {details}", title.trim_end_matches('.')).replace(char::is_control, " ");
    message.truncate(message.floor_char_boundary(LONGEST));
    StorageCondition { is_unreachable: extent == Extent::AllPods, reason: reason(id), message }
}

/// `broker-not-connected` as `BrokerNotConnected`.
fn reason(id: &str) -> String {
    let word = |word: &str| word[..1].to_uppercase() + &word[1..];
    id.split('-').map(word).collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::findings::facts::{AgentFacts, BrokerFacts, IdentityFacts, NameFacts, VolumeFacts};

    fn volume(driver: &str, plan: &str, pod: &str, not_after: i64) -> VolumeFacts {
        VolumeFacts {
            driver: driver.to_owned(),
            plan: plan.to_owned(),
            phase: "ready".to_owned(),
            pod: Some(format!("shop/{pod}")),
            identity: Some(IdentityFacts { not_after, renewal: not_after, ..IdentityFacts::default() }),
            ..VolumeFacts::default()
        }
    }

    fn name(name: &str, plan: &str) -> NameFacts {
        NameFacts { name: name.to_owned(), plans: vec![plan.to_owned()], registered: true, ..NameFacts::default() }
    }

    fn driver(is_connected: bool) -> DriverFacts {
        DriverFacts {
            names: vec![name("csi.spiffe.io", "socket:socket-dir"), name("files.example", "broker:files")],
            agent: Some(AgentFacts { path: "/run/agent".to_owned(), heals: true, ..AgentFacts::default() }),
            broker: Some(BrokerFacts { endpoint: "unix:///run/broker.sock".to_owned(), up: is_connected }),
            volumes: [("csi-1", 100), ("csi-2", 100), ("csi-3", 5_000)]
                .map(|(id, ends)| (id.to_owned(), volume("files.example", "broker:files", id, ends)))
                .into(),
            ..DriverFacts::default()
        }
    }

    fn of(name: &str, is_connected: bool, agent: Option<AgentSeen>) -> Vec<(bool, String, String)> {
        let now = UNIX_EPOCH + Duration::from_secs(1_000);
        let found = conditions(driver(is_connected).of_name(name), agent, None, now);
        found.into_iter().map(|found| (found.is_unreachable, found.reason, found.message)).collect()
    }

    #[test]
    fn each_driver_name_has_the_conditions_of_its_own_sources() {
        let expired = (false, "IdentityExpired".to_owned(), "The identity of a pod has expired: 2 affected".to_owned());
        let apart = (
            true,
            "BrokerNotConnected".to_owned(),
            "The driver is not connected to the agent's Broker API: there is no connection".to_owned(),
        );
        let gone = (
            true,
            "AgentDirectoryMissing".to_owned(),
            "The agent's directory does not exist: /run/agent does not exist".to_owned(),
        );
        assert_eq!(of("files.example", true, None), std::slice::from_ref(&expired));
        assert_eq!(of("files.example", false, Some(AgentSeen::Missing)), [apart, expired]);
        assert_eq!(of("csi.spiffe.io", false, Some(AgentSeen::Missing)), [gone]);
        assert_eq!(of("csi.spiffe.io", false, None), []);
        let mut both = driver(false);
        both.names[1].plans.push("cert-manager:files".to_owned());
        let found = conditions(both.of_name("files.example"), None, None, UNIX_EPOCH);
        assert!(!found[0].is_unreachable && found[0].reason == "BrokerNotConnected", "another source is left");
    }

    #[test]
    fn conditions_are_checks_and_name_no_pod() {
        for (id, _) in CONDITIONS {
            assert!(check(id).is_some(), "{id} is a check");
        }
        for (_, _, message) in of("files.example", false, None) {
            assert!(!message.contains("shop") && !message.contains("csi-"), "{message}");
        }
        let long = condition("broker-not-connected", Extent::AllPods, &[("x", "ä\n".repeat(1_000).as_str())].into());
        assert!(long.message.len() <= LONGEST && !long.message.contains('\n'), "{}", long.message);
    }
}
