//! Streams of a pod's identity and its changes.

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, stream};
use prost::Message;
use svid_csi_core::x509_context::X509Context;
use tokio::sync::watch;
use tonic::Status;

use super::call::Call;
use super::caller::Progress;
use super::endpoint::{Endpoint, PodIdentity};

/// The response of a call that stays open.
pub(super) type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The pod's identity, or why it has none (SPIFFE Workload API, section 4.4).
pub(super) fn given(identity: &PodIdentity) -> Result<&Arc<X509Context>, Status> {
    match identity {
        PodIdentity::Given(context) => Ok(context),
        PodIdentity::NotYet => Err(Status::unavailable("this pod has no identity yet: try again")),
        PodIdentity::Withdrawn => Err(Status::permission_denied("this pod's identity was withdrawn")),
    }
}

/// One stream's view of its pod's identity.
pub(super) struct Following {
    call: Arc<Call>,
    identity: watch::Receiver<PodIdentity>,
    turn: u64,
    progress: Progress,
}

impl Following {
    /// Begins to follow, when the request of the call is not needed any more.
    pub(super) fn begin(call: &Arc<Call>) -> Self {
        call.has_read();
        let (identity, progress) = (call.caller.endpoint.identity.subscribe(), call.caller.opens_stream());
        Self { call: call.clone(), identity, turn: 0, progress }
    }

    fn endpoint(&self) -> &Endpoint {
        &self.call.caller.endpoint
    }

    /// The current identity of the pod.
    pub(super) fn now(&mut self) -> Result<Arc<X509Context>, Status> {
        let identity = self.identity.borrow_and_update();
        self.turn = self.call.caller.endpoint.turn();
        given(&identity).cloned()
    }

    /// The identity of the pod after the next update; `None` if its socket is closed.
    ///
    /// Polled only when there is capacity for a message, so a client that does not read never gets here.
    pub(super) async fn next(&mut self) -> Option<Result<Arc<X509Context>, Status>> {
        self.progress.has_taken(self.turn);
        tokio::select! {
            biased;
            Ok(()) = self.identity.changed() => Some(self.now()),
            () = self.call.caller.endpoint.closing.cancelled() => None,
        }
    }

    /// The message, once it fits into the limit for bytes in transit to the pod; `None` if the socket is closed in the
    /// meantime. While waiting, no message is held in memory; it is created `again`.
    pub(super) async fn fit<T: Message>(&self, message: T, again: impl Fn() -> T) -> Option<T> {
        let bytes = message.encoded_len();
        if let Ok(room) = self.endpoint().shares.bytes.try_take(bytes) {
            self.call.holds(room);
            return Some(message);
        }
        drop(message);
        tokio::select! {
            biased;
            () = self.endpoint().closing.cancelled() => None,
            room = self.endpoint().shares.bytes.take(bytes) => {
                self.call.holds(room);
                Some(again())
            }
        }
    }
}

/// The result of `make` for the pod's identity, at once and whenever `is_news` returns true for a change. Ends with the
/// reason when the identity is withdrawn.
pub(super) fn messages<T: Message + 'static>(
    call: &Arc<Call>,
    make: fn(&X509Context) -> T,
    is_news: fn(&X509Context, &X509Context) -> bool,
) -> Result<Messages<T>, Status> {
    let mut following = Following::begin(call);
    let first = following.now()?;
    let begun = (following, first, true);
    Ok(Box::pin(stream::unfold(Some(begun), move |state| async move {
        let (mut following, mut given, mut is_due) = state?;
        while !is_due {
            match following.next().await? {
                Ok(now) => {
                    is_due = is_news(&given, &now);
                    given = now;
                }
                Err(withdrawn) => return Some((Err(withdrawn), None)),
            }
        }
        let message = following.fit(make(&given), || make(&given)).await?;
        Some((Ok(message), Some((following, given, false))))
    })))
}
