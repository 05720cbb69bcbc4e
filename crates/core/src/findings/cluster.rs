//! Objects and permissions in the API server.

use super::facts::{ClusterSeen, CsiDriverSeen, DriverFacts, Facts, IssuerSeen, Reach, Right};
use super::{Category, Check, Report, Severity, word};
use crate::identity::CLOCK_SKEW;

pub(super) const CHECKS: &[&Check] =
    &[&UNREACHABLE, &SKEW, &NO_OBJECT, &LACKS_FIELDS, &NO_RIGHT, &NO_ISSUER, &ISSUER_NOT_READY, &ISSUER_UNUSABLE];

static UNREACHABLE: Check = Check {
    id: "api-server-unreachable",
    category: Category::Cluster,
    severity: Severity::Fault,
    title: "The API server does not answer.",
    explanation: "With the source cert-manager no identity is issued or renewed meanwhile; those that pods have stay until they \
                  expire. Check the network of the node, network policies, and proxies.",
};

static SKEW: Check = Check {
    id: "clock-skew",
    category: Category::Clock,
    severity: Severity::Fault,
    title: "The clock of this node differs from the API server's by more than a minute.",
    explanation: "Certificates begin in the future, or end too early, for this node or for its peers. Synchronise the clocks with \
                  chrony or systemd-timesyncd.",
};

static NO_OBJECT: Check = Check {
    id: "csidriver-missing",
    category: Category::Cluster,
    severity: Severity::Fault,
    title: "There is no CSIDriver object of a driver name.",
    explanation: "Without it the kubelet passes on neither the pod's name nor tokens, and inline volumes are refused. The chart \
                  creates it.",
};

static LACKS_FIELDS: Check = Check {
    id: "csidriver-lacks-fields",
    category: Category::Cluster,
    severity: Severity::Fault,
    title: "A CSIDriver object lacks fields that the driver needs.",
    explanation: "volumeLifecycleModes must hold Ephemeral; podInfoOnMount must be true for every source but `socket`; and in request \
                  mode `pod` tokenRequests and requiresRepublish are needed. Some fields cannot be changed: delete the object and \
                  create it again.",
};

static NO_RIGHT: Check = Check {
    id: "permission-missing",
    category: Category::Cluster,
    severity: Severity::Fault,
    title: "The driver's service account lacks a permission that its source needs.",
    explanation: "The chart grants exactly what each source needs. With manifests of your own, compare the table of permissions in \
                  docs/rbac.md.",
};

static NO_ISSUER: Check = Check {
    id: "issuer-missing",
    category: Category::Cluster,
    severity: Severity::Fault,
    title: "The configured issuer does not exist.",
    explanation: "Requests are approved and then wait forever. Create the issuer, or name another with --issuer-name and --issuer-kind.",
};

static ISSUER_NOT_READY: Check = Check {
    id: "issuer-not-ready",
    category: Category::Cluster,
    severity: Severity::Fault,
    title: "The issuer is not ready.",
    explanation: "cert-manager says why in its conditions, such as a Secret that does not exist or a Vault that cannot be reached.",
};

static ISSUER_UNUSABLE: Check = Check {
    id: "issuer-unusable",
    category: Category::Cluster,
    severity: Severity::Fault,
    title: "The issuer is of a type that can never sign for a pod.",
    explanation: "It has to sign names of the form spiffe://… for keys that it never sees. SelfSigned and ACME cannot; CA, Vault, \
                  Venafi and others can.",
};

pub(super) fn find(facts: &Facts, report: &mut Report) {
    let Ok(driver) = &facts.driver else { return };
    match &facts.cluster {
        Reach::NotNeeded => {}
        Reach::NotPossible(why) => report.not_checked(Category::Cluster, "the API server", why),
        Reach::Unreachable(why) => report.find(&UNREACHABLE, "the API server", why, "kubectl get --raw /readyz"),
        Reach::Seen(seen) => of_cluster(driver, seen, report),
    }
}

fn of_cluster(driver: &DriverFacts, seen: &ClusterSeen, report: &mut Report) {
    let most = i64::try_from(CLOCK_SKEW.as_secs()).unwrap_or(i64::MAX);
    match seen.ahead {
        Some(ahead) if ahead.saturating_abs() > most => {
            let (by, side) = (ahead.unsigned_abs(), if ahead > 0 { "ahead of" } else { "behind" });
            let cause = format!("this node's clock is {by} s {side} the API server's");
            report.find(&SKEW, &driver.node, cause, "timedatectl status");
        }
        Some(_) => {}
        None => report.not_checked(Category::Clock, "clock skew", "the API server's response has no date"),
    }
    for (name, object) in &seen.csi_drivers {
        let show = format!("kubectl get csidriver {} -o yaml", word(name));
        match object {
            Ok(None) => report.find(&NO_OBJECT, name, "the API server has no such object", "kubectl get csidrivers"),
            Ok(Some(object)) => {
                let lacks = lacks(driver, name, object);
                if !lacks.is_empty() {
                    report.find(&LACKS_FIELDS, name, format!("it lacks {}", lacks.join(" and ")), show);
                }
            }
            Err(why) => report.not_checked(Category::Cluster, format!("CSIDriver object {name}"), why),
        }
    }
    for right in &seen.rights {
        of_right(right, report);
    }
    match (&seen.issuer, driver.cert_manager.as_ref().and_then(|source| source.issuer.as_ref())) {
        (Some(Ok(None)), Some(issuer)) => {
            let cause = format!("there is no {} of this name", issuer.kind);
            report.find(&NO_ISSUER, &issuer.name, cause, "kubectl get clusterissuers");
        }
        (Some(Ok(Some(seen))), Some(issuer)) => of_issuer(&issuer.name, seen, report),
        (Some(Err(why)), Some(issuer)) => report.not_checked(Category::Cluster, format!("issuer {}", issuer.name), why),
        _ => {}
    }
}

fn lacks(driver: &DriverFacts, name: &str, object: &CsiDriverSeen) -> Vec<&'static str> {
    let plans = driver.names.iter().filter(|known| known.name == name).flat_map(|known| &known.plans);
    let issues = plans.clone().any(|plan| !plan.starts_with("socket:"));
    let pods_ask = driver.cert_manager.as_ref().is_some_and(|source| source.pods_ask);
    let tokens = pods_ask && plans.clone().any(|plan| plan.starts_with("cert-manager:"));
    let wanted = [
        ("volumeLifecycleModes: [Ephemeral]", object.ephemeral),
        ("podInfoOnMount: true", !issues || object.pod_info),
        ("tokenRequests: [{audience: \"\"}]", !tokens || object.tokens),
        ("requiresRepublish: true", !tokens || object.republish),
    ];
    wanted.into_iter().filter(|(_, is_there)| !is_there).map(|(field, _)| field).collect()
}

fn of_right(right: &Right, report: &mut Report) {
    match &right.allowed {
        Ok(true) => {}
        Ok(false) => {
            let cause = format!("it may not {right} in all namespaces");
            let fix = format!("kubectl auth can-i {right} -A --as system:serviceaccount:NAMESPACE:DRIVER");
            report.find(&NO_RIGHT, right.to_string(), cause, fix);
        }
        Err(why) => report.not_checked(Category::Cluster, format!("permission to {right}"), why),
    }
}

fn of_issuer(name: &str, seen: &IssuerSeen, report: &mut Report) {
    let describe = format!("kubectl describe clusterissuer {}", word(name));
    if let Some(kind) = seen.unusable {
        report.find(&ISSUER_UNUSABLE, name, format!("it is of type {kind}"), describe);
    } else if let Some(why) = &seen.not_ready {
        report.find(&ISSUER_NOT_READY, name, why, describe);
    }
}
