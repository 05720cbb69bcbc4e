//! Where identities come from.

use super::facts::{Facts, VolumeFacts};
use super::{Category, Check, Report, Severity, word};

pub(super) const CHECKS: &[&Check] = &[
    &BROKER_DOWN,
    &REQUESTS_NOT_WATCHED,
    &LOCAL_CA,
    &ROOTS,
    &NO_ENTRY,
    &AGENT_SILENT,
    &NOT_APPROVED,
    &NOT_ISSUED,
    &NO_TOKEN,
    &NO_BUNDLE,
    &REFUSED,
    &FAILED,
    &WAITING,
];

static BROKER_DOWN: Check = Check {
    id: "broker-not-connected",
    category: Category::Source,
    severity: Severity::Fault,
    title: "The driver is not connected to the agent's Broker API.",
    explanation: "Pods keep the identities they have, but get no new ones. The driver's log names the reason: the agent does not \
                  run, has no registration entry for the driver, or does not list the driver's SPIFFE ID among its brokers.",
};

static REQUESTS_NOT_WATCHED: Check = Check {
    id: "requests-not-watched",
    category: Category::Source,
    severity: Severity::Fault,
    title: "The driver cannot watch the certificate requests of its node.",
    explanation: "No identity is issued or renewed. Either the API server cannot be reached, or the driver's service account may not \
                  list and watch certificaterequests.cert-manager.io in all namespaces.",
};

static LOCAL_CA: Check = Check {
    id: "local-ca-not-loaded",
    category: Category::Source,
    severity: Severity::Fault,
    title: "The local CA's files cannot be read or written.",
    explanation: "Pods keep the identities they have, but get no new ones. The driver retries; the finding names the file and the \
                  system's error.",
};

static ROOTS: Check = Check {
    id: "roots-not-shared",
    category: Category::Source,
    severity: Severity::Warning,
    title: "This node and others possibly do not trust each other.",
    explanation: "Each node has a CA of its own; their roots are shared by the ConfigMap of --local-ca-roots, which cannot be read or \
                  written. Pods of nodes that joined since then are refused.",
};

static NO_ENTRY: Check = Check {
    id: "no-registration-entry",
    category: Category::Source,
    severity: Severity::Fault,
    title: "SPIRE has no registration entry for a pod.",
    explanation: "The pod cannot start, or lost its identity. Create an entry whose parent is the agent of this node and whose \
                  selectors match the pod.",
};

static AGENT_SILENT: Check = Check {
    id: "agent-not-answering",
    category: Category::Source,
    severity: Severity::Fault,
    title: "A volume waits for an answer of the agent.",
    explanation: "The agent does not run, or does not accept this driver as a broker. The reason is in the finding.",
};

static NOT_APPROVED: Check = Check {
    id: "request-not-approved",
    category: Category::Source,
    severity: Severity::Fault,
    title: "A certificate request has been neither approved nor denied.",
    explanation: "No approver decides: it does not run, none of its replicas leads, it has another driver name or issuer, or it lacks \
                  the permission to approve for this signer.",
};

static NOT_ISSUED: Check = Check {
    id: "request-not-issued",
    category: Category::Source,
    severity: Severity::Fault,
    title: "A certificate request is approved and waits for its issuer.",
    explanation: "cert-manager does not run, or the issuer is not ready. Describe both.",
};

static NO_TOKEN: Check = Check {
    id: "no-service-account-token",
    category: Category::Source,
    severity: Severity::Warning,
    title: "A volume waits for a service account token of its pod.",
    explanation: "Normal for two minutes after the driver was restarted in request mode `pod`. If it takes longer, the CSIDriver \
                  object lacks tokenRequests or requiresRepublish, or the API server refuses to issue tokens.",
};

static NO_BUNDLE: Check = Check {
    id: "trust-bundle-missing",
    category: Category::Source,
    severity: Severity::Fault,
    title: "The configured trust bundle does not exist or cannot be read.",
    explanation: "Volumes are not published without it. Create the object of --trust-bundle, or the file of --source-ca-bundle; the \
                  driver's log names the problem.",
};

static REFUSED: Check = Check {
    id: "identity-refused",
    category: Category::Source,
    severity: Severity::Fault,
    title: "The source gave an identity that breaks a rule.",
    explanation: "It is not delivered: a pod that has an identity keeps the last good one, and a new pod does not start. The reason is \
                  in the finding, and each rule in docs/messages.md under \"refused\". Correct the registration entry, the issuer or \
                  its CA.",
};

static FAILED: Check = Check {
    id: "request-failed",
    category: Category::Source,
    severity: Severity::Fault,
    title: "The last attempt to get an identity failed.",
    explanation: "The reason is in the finding: a denial by the approver, an error of the issuer, or a missing permission. The \
                  driver retries with increasing delays of up to 5 minutes.",
};

static WAITING: Check = Check {
    id: "volume-waiting",
    category: Category::Source,
    severity: Severity::Warning,
    title: "A volume waits for its source.",
    explanation: "Normal for a moment, as while many volumes are renewed. If it stays, the finding names what is missing.",
};

pub(super) fn find(facts: &Facts, report: &mut Report) {
    let Ok(driver) = &facts.driver else { return };
    if let Some(broker) = driver.broker.as_ref().filter(|broker| !broker.up) {
        let fix = "kubectl get pods -A -o wide | grep -e spire-agent -e agent";
        report.find(&BROKER_DOWN, &broker.endpoint, "there is no connection", fix);
    }
    if driver.cert_manager.as_ref().is_some_and(|source| !source.up) {
        let cause = "the certificate requests of this node are not watched";
        let fix = "kubectl auth can-i watch certificaterequests.cert-manager.io -A --as system:serviceaccount:NAMESPACE:DRIVER";
        report.find(&REQUESTS_NOT_WATCHED, "cert-manager", cause, fix);
    }
    if let Some(trouble) = driver.local_ca.as_ref().and_then(|local_ca| local_ca.trouble.as_deref()) {
        report.find(&LOCAL_CA, "local-ca", trouble, of_files(trouble));
    }
    if let Some(trouble) = driver.roots.as_ref().and_then(|roots| roots.trouble.as_deref()) {
        report.find(&ROOTS, "local-ca", trouble, "kubectl get configmap -n NAMESPACE svid-csi-roots -o yaml");
    }
    for (id, volume) in &driver.volumes {
        if let Some(waiting) = &volume.waiting {
            let check = of_waiting(waiting);
            report.find(check, volume.about(id), format!("it waits for {waiting}"), fix(check, volume));
        }
        if let Some(failed) = &volume.failed {
            report.find(&FAILED, volume.about(id), failed, fix(&FAILED, volume));
        }
    }
}

fn namespace(volume: &VolumeFacts) -> &str {
    volume.pod.as_deref().and_then(|pod| pod.split_once('/')).map_or("NAMESPACE", |(namespace, _)| namespace)
}

/// The check for the words that `Sources::waiting` has.
pub fn of_waiting(waiting: &str) -> &'static Check {
    if waiting.contains("has not been approved or denied yet") {
        &NOT_APPROVED
    } else if waiting.contains("waits for its issuer") {
        &NOT_ISSUED
    } else if waiting.starts_with("a registration entry") {
        &NO_ENTRY
    } else if waiting.contains("the last one was refused") || waiting.contains("was issued an identity that is refused")
    {
        &REFUSED
    } else if ["the agent's ", "the driver's own identity", "another agent"]
        .iter()
        .any(|what| waiting.starts_with(what))
    {
        &AGENT_SILENT
    } else if waiting.contains("service account token") {
        &NO_TOKEN
    } else if waiting.starts_with("the trust bundle") {
        &NO_BUNDLE
    } else if waiting.starts_with("the next attempt") || waiting.starts_with("the agent to allow it") {
        &FAILED
    } else {
        &WAITING
    }
}

fn fix(check: &Check, volume: &VolumeFacts) -> String {
    match check.id {
        "request-not-approved" => "kubectl get leases -A | grep -i -e spiffe -e svid".to_owned(),
        "request-not-issued" => "kubectl get clusterissuers,issuers -A".to_owned(),
        "no-registration-entry" => "spire-server entry show".to_owned(),
        "agent-not-answering" => "kubectl get pods -A -o wide | grep -e spire-agent -e agent".to_owned(),
        "no-service-account-token" => format!("kubectl get csidriver {} -o yaml", word(&volume.driver)),
        "trust-bundle-missing" => "kubectl get configmaps,clustertrustbundles -A".to_owned(),
        "request-failed" if volume.plan.starts_with("cert-manager:") => {
            format!("kubectl get events -n {}", word(namespace(volume)))
        }
        _ if volume.plan.starts_with("broker:") => "spire-server entry show".to_owned(),
        _ if volume.plan.starts_with("cert-manager:") => {
            format!("kubectl get certificaterequests -n {}", word(namespace(volume)))
        }
        _ => "svid-csi status --sort expiry".to_owned(),
    }
}

/// The command that shows what an error of the system is about.
fn of_files(trouble: &str) -> &'static str {
    let is = |words: &[&str]| words.iter().any(|word| trouble.contains(word));
    if is(&["No space left", "Disk quota"]) {
        "df -h; df -i"
    } else if is(&["Read-only file system"]) {
        "findmnt -O ro"
    } else if is(&["Permission denied", "No such file", "Not a directory", "Is a directory"]) {
        "svid-csi doctor --category data"
    } else {
        "journalctl -k | grep -i 'I/O error'"
    }
}
