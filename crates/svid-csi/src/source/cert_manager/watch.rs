//! The one list+watch of this node's requests.

use std::sync::Arc;

use futures::StreamExt;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use svid_csi_core::cert_request::{NODE_LABEL, hash_identifier};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::requests::{Link, Requests};
use crate::kube::cert_request::CertificateRequest;
use crate::kube::error;
use crate::report;

/// Objects in one answer to a list: their certificates are in memory at once.
const PAGE: u32 = 100;

/// The API server has forgotten what was before: everything is listed again, which is no trouble.
const GONE: u16 = 410;

/// Follows the requests that carry this node's label until `stop`. After a lost connection the watch goes on where it
/// was; where the API server no longer remembers (410 Gone), everything is listed again.
///
/// # Errors
/// None: what cannot be followed now is tried again, later each time.
pub async fn follow(
    requests: Arc<Requests>,
    client: Client,
    node_id: String,
    stop: CancellationToken,
) -> Result<(), std::convert::Infallible> {
    let selector = format!("{NODE_LABEL}={}", hash_identifier(&node_id));
    let config = watcher::Config::default().labels(&selector).page_size(PAGE);
    let events = watcher(Api::<CertificateRequest>::all(client), config).default_backoff();
    let mut events = std::pin::pin!(events);
    let link = requests.link();
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = stop.cancelled() => return Ok(()),
        };
        let was_up = *link.borrow() == Link::Up;
        match event {
            Some(Ok(event)) => requests.apply(event),
            Some(Err(watcher::Error::WatchError(status))) if status.code == GONE => {}
            Some(Err(error)) => {
                let reason = reason(&error);
                if was_up || *link.borrow() != Link::Down(reason.clone()) {
                    warn!(
                        error = reason,
                        needs = "list and watch on certificaterequests.cert-manager.io, in all namespaces",
                        "the certificate requests of this node cannot be watched; this is tried again"
                    );
                }
                requests.lost(reason);
            }
            None => return Ok(()),
        }
        if !was_up && *link.borrow() == Link::Up {
            info!(selector, "watching the certificate requests of this node");
        }
    }
}

fn reason(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => error::told(error),
        watcher::Error::WatchError(status) => report::one_line(&status.message),
        error => report::chain(error),
    }
}
