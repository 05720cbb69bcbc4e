//! Writes decisions into the status of requests.

use std::time::Duration;

use kube::api::PostParams;
use kube::core::{Request, Status};
use kube::{Client, Resource};
use serde::de::IgnoredAny;
use svid_csi_core::approve::{Verdict, condition};
use svid_csi_core::cert_request::IssuerRef;
use tracing::{error, warn};

use super::metrics::Metrics;
use super::object::Listed;
use super::text::Once;
use crate::host::clock;
use crate::kube::call::{CallError, within};
use crate::kube::error::{describe, is_conflict, is_not_found, status};
use crate::telemetry::report;

/// How long one write may take, cert-manager's webhook included (its timeout is 10 s).
const WRITE: Duration = Duration::from_secs(15);

/// The result of an attempt to write a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// It is written.
    Done,
    /// The request has changed since it was judged. The watch delivers the new version.
    Conflict,
    /// The request no longer exists.
    Gone,
    /// A role, or cert-manager's webhook, forbids this decision.
    Refused,
    /// With the decision, the request would be larger than etcd's limit.
    TooLarge,
}

/// Why a decision was not written, although a retry may succeed.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    /// The call.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The object.
    #[error("the decision cannot be written as JSON")]
    Body(#[source] serde_json::Error),
}

pub(super) struct Writer {
    client: Client,
    describe: Once,
}

impl Writer {
    pub(super) fn new(client: Client) -> Self {
        Self { client, describe: Once::default() }
    }

    /// Writes a verdict that is an approval or a denial.
    ///
    /// # Errors
    /// [`WriteError`], if a retry may succeed.
    pub(super) async fn write(
        &self,
        object: &Listed,
        verdict: &Verdict,
        metrics: &Metrics,
    ) -> Result<Written, WriteError> {
        let Some(condition) = condition(verdict, clock::now()) else { return Ok(Written::Conflict) };
        let body = object.with(&condition).map_err(WriteError::Body)?;
        let key = object.key();
        let requests = Request::new(Listed::url_path(&(), Some(&key.namespace)));
        let put = requests.replace_subresource("status", &key.name, &PostParams::default(), body);
        let put = put.map_err(|error| CallError::Failed(kube::Error::BuildRequest(error)))?;
        match within(WRITE, self.client.request::<IgnoredAny>(put)).await {
            Ok(_) => Ok(Written::Done),
            Err(CallError::Failed(error)) if is_conflict(&error) => Ok(Written::Conflict),
            Err(CallError::Failed(error)) if is_not_found(&error) => Ok(Written::Gone),
            Err(CallError::Failed(error)) if status(&error).is_some_and(is_final) => {
                self.refused(object, verdict, metrics, &error);
                Ok(Written::Refused)
            }
            Err(CallError::Failed(error)) if status(&error).is_some_and(is_too_large) => {
                let (namespace, request) = (&*key.namespace, &*key.name);
                warn!(
                    namespace,
                    request, "a request is too large for a decision to be stored with it; it is left pending"
                );
                Ok(Written::TooLarge)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn refused(&self, object: &Listed, verdict: &Verdict, metrics: &Metrics, refusal: &kube::Error) {
        let (decision, counter) = match verdict {
            Verdict::Deny(_) => ("denying requests", &metrics.denials_forbidden),
            _ => ("approving requests", &metrics.approvals_forbidden),
        };
        counter.inc();
        let message = status(refusal).map_or("", |status| &status.message);
        let needed = if message.contains("admission webhook") {
            format!("the verb approve on signers of cert-manager.io named {}", signer(object))
        } else {
            "the verb update on certificaterequests/status of cert-manager.io".to_owned()
        };
        if self.describe.is_new(&format!("{decision} {needed}")) {
            let (needed, error) = (report::one_line(&needed), describe(refusal));
            error!(needed, error, "{decision} is forbidden, so such requests are left pending; logged once");
        }
    }
}

/// Whether a retry would fail in the same way, because the request itself is refused. This excludes an expired token
/// (401) and an overloaded API server (408, 429).
fn is_final(status: &Status) -> bool {
    (400..500).contains(&status.code) && !matches!(status.code, 401 | 408 | 429)
}

/// etcd's limit, which the API server reports as an internal error. Its author has filled the request up to it.
fn is_too_large(status: &Status) -> bool {
    status.message.contains("request is too large")
}

/// The signer as cert-manager's webhook names it (`internal/webhook/admission/certificaterequest/approval`).
fn signer(object: &Listed) -> String {
    let issuer: &IssuerRef = object.issuer();
    let kind = issuer.kind().to_ascii_lowercase();
    let namespace = object.key().namespace;
    let name = if kind.starts_with("cluster") { issuer.name.clone() } else { format!("{namespace}.{}", issuer.name) };
    format!("{kind}s.{}/{name}", issuer.group())
}
