//! cert-manager and its approver, driven by the test or automatic.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use svid_csi::telemetry::report::rfc3339;
use svid_csi_core::cert_request::CertificateRequest;
use svid_csi_core::go_duration;

use super::kinds::Kind;
use super::objects::{Object, Objects};
use crate::test_ca::{Flaw, TestCa};

const REQUESTS: &str = "certificaterequests";

/// What happens to new requests automatically.
#[derive(Debug, Clone, Default)]
pub enum Mode {
    /// Nothing; the test does everything.
    #[default]
    ByHand,
    /// They are approved; the test issues.
    Approve,
    /// They are approved and issued.
    Issue(Issuing),
    /// They are denied with this message.
    Deny(String),
    /// They are approved, and then the issuer fails with this message.
    Fail(String),
}

/// How certificates are issued.
#[derive(Debug, Clone)]
pub struct Issuing {
    /// Who signs.
    pub ca: Arc<TestCa>,
    /// Their lifetime; by default the requested one.
    pub lifetime: Option<Duration>,
    /// Their flaw.
    pub flaw: Option<Flaw>,
}

/// The certificate requests of the cluster, by their names, which must be unique.
#[derive(Debug)]
pub struct CertManager {
    objects: Arc<Objects>,
    mode: Mutex<Mode>,
    /// A version, and the number of requests pending at it.
    peak_since: Mutex<(u64, usize)>,
}

impl Issuing {
    /// Proper certificates by that CA.
    pub fn by(ca: &Arc<TestCa>) -> Self {
        Issuing { ca: ca.clone(), lifetime: None, flaw: None }
    }

    /// A copy with that lifetime.
    #[must_use]
    pub fn lifetime(self, lifetime: Duration) -> Self {
        Issuing { lifetime: Some(lifetime), ..self }
    }

    /// A copy with that flaw.
    #[must_use]
    pub fn flaw(self, flaw: Flaw) -> Self {
        Issuing { flaw: Some(flaw), ..self }
    }

    fn chain(&self, request: &CertificateRequest) -> Option<String> {
        let csr = String::from_utf8(STANDARD.decode(&request.spec.request).ok()?).ok()?;
        let asked = request.spec.duration.as_deref().and_then(|text| go_duration::parse(text).ok());
        let lifetime = self.lifetime.or(asked).unwrap_or(Duration::from_secs(3600));
        Some(self.ca.sign(&csr, lifetime, self.flaw))
    }
}

impl CertManager {
    pub(super) fn new(objects: Arc<Objects>) -> Self {
        Self { objects, mode: Mutex::default(), peak_since: Mutex::default() }
    }

    /// Sets what happens to later requests. Existing ones do not change.
    pub fn mode(&self, mode: Mode) {
        *self.mode.lock().unwrap_or_else(PoisonError::into_inner) = mode;
    }

    /// All existing requests, ordered by namespace and name.
    pub fn requests(&self) -> Vec<CertificateRequest> {
        self.where_true(|_| true)
    }

    /// The requests without a final state.
    pub fn pending(&self) -> Vec<CertificateRequest> {
        self.where_true(is_pending)
    }

    /// The highest number of requests [`pending`](Self::pending) at once since [`forget_peak`](Self::forget_peak).
    ///
    /// # Panics
    /// If the history was [compacted](Objects::compact) since.
    pub fn peak_pending(&self) -> usize {
        let (version, mut now) = *self.peak_since.lock().unwrap_or_else(PoisonError::into_inner);
        let mut peak = now;
        let count = |object: Option<Object>| usize::from(object.is_some_and(|object| is_pending(&object)));
        for change in self.objects.since(version).expect("a history").into_iter() {
            if change.plural == REQUESTS {
                now = now + count(change.after) - count(change.before);
                peak = peak.max(now);
            }
        }
        peak
    }

    /// Restarts the count of [`peak_pending`](Self::peak_pending). Nothing else may be in progress.
    pub fn forget_peak(&self) {
        let pending = self.pending().len();
        *self.peak_since.lock().unwrap_or_else(PoisonError::into_inner) = (self.objects.version(), pending);
    }

    /// The requests of one pod.
    pub fn of_pod(&self, pod_name: &str) -> Vec<CertificateRequest> {
        let owned = |request: &CertificateRequest| {
            request.metadata.owner_references.iter().any(|owner| owner.is_pod() && owner.name == pod_name)
        };
        self.requests().into_iter().filter(owned).collect()
    }

    /// Approves a request. As all of these methods, it returns whether the request existed.
    pub fn approve(&self, name: &str) -> bool {
        let approved = condition("Approved", "True", "spiffe.csi.cert-manager.io", "Approved request");
        let waiting = condition("Ready", "False", "Pending", "Waiting on certificate issuance");
        self.change(name, |request| set(request, approved)) && self.change(name, |request| set(request, waiting))
    }

    /// Denies a request: first the approver, then cert-manager, which reports that.
    pub fn deny(&self, name: &str, message: &str) -> bool {
        let denied = condition("Denied", "True", "spiffe.csi.cert-manager.io", message);
        let words = "The CertificateRequest was denied by an approval controller";
        self.change(name, |request| set(request, denied))
            && self.change(name, |request| {
                set(request, condition("Ready", "False", "Denied", words));
                request["status"]["failureTime"] = rfc3339(SystemTime::now()).into();
            })
    }

    /// Approves a request and puts this certificate chain and CA into it, valid or not.
    pub fn issue(&self, name: &str, chain_pem: &str, ca_pem: Option<&str>) -> bool {
        let words = "Certificate fetched from issuer successfully";
        self.approve(name)
            && self.change(name, |request| {
                set(request, condition("Ready", "True", "Issued", words));
                request["status"]["certificate"] = STANDARD.encode(chain_pem).into();
                if let Some(ca) = ca_pem {
                    request["status"]["ca"] = STANDARD.encode(ca).into();
                }
            })
    }

    /// Approves and signs a request.
    pub fn sign(&self, name: &str, issuing: &Issuing) -> bool {
        let request = self.where_true(|request| request["metadata"]["name"] == name).pop();
        let Some(chain) = request.and_then(|request| issuing.chain(&request)) else { return false };
        self.issue(name, &chain, Some(&issuing.ca.bundle_pem()))
    }

    /// Approves a request, and lets the issuer report why there is no certificate yet.
    pub fn wait(&self, name: &str, message: &str) -> bool {
        let waiting = condition("Ready", "False", "Pending", message);
        self.approve(name) && self.change(name, |request| set(request, waiting))
    }

    /// Approves a request, and lets the issuer give up.
    pub fn fail(&self, name: &str, message: &str) -> bool {
        self.approve(name)
            && self.change(name, |request| {
                set(request, condition("Ready", "False", "Failed", message));
                request["status"]["failureTime"] = rfc3339(SystemTime::now()).into();
            })
    }

    /// Marks a request as invalid.
    pub fn invalid(&self, name: &str, message: &str) -> bool {
        let invalid = condition("InvalidRequest", "True", "OrderFailed", message);
        self.change(name, |request| set(request, invalid))
    }

    /// Changes a completed request as if it had ended an hour ago, as the attempt with that number.
    pub fn backdate(&self, name: &str, attempt: u32) -> bool {
        let earlier = rfc3339(SystemTime::now() - Duration::from_secs(3600));
        self.change(name, |request| {
            request["metadata"]["annotations"]["svid-csi/attempt"] = attempt.to_string().into();
            let conditions = request["status"]["conditions"].as_array_mut();
            for condition in conditions.into_iter().flatten() {
                condition["lastTransitionTime"] = earlier.clone().into();
            }
            request["status"]["failureTime"] = earlier.into();
        })
    }

    /// Deletes a request.
    pub fn delete(&self, name: &str) -> bool {
        let namespace = self.objects.namespace_of(Kind::named(REQUESTS), name);
        namespace.is_some_and(|namespace| self.objects.remove(REQUESTS, &namespace, name))
    }

    pub(super) fn created(&self, kind: &Kind, object: &Object) {
        if kind.plural != REQUESTS {
            return;
        }
        let mode = self.mode.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        match mode {
            Mode::ByHand => false,
            Mode::Approve => self.approve(name),
            Mode::Issue(issuing) => self.sign(name, &issuing),
            Mode::Deny(message) => self.deny(name, &message),
            Mode::Fail(message) => self.fail(name, &message),
        };
    }

    fn where_true(&self, wanted: impl Fn(&Value) -> bool) -> Vec<CertificateRequest> {
        let typed = |object: Object| serde_json::from_value((*object).clone()).expect("a certificate request");
        self.objects.matching(Kind::named(REQUESTS), wanted).into_iter().map(typed).collect()
    }

    fn change(&self, name: &str, with: impl FnOnce(&mut Value)) -> bool {
        let kind = Kind::named(REQUESTS);
        let namespace = self.objects.namespace_of(kind, name);
        namespace.is_some_and(|namespace| self.objects.change(kind, &namespace, name, with))
    }
}

fn is_pending(request: &Value) -> bool {
    let conditions = request["status"]["conditions"].as_array();
    !conditions.into_iter().flatten().any(|condition| match condition["type"].as_str() {
        Some("Ready") => condition["reason"] != "Pending",
        Some("Denied" | "InvalidRequest") => condition["status"] == "True",
        _ => false,
    })
}

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    let now = rfc3339(SystemTime::now());
    json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": now})
}

fn set(request: &mut Value, condition: Value) {
    if !request["status"]["conditions"].is_array() {
        request["status"]["conditions"] = json!([]);
    }
    let conditions = request["status"]["conditions"].as_array_mut().expect("just made");
    conditions.retain(|known| known["type"] != condition["type"]);
    conditions.push(condition);
}
