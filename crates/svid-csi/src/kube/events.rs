//! Events on objects, for owners of pods, who cannot read the driver's log.
//!
//! They are events of the core group, not of events.k8s.io, because the predecessor's roles allow only those.

mod recent;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use svid_csi_core::findings::{Check, leading_to};
use svid_csi_core::pod::PodRef;
use tokio::sync::mpsc;
use tracing::{debug, error, warn};

use self::recent::Recent;
use crate::host::clock;
use crate::kube::call::{CallError, within};
use crate::kube::client::CALL_TIMEOUT;
use crate::kube::error::describe;
use crate::tasks::Tasks;
use crate::telemetry::reported::Reported;

/// The maximum number of queued events; further ones are dropped.
const QUEUE: usize = 256;
/// The maximum size that the API server accepts, in bytes.
const MESSAGE: usize = 1024;
/// How long the same event is not repeated.
const REPEAT_AFTER: Duration = Duration::from_secs(600);

/// Sends events in the background. Losing one is not an error, because nothing waits for them or depends on them.
#[derive(Debug, Clone)]
pub struct Events {
    queue: mpsc::Sender<Notice>,
    recent: Arc<Mutex<Recent>>,
    dropped: Arc<AtomicU64>,
}

/// Whether someone should act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EventType {
    Warning,
    Normal,
}

#[derive(Debug)]
struct Notice {
    kind: EventType,
    about: ObjectReference,
    reason: &'static str,
    message: String,
}

/// A pod, as the object of a warning.
pub fn pod_reference(pod: &PodRef) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: Some(pod.namespace.clone()),
        name: Some(pod.name.clone()),
        uid: Some(pod.uid.clone()),
        ..ObjectReference::default()
    }
}

/// A node, as the object of an event; its UID as kubelets write it.
pub fn node_reference(name: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Node".to_owned()),
        name: Some(name.to_owned()),
        uid: Some(name.to_owned()),
        ..ObjectReference::default()
    }
}

impl Events {
    /// Creates a sender of events from `component` (`svid-csi-driver`) and its `instance` (a node or a pod).
    pub fn new(client: Client, component: &'static str, instance: String, tasks: &Tasks) -> Self {
        let (queue, mut notices) = mpsc::channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let mut sender = Sender { client, component, instance, forbidden: Reported::default() };
        let lost = dropped.clone();
        tasks.detached(async move {
            while let Some(notice) = notices.recv().await {
                sender.send(notice).await;
                let lost = lost.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    warn!(lost, "the API server does not accept events fast enough; some were not sent");
                }
            }
        });
        Self { queue, recent: Arc::new(Mutex::new(Recent::new(REPEAT_AFTER))), dropped }
    }

    /// Sends a warning about the object `about`. Returns at once. A warning that was sent within the last ten minutes
    /// is not repeated. The message ends with the id of the finding that explains it, and is cut to 1,024 bytes.
    pub fn warn(
        &self,
        about: ObjectReference,
        reason: &'static str,
        message: impl AsRef<str>,
        finding: Option<&'static Check>,
    ) {
        self.send(EventType::Warning, about, reason, leading_to(finding, message.as_ref(), MESSAGE));
    }

    /// The same without a warning. Half of the queue is kept for warnings.
    pub fn inform(&self, about: ObjectReference, reason: &'static str, message: impl AsRef<str>) {
        self.send(EventType::Normal, about, reason, leading_to(None, message.as_ref(), MESSAGE));
    }

    fn send(&self, kind: EventType, about: ObjectReference, reason: &'static str, message: String) {
        let ObjectReference { kind: of, namespace, name, uid, .. } = &about;
        let key = Recent::key(&(of, namespace, name, uid, reason, &message));
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.has(key) {
            return;
        }
        let has_room = kind == EventType::Warning || self.queue.capacity() > QUEUE / 2;
        if has_room && self.queue.try_send(Notice { kind, about, reason, message }).is_ok() {
            recent.add(key);
        } else {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct Sender {
    client: Client,
    component: &'static str,
    instance: String,
    forbidden: Reported<()>,
}

impl Sender {
    async fn send(&mut self, notice: Notice) {
        let is_warning = notice.kind == EventType::Warning;
        let event = self.event(notice);
        let namespace = event.metadata.namespace.clone().unwrap_or_default();
        let events: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        let parameters = PostParams::default();
        match within(CALL_TIMEOUT, events.create(&parameters, &event)).await {
            Ok(_) => _ = self.forbidden.ends(),
            Err(CallError::Failed(error)) if lacks_permission(&error) => {
                // The predecessor's roles allow no events, and no one misses the good news.
                if is_warning && self.forbidden.is_new(()) {
                    error!(
                        error = describe(&error),
                        namespace, "events cannot be sent: grant this service account the verb `create` on `events`"
                    );
                }
            }
            Err(CallError::Failed(error)) => debug!(%error, namespace, "an event was not sent"),
            Err(CallError::Silent(_)) => debug!(namespace, "an event was not sent: the API server does not answer"),
        }
    }

    fn event(&self, Notice { kind, about, reason, message }: Notice) -> Event {
        let now = Timestamp::try_from(clock::now()).ok().map(Time);
        let component = Some(self.component.to_owned());
        Event {
            metadata: ObjectMeta {
                generate_name: Some(format!("{}.", about.name.as_deref().unwrap_or("svid-csi"))),
                // Events about objects without a namespace belong in this one.
                namespace: Some(about.namespace.clone().unwrap_or_else(|| "default".to_owned())),
                ..ObjectMeta::default()
            },
            involved_object: about,
            type_: Some(format!("{kind:?}")),
            reason: Some(reason.to_owned()),
            message: Some(message),
            source: Some(EventSource { component: component.clone(), host: None }),
            reporting_component: component,
            reporting_instance: Some(self.instance.clone()),
            first_timestamp: now.clone(),
            last_timestamp: now,
            count: Some(1),
            ..Event::default()
        }
    }
}

/// Whether a role forbids it. A namespace that is being deleted and a quota also cause this code, temporarily.
fn lacks_permission(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_forbidden() && status.message.contains("cannot create resource"))
}

#[cfg(test)]
mod tests;
