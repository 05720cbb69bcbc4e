//! The X.509 state of one pod: written by its subscription, read by its volumes.

use std::sync::Arc;

use svid_csi_core::finding;
use svid_csi_core::pod::PodRef;
use svid_csi_core::spiffe_id::TrustDomain;
use svid_csi_core::x509_context::{X509Context, accept};
use svid_csi_proto::broker::{SubscribeToX509svidRequest, WorkloadReference};
use svid_csi_proto::workload::X509svidResponse;
use tokio::sync::watch;
use tonic::{Status, Streaming};
use tracing::{debug, error, info};

use super::ask;
use super::connection::Connection;
use super::error::ResponseError;
use super::pod_state::{AgentAnswer, Nothing, PodState};
use super::topic::{BrokerClient, Topic};
use crate::host::clock;
use crate::kube::events::{Events, pod_reference};
use crate::spiffe::bundle_warnings::BundleWarnings;
use crate::spiffe::x509_message;
use crate::tasks::blocking;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::report;
use crate::telemetry::reported::gist;

/// Where problems are reported.
#[derive(Debug, Clone)]
pub(super) struct ProblemReporter {
    pub(super) metrics: Arc<Metrics>,
    /// Only if there is an API server.
    pub(super) events: Option<Events>,
    pub(super) bundle_warnings: Arc<BundleWarnings>,
}

/// The known state, and where problems are reported.
pub(super) struct X509Topic {
    pub(super) pod: PodRef,
    pub(super) state: watch::Sender<PodState>,
    pub(super) reporter: ProblemReporter,
}

impl Topic for X509Topic {
    type Message = X509svidResponse;

    fn pod(&self) -> &PodRef {
        &self.pod
    }

    async fn subscribe(
        mut api: BrokerClient,
        reference: WorkloadReference,
    ) -> Result<Streaming<X509svidResponse>, Status> {
        let request = ask(SubscribeToX509svidRequest { reference: Some(reference) });
        Ok(api.subscribe_to_x509svid(request).await?.into_inner())
    }

    async fn take(&self, connection: &Connection, message: X509svidResponse) -> bool {
        if message.svids.is_empty() {
            self.nothing(Nothing::NoEntry);
            return true;
        }
        match check(message, connection.own.context.trust_domain().clone()).await {
            Ok(context) => {
                self.reporter.bundle_warnings.report(&context);
                let context = context.or_last_good(match &self.state.borrow().answer {
                    AgentAnswer::Given(last) => Some(last),
                    _ => None,
                });
                self.answer(AgentAnswer::Given(Arc::new(context)));
                true
            }
            Err(refused) => {
                self.refuse(refused);
                false
            }
        }
    }

    fn nothing(&self, nothing: Nothing) {
        if matches!(self.state.borrow().answer, AgentAnswer::Given(_)) {
            info!(pod = %self.pod, why = %nothing, "the pod's identity is withdrawn");
        }
        self.answer(AgentAnswer::Nothing(nothing));
    }

    fn not_understood(&self, why: String) {
        self.state.send_modify(|state| match state.answer {
            AgentAnswer::Given(_) => state.trouble = Some(format!("the agent does not understand the call: {why}")),
            _ => state.answer = AgentAnswer::NotUnderstood(why),
        });
    }

    fn trouble(&self, trouble: String) {
        self.state.send_modify(|state| state.trouble = Some(trouble));
    }
}

impl X509Topic {
    fn answer(&self, answer: AgentAnswer) {
        self.state.send_replace(PodState { answer, ..PodState::default() });
    }

    fn refuse(&self, refused: ResponseError) {
        let why = report::chain(&refused);
        if self.is_new(&why) {
            self.report_refused(&why);
        } else {
            debug!(pod = %self.pod, error = why, "the agent still gives an identity that is refused");
        }
        self.state.send_modify(|state| {
            state.trouble = Some(format!("a valid identity; the last one was refused: {why}"));
            state.refused = Some(Arc::new(refused));
        });
    }

    /// Whether the last message was not refused for the same reason.
    fn is_new(&self, why: &str) -> bool {
        let state = self.state.borrow();
        state.refused.as_ref().is_none_or(|last| gist(&report::chain(&**last)) != gist(why))
    }

    fn report_refused(&self, why: &str) {
        let kept = matches!(self.state.borrow().answer, AgentAnswer::Given(_));
        let finding = finding!("identity-refused");
        error!(pod = %self.pod, error = why, kept, finding = finding.id, "an identity that the agent gave for a pod is refused");
        self.reporter.metrics.identity_refused();
        if let Some(events) = &self.reporter.events {
            let message = format!("the identity that the agent gave for this pod is refused: {why}");
            events.warn(pod_reference(&self.pod), "IdentityRefused", message, Some(finding));
        }
    }
}

async fn check(message: X509svidResponse, trust_domain: TrustDomain) -> Result<X509Context, ResponseError> {
    let now = clock::now();
    let checked = blocking(move || {
        let candidate = x509_message::candidate(message)?;
        Ok(accept(candidate, &trust_domain, now)?)
    });
    checked.await?
}
