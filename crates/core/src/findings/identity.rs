//! The identities of pods, and the time.

use std::time::{Duration, SystemTime};

use super::facts::{Delivered, Facts, IdentityFacts, VolumeFacts};
use super::{Category, Check, Report, Severity, word};
use crate::identity::CLOCK_SKEW;
use crate::unix_time::{at, rfc3339, seconds};

pub(super) const CHECKS: &[&Check] = &[
    &CLOCK_BEHIND,
    &EXPIRED,
    &OVERDUE,
    &MISSING,
    &UNTRUSTED,
    &DIFFERS,
    &NOT_DELIVERED,
    &KEY,
    &OPEN,
    &CA_EXPIRED,
    &CA_EXPIRES_SOON,
];

/// How long after a renewal was due it is overdue: several attempts have failed by then.
const PATIENCE: i64 = 600;
/// How long before its end a CA certificate must be replaced.
const SOON: i64 = 14 * 24 * 3_600;

static CLOCK_BEHIND: Check = Check {
    id: "clock-behind",
    category: Category::Clock,
    severity: Severity::Fault,
    title: "The clock of this node is before the beginning of a pod's identity.",
    explanation: "The clock was set back since the identity arrived, or is wrong. Peers on this node refuse the certificate. \
                  Synchronise the clock; the driver then renews by itself.",
};

static EXPIRED: Check = Check {
    id: "identity-expired",
    category: Category::Identity,
    severity: Severity::Fault,
    title: "The identity of a pod has expired.",
    explanation: "Peers refuse the pod. If pods on many nodes are affected, look at the issuer; otherwise at what the volume waits \
                  for. The driver renews within 6 minutes once the cause is gone; `svid-csi renew` does it at once.",
};

static OVERDUE: Check = Check {
    id: "identity-overdue",
    category: Category::Identity,
    severity: Severity::Warning,
    title: "The identity of a pod should have been renewed.",
    explanation: "It still works, until it expires. The finding of the source says what the renewal waits for.",
};

static MISSING: Check = Check {
    id: "identity-missing",
    category: Category::Identity,
    severity: Severity::Fault,
    title: "A published volume holds no identity.",
    explanation: "Its source withdrew it, or it could not be kept across a restart. With SPIRE, create the registration entry again \
                  and it returns.",
};

static UNTRUSTED: Check = Check {
    id: "identity-untrusted",
    category: Category::Identity,
    severity: Severity::Fault,
    title: "The certificate of a pod does not lead to its trust bundle.",
    explanation: "Peers with the same bundle refuse the pod. The trust bundle of the driver is not that of the issuer: it is out of \
                  date, or another CA's.",
};

static DIFFERS: Check = Check {
    id: "identity-differs",
    category: Category::Identity,
    severity: Severity::Fault,
    title: "A volume delivers another identity than the driver has recorded.",
    explanation: "The files were changed by another program, or a delivery did not complete. `svid-csi renew` delivers a new identity.",
};

static NOT_DELIVERED: Check = Check {
    id: "identity-not-delivered",
    category: Category::Identity,
    severity: Severity::Fault,
    title: "The identity in a volume cannot be read.",
    explanation: "Files are missing or damaged, or the volume's socket does not answer. `svid-csi renew` delivers a new identity.",
};

static KEY: Check = Check {
    id: "key-does-not-match",
    category: Category::Identity,
    severity: Severity::Fault,
    title: "The key in a volume is not that of its certificate.",
    explanation: "Every TLS handshake of the pod fails. Another program changed one of the two files. `svid-csi renew` delivers a \
                  new pair.",
};

static OPEN: Check = Check {
    id: "key-readable-by-all",
    category: Category::Identity,
    severity: Severity::Fault,
    title: "The key in a volume can be read by every user.",
    explanation: "The driver writes keys with mode 0440 or less; another program changed it. Treat the key as leaked: renew it, and \
                  find out which program it was.",
};

static CA_EXPIRED: Check = Check {
    id: "bundle-ca-expired",
    category: Category::Identity,
    severity: Severity::Warning,
    title: "The trust bundle of a pod holds a CA certificate that has expired.",
    explanation: "It does no harm beside one that is valid. Remove it from the configured trust bundle, or find out why its \
                  successor has not arrived.",
};

static CA_EXPIRES_SOON: Check = Check {
    id: "bundle-ca-expires-soon",
    category: Category::Identity,
    severity: Severity::Warning,
    title: "Every CA certificate in the trust bundle of a pod expires within two weeks.",
    explanation: "When the last one expires, no peer trusts the pod any more, however new its certificate is. Add the CA's successor \
                  to the trust bundle before the issuer uses it.",
};

pub(super) fn find(facts: &Facts, report: &mut Report) {
    let Ok(driver) = &facts.driver else { return };
    let now = seconds(facts.now);
    for (id, volume) in driver.volumes.iter().filter(|(_, volume)| volume.is_ready() && volume.is_issued()) {
        let about = volume.about(id);
        let renew = volume
            .pod
            .as_ref()
            .map_or_else(|| "svid-csi renew --all".to_owned(), |pod| format!("svid-csi renew --pod {}", word(pod)));
        match &volume.identity {
            Some(identity) => of_time(about, identity, now, &renew, report),
            None if !volume.adopted => {
                let cause = if volume.withdrawn { "its source withdrew it" } else { "the driver has recorded none" };
                report.find(&MISSING, about, cause, renew.clone());
            }
            None => {}
        }
        match facts.volumes.get(id).and_then(|seen| seen.delivered.as_ref()) {
            Some(Ok(delivered)) => of_delivery(about, volume, delivered, now, &renew, report),
            Some(Err(why)) if volume.identity.is_some() => report.find(&NOT_DELIVERED, about, why, renew),
            _ => {}
        }
    }
}

fn of_time(about: &str, identity: &IdentityFacts, now: i64, renew: &str, report: &mut Report) {
    let skew = i64::try_from(CLOCK_SKEW.as_secs()).unwrap_or(i64::MAX);
    if identity.not_before.saturating_sub(now) > skew {
        let cause =
            format!("it is {} on this node, and the identity begins at {}", time(now), time(identity.not_before));
        report.find(&CLOCK_BEHIND, about, cause, "timedatectl status");
    }
    if identity.not_after <= now {
        report.find(&EXPIRED, about, format!("the certificate expired at {}", time(identity.not_after)), renew);
    } else if now.saturating_sub(identity.renewal) > patience(identity) {
        let cause = format!(
            "the renewal was due at about {}, the certificate expires at {}",
            time(identity.renewal),
            time(identity.not_after)
        );
        report.find(&OVERDUE, about, cause, renew);
    }
    if let Some(why) = &identity.untrusted {
        report.find(&UNTRUSTED, about, why, "kubectl get configmaps,clustertrustbundles -A");
    }
}

/// Renewals are spread by up to a tenth of the time until they are due.
fn patience(identity: &IdentityFacts) -> i64 {
    let spread = identity.renewal.saturating_sub(identity.not_before) / 10;
    spread.saturating_add(PATIENCE.min(identity.not_after.saturating_sub(identity.renewal) / 4))
}

fn of_delivery(about: &str, volume: &VolumeFacts, delivered: &Delivered, now: i64, renew: &str, report: &mut Report) {
    let Some(identity) = &volume.identity else { return };
    if delivered.serial != identity.serial {
        let cause = format!("the volume delivers serial number {}, recorded is {}", delivered.serial, identity.serial);
        report.find(&DIFFERS, about, cause, renew);
    } else if volume.spiffe_id.as_ref().is_some_and(|recorded| *recorded != delivered.spiffe_id) {
        report.find(&DIFFERS, about, format!("the volume delivers {}", delivered.spiffe_id), renew);
    }
    if let Some(why) = &delivered.key {
        report.find(&KEY, about, why, renew);
    }
    for file in &delivered.open_to_all {
        report.find(&OPEN, about, format!("{file} can be read by every user"), renew);
    }
    let bundle = "openssl crl2pkcs7 -nocrl -certfile ca.crt | openssl pkcs7 -print_certs -noout";
    let (expired, valid): (Vec<i64>, Vec<i64>) = delivered.bundle.iter().partition(|end| **end <= now);
    if let Some(end) = expired.iter().max() {
        let cause = format!("{} of {} have expired, the last at {}", expired.len(), delivered.bundle.len(), time(*end));
        report.find(&CA_EXPIRED, about, cause, bundle);
    }
    if let Some(last) = valid.iter().max().filter(|last| **last - now < SOON) {
        report.find(&CA_EXPIRES_SOON, about, format!("the last one expires at {}", time(*last)), bundle);
    }
}

fn time(seconds: i64) -> String {
    at(seconds).map_or_else(|| format!("{seconds} s since 1970"), rfc3339)
}

/// When pods lose their identities if no more are issued from `now`: the first, and the one in the middle.
pub fn outage_horizon(ends: impl IntoIterator<Item = i64>, now: SystemTime) -> Option<(Duration, Duration)> {
    let now = seconds(now);
    let mut left: Vec<u64> =
        ends.into_iter().map(|end| u64::try_from(end.saturating_sub(now)).unwrap_or_default()).collect();
    left.sort_unstable();
    let (first, half) = (left.first()?, left.get((left.len() - 1) / 2)?);
    Some((Duration::from_secs(*first), Duration::from_secs(*half)))
}
