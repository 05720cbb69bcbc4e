//! The state of one pod, and its meaning for a volume of the pod.

use std::sync::Arc;

use svid_csi_core::pod::PodRef;
use svid_csi_core::x509_context::X509Context;

use super::error::{BrokerError, ResponseError};

/// The agent's response about a pod.
#[derive(Debug, Clone, Default)]
pub(super) struct PodState {
    pub(super) answer: AgentAnswer,
    /// Why the state may be outdated.
    pub(super) trouble: Option<String>,
    /// The last response, if it broke a rule.
    pub(super) refused: Option<Arc<ResponseError>>,
}

/// The last valid response.
#[derive(Debug, Clone, Default)]
pub(super) enum AgentAnswer {
    /// None yet.
    #[default]
    Unknown,
    /// The identities of the pod.
    Given(Arc<X509Context>),
    /// The pod has no identity.
    Nothing(Nothing),
    /// The agent does not support the call, which is not repeated until there is another agent.
    NotUnderstood(String),
}

/// Why a pod has no identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Nothing {
    /// No entry matches it.
    NoEntry,
    /// The agent denies it.
    Denied(String),
}

/// What a volume of the pod does next.
pub(super) enum Verdict {
    /// Take this.
    Take(X509Context),
    /// Wait for more.
    Wait,
    /// Fail.
    Fail(BrokerError),
}

/// The current identity of a volume, and how long it can wait.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wants<'a> {
    /// None; its pod waits to start.
    First,
    /// The one with this digest, which any other replaces.
    Other(&'a str),
    /// One that is replaced by the current identity, even if it is the same.
    Again,
    /// None any more; its pod does not wait, and any new identity is delivered.
    Anything,
}

impl PodState {
    /// The verdict for a volume, which requests the SVID with that `hint` if there is one.
    pub(super) fn verdict(&self, wants: Wants<'_>, hint: Option<&str>) -> Verdict {
        match (&self.answer, wants) {
            (AgentAnswer::Given(context), _) => given(context, wants, hint),
            (AgentAnswer::Nothing(nothing), Wants::Other(_) | Wants::Again) => {
                Verdict::Fail(BrokerError::Withdrawn(nothing.to_string()))
            }
            (AgentAnswer::Nothing(Nothing::Denied(why)), Wants::First) => {
                Verdict::Fail(BrokerError::Denied(why.clone()))
            }
            (AgentAnswer::NotUnderstood(why), Wants::First) => Verdict::Fail(BrokerError::NotUnderstood(why.clone())),
            (_, Wants::First) => match &self.refused {
                Some(refused) => Verdict::Fail(BrokerError::Refused(refused.clone())),
                None => Verdict::Wait,
            },
            _ => Verdict::Wait,
        }
    }

    /// What volumes of the pod wait for, if they wait.
    pub(super) fn waits_for(&self, pod: &PodRef) -> Option<String> {
        let because = self.trouble.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        match &self.answer {
            AgentAnswer::Given(_) => self.trouble.clone(),
            AgentAnswer::Unknown => Some(format!("the agent's answer{because}")),
            AgentAnswer::Nothing(Nothing::NoEntry) => Some(entry_for(pod)),
            AgentAnswer::Nothing(Nothing::Denied(why)) => Some(format!("the agent to allow it ({why})")),
            AgentAnswer::NotUnderstood(why) => {
                Some(format!("another agent: this one does not support the driver's call ({why})"))
            }
        }
    }
}

fn given(context: &Arc<X509Context>, wants: Wants<'_>, hint: Option<&str>) -> Verdict {
    let wanted = match hint {
        None => (**context).clone(),
        Some(hint) => match ((**context).clone().only(hint), wants) {
            (Ok(only), _) => only,
            (Err(none), Wants::Other(_) | Wants::Again) => {
                return Verdict::Fail(BrokerError::Withdrawn(none.to_string()));
            }
            (Err(none), Wants::First) => return Verdict::Fail(BrokerError::NoSuchHint(none)),
            (Err(_), Wants::Anything) => return Verdict::Wait,
        },
    };
    match wants {
        Wants::Other(digest) if digest == wanted.digest() => Verdict::Wait,
        _ => Verdict::Take(wanted),
    }
}

/// The entry to register, with the selectors of the agent's Kubernetes attestor.
fn entry_for(pod: &PodRef) -> String {
    let PodRef { namespace, name, uid, service_account } = pod;
    format!(
        "a registration entry that matches the pod: there is none yet; register one for this node's agent with some of the \
         selectors k8s:ns:{namespace}, k8s:sa:{service_account}, k8s:pod-name:{name}, k8s:pod-uid:{uid}, k8s:pod-label:..., \
         but none for its containers or images, which are not known before the pod starts"
    )
}

impl std::fmt::Display for Nothing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Nothing::NoEntry => f.write_str("no registration entry of the agent matches the pod any more"),
            Nothing::Denied(why) => write!(f, "the agent denies it: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use svid_csi_core::identity::Rejection;

    fn state(answer: AgentAnswer) -> PodState {
        PodState { answer, ..PodState::default() }
    }

    /// The cases of volumes that are new, renewing (in time, or at once) and withdrawn.
    fn verdicts(state: &PodState) -> [&'static str; 4] {
        [Wants::First, Wants::Other("digest"), Wants::Again, Wants::Anything].map(|wants| {
            match state.verdict(wants, None) {
                Verdict::Take(_) => "take",
                Verdict::Wait => "wait",
                Verdict::Fail(BrokerError::Withdrawn(_)) => "withdrawn",
                Verdict::Fail(BrokerError::Denied(_)) => "denied",
                Verdict::Fail(BrokerError::Refused(_)) => "refused",
                Verdict::Fail(BrokerError::NotUnderstood(_)) => "not understood",
                Verdict::Fail(_) => "another failure",
            }
        })
    }

    #[test]
    fn an_empty_response_means_not_yet_before_an_identity_and_withdrawn_after_it() {
        let denied = || Nothing::Denied("policy".to_owned());
        for (answer, expected) in [
            (AgentAnswer::Unknown, ["wait", "wait", "wait", "wait"]),
            (AgentAnswer::Nothing(Nothing::NoEntry), ["wait", "withdrawn", "withdrawn", "wait"]),
            (AgentAnswer::Nothing(denied()), ["denied", "withdrawn", "withdrawn", "wait"]),
            (AgentAnswer::NotUnderstood("no".to_owned()), ["not understood", "wait", "wait", "wait"]),
        ] {
            assert_eq!(verdicts(&state(answer.clone())), expected, "{answer:?}");
        }
    }

    #[test]
    fn failures_keep_the_last_identity() {
        let refused = Some(Arc::new(ResponseError::Rejected(Rejection::EmptyBundle)));
        let trouble = Some("the connection was lost".to_owned());
        let state = PodState { refused, trouble, answer: AgentAnswer::Unknown };
        assert_eq!(verdicts(&state), ["refused", "wait", "wait", "wait"]);
    }

    #[test]
    fn a_waiting_volume_reports_what_to_do() {
        let text = |text: &str| text.to_owned();
        let pod =
            PodRef { namespace: text("shop"), name: text("web-0"), uid: text("1f0c"), service_account: text("web") };
        let waits = |answer| state(answer).waits_for(&pod).unwrap();
        let entry = waits(AgentAnswer::Nothing(Nothing::NoEntry));
        for selector in ["k8s:ns:shop", "k8s:sa:web", "k8s:pod-name:web-0", "k8s:pod-uid:1f0c", "images"] {
            assert!(entry.contains(selector), "{selector} in {entry}");
        }
        assert!(waits(AgentAnswer::Nothing(Nothing::Denied(text("policy")))).contains("policy"));
        let with_trouble = PodState { trouble: Some(text("it is away")), ..state(AgentAnswer::Unknown) };
        assert_eq!(with_trouble.waits_for(&pod).unwrap(), "the agent's answer (it is away)");
    }
}
