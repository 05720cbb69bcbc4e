//! Judges one request and writes the decision.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::api::ListParams;
use kube::{Api, Client};
use svid_csi_core::approve::{Ignored, Policy, Request, Verdict, judge};
use tracing::{debug, info, warn};

use super::issuer::KnownIssuers;
use super::metrics::Metrics;
use super::notices::Notices;
use super::object::Listed;
use super::pods::Pods;
use super::queue::{Next, TakenRequest};
use super::text::shown;
use super::write::{WriteError, Writer, Written};
use crate::backoff::{doubled, pause};
use crate::kube::call::{CallError, within};
use crate::kube::lease::Term;
use crate::kube::one_object::ReadError;
use crate::telemetry::report;
use crate::telemetry::reported::Reported;

/// How long reading a request again may take.
const READ: Duration = Duration::from_secs(10);

/// The longest time between two attempts.
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// How long a request waits if this approver lacks a permission for it, until that may have been granted.
const UNTIL_GRANTED: Duration = Duration::from_secs(60);

/// The classes of reasons that may not apply with another issuer.
const ISSUER_CLASSES: [&str; 2] = ["issuer", "unannotated_issuer"];

/// Everything needed to decide.
pub(super) struct Judge {
    pub(super) client: Client,
    pub(super) policy: Policy,
    pub(super) issuer: KnownIssuers,
    pub(super) pods: Pods,
    pub(super) writer: Writer,
    pub(super) notices: Notices,
    pub(super) metrics: Arc<Metrics>,
    /// Whether the last decision failed.
    pub(super) failing: Mutex<Reported<()>>,
}

/// Why a request could not be decided this time.
#[derive(Debug, thiserror::Error)]
pub(super) enum JudgeError {
    /// It cannot be read.
    #[error("the request cannot be read")]
    Read(#[source] CallError),
    /// The pods behind it cannot be read.
    #[error("the pods of the request cannot be read")]
    Pods(#[source] CallError),
    /// The issuer cannot be read.
    #[error("the required issuer cannot be read")]
    Issuer(#[source] ReadError),
    /// The decision cannot be written.
    #[error("the decision cannot be written")]
    Write(#[from] WriteError),
}

impl JudgeError {
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Read(error) | Self::Pods(error) | Self::Write(WriteError::Call(error)) => error.retry_after(),
            Self::Issuer(_) | Self::Write(WriteError::Body(_)) => None,
        }
    }
}

impl Judge {
    /// Decides the request whose turn it is. False after a failure that affects other requests as well.
    pub(super) async fn decide(&self, mut taken: TakenRequest, term: &Term) -> bool {
        let decided = self.try_decide(&mut taken, term).await;
        if let Err(error) = &decided {
            self.metrics.failures.inc();
            let (request, error) = (name(&taken), report::chain(error));
            // A failure of one request usually affects many.
            if self.failing().is_new(()) {
                warn!(request, error, "cannot decide a certificate request; retrying");
            } else {
                debug!(request, error, tries = taken.tries, "cannot decide a certificate request; retrying");
            }
        }
        let is_well = decided.is_ok();
        if is_well {
            self.failing().ends();
        }
        let retry = |error: JudgeError| {
            let asked = error.retry_after().unwrap_or_default().min(LONGEST_DELAY);
            Next::Retry(pause(taken.tries, LONGEST_DELAY).max(asked))
        };
        let next = decided.unwrap_or_else(retry);
        taken.finish(next);
        is_well
    }

    fn failing(&self) -> MutexGuard<'_, Reported<()>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn try_decide(&self, taken: &mut TakenRequest, term: &Term) -> Result<Next, JudgeError> {
        if taken.object.is_none() {
            taken.object = self.read(taken).await.map_err(JudgeError::Read)?;
        }
        let Some(object) = &taken.object else { return Ok(Next::Forget) };
        let verdict = self.judge(&object.request()).await?;
        match &verdict {
            Verdict::Approve | Verdict::Deny(_) => {}
            Verdict::Ignore(Ignored::NoIssuer) | Verdict::Depends(_) => return Ok(Next::Leave),
            Verdict::Ignore(Ignored::PodsForbidden) => return Ok(Next::Retry(UNTIL_GRANTED)),
            Verdict::Ignore(_) => return Ok(Next::Forget),
        }
        if !term.is_valid() {
            return Ok(Next::Retry(Duration::ZERO));
        }
        let written = self.writer.write(object, &verdict, &self.metrics).await?;
        Ok(match (written, &verdict) {
            (Written::Done, _) => {
                self.report_verdict(taken, object, &verdict);
                Next::Forget
            }
            (Written::Conflict | Written::Gone | Written::TooLarge, _) => Next::Leave,
            (Written::Refused, Verdict::Deny(_)) => Next::Leave,
            (Written::Refused, _) => Next::Retry(doubled(UNTIL_GRANTED, taken.tries, UNTIL_GRANTED * 32)),
        })
    }

    /// Reads a request whose object was dropped. It uses the verb list, because the predecessor's roles do not grant
    /// get.
    async fn read(&self, taken: &TakenRequest) -> Result<Option<Box<Listed>>, CallError> {
        let requests: Api<Listed> = Api::namespaced(self.client.clone(), &taken.key.namespace);
        let only = ListParams::default().fields(&format!("metadata.name={}", taken.key.name));
        let found = within(READ, requests.list(&only)).await?;
        Ok(found.items.into_iter().next().map(Box::new))
    }

    async fn judge(&self, request: &Request) -> Result<Verdict, JudgeError> {
        let issuer = self.issuer.current();
        let verdict = self.judge_by(request, self.issuer.policy(issuer.clone(), &self.policy)).await?;
        if !depends_on_issuer(request, &verdict) {
            return Ok(verdict);
        }
        // A decision is final, and the driver may know a new issuer before this process does.
        let now = self.issuer.read_now().await.map_err(JudgeError::Issuer)?;
        if now == issuer {
            return Ok(verdict);
        }
        self.judge_by(request, self.issuer.policy(now, &self.policy)).await
    }

    async fn judge_by(&self, request: &Request, policy: Policy) -> Result<Verdict, JudgeError> {
        match judge(request, &policy) {
            Verdict::Depends(reads) => self.pods.decide(&reads, &policy).await.map_err(JudgeError::Pods),
            verdict => Ok(verdict),
        }
    }

    fn report_verdict(&self, taken: &TakenRequest, object: &Listed, verdict: &Verdict) {
        self.metrics.decided(verdict, taken.seen.elapsed());
        let request = name(taken);
        if let Verdict::Deny(reasons) = verdict {
            info!(request, decision = "denied", reasons = reasons.message(512), "certificate request decided");
            self.notices.denied(object, reasons);
        } else {
            info!(request, decision = "approved", "certificate request decided");
        }
    }
}

/// Whether another issuer may change the verdict: a request without an identity must not be for any issuer of identities.
fn depends_on_issuer(request: &Request, verdict: &Verdict) -> bool {
    match verdict {
        Verdict::Approve => request.identity.is_none(),
        Verdict::Deny(reasons) => reasons.iter().any(|reason| ISSUER_CLASSES.contains(&reason.class())),
        _ => false,
    }
}

fn name(taken: &TakenRequest) -> String {
    format!("{}/{}", shown(&taken.key.namespace), shown(&taken.key.name))
}
