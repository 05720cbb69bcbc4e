//! The single list and watch of this node's requests.

use std::convert::Infallible;
use std::sync::Arc;

use kube::runtime::watcher::Error;
use kube::{Api, Client};
use prometheus_client::metrics::counter::Counter;
use svid_csi_core::cert_request::{NODE_LABEL, hash_identifier};
use svid_csi_core::finding;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::requests::{Link, Requests};
use crate::backoff::Backoff;
use crate::kube::cert_request::CertificateRequest;
use crate::kube::watching::{GONE, Selection, WatchItem, Watching, describe};

/// The number of objects per page of a list. A page is in memory both as received and as parsed, and everyone who may
/// create requests may create large ones.
const PAGE: u32 = 10;
/// How long a watch lasts before it is resumed, in seconds. Then a dead connection is noticed.
const LASTS: u32 = 60;

/// Follows the requests with this node's label until `stop`. After a lost connection the watch continues where it was;
/// if the API server no longer remembers (410 Gone), everything is listed again.
///
/// # Errors
/// None: failures are retried, later each time.
pub async fn follow(
    requests: Arc<Requests>,
    client: Client,
    node_id: String,
    restarts: Counter,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    stop.run_until_cancelled(follow_for_ever(&requests, client, &node_id, restarts)).await;
    Ok(())
}

async fn follow_for_ever(requests: &Requests, client: Client, node_id: &str, restarts: Counter) {
    let selector = format!("{NODE_LABEL}={}", hash_identifier(node_id));
    let selection = Selection { labels: Some(selector.clone()), fields: None, page: PAGE, lasts: LASTS };
    let mut watching = Watching::new(Api::<CertificateRequest>::all(client), selection, restarts);
    let mut backoff = Backoff::for_watches();
    loop {
        let error = match watching.next().await {
            Ok(WatchItem::Event(event)) => {
                requests.apply(event);
                continue;
            }
            Ok(WatchItem::Watched) => {
                if requests.found() {
                    info!(selector, "watching the certificate requests of this node");
                }
                continue;
            }
            Err(error) => error,
        };
        log_failure(requests, &error);
        backoff.pause().await;
    }
}

fn log_failure(requests: &Requests, error: &Error) {
    // Everything is listed again, which is not a problem.
    if matches!(error, Error::WatchError(status) if status.code == GONE) {
        return;
    }
    let down = Link::Down(describe(error));
    if *requests.link().borrow() != down {
        warn!(
            error = describe(error),
            finding = finding!("requests-not-watched").id,
            needs = "list and watch on certificaterequests.cert-manager.io, in all namespaces",
            "the certificate requests of this node cannot be watched; retrying"
        );
    }
    requests.lost(describe(error));
}
