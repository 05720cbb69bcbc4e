//! An agent that is gone for longer than a restart takes.

use std::convert::Infallible;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use svid_csi_core::finding;
use tokio::sync::watch;

use crate::kube::events::Events;

/// How long an agent may be away: one that is updated is back earlier.
const PATIENCE: Duration = Duration::from_secs(60);

/// Reports each time that there has been no connection for so long, with what it waits for.
pub(super) async fn watch<T>(
    mut current: watch::Receiver<Option<T>>,
    waits_for: impl Fn() -> String,
    mut report: impl FnMut(String),
) -> Infallible {
    loop {
        if current.wait_for(Option::is_none).await.is_err() {
            // The driver is ending.
            return std::future::pending().await;
        }
        let is_back = tokio::time::timeout(PATIENCE, connected(&mut current)).await;
        if is_back.is_err() {
            report(format!(
                "the driver waits for {}; pods keep their identities, but none is issued or renewed",
                waits_for()
            ));
            connected(&mut current).await;
        }
    }
}

/// Sends the event about the node.
pub(super) fn report(events: &Events, node: &ObjectReference, message: String) {
    events.warn(node.clone(), "AgentGone", message, Some(finding!("broker-not-connected")));
}

async fn connected<T>(current: &mut watch::Receiver<Option<T>>) {
    if current.wait_for(Option::is_some).await.is_err() {
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use futures::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_stays_away_is_reported_once_and_a_restart_is_not() {
        let (connection, current) = watch::channel(None::<()>);
        let reported = RefCell::new(Vec::new());
        let watching = watch(current, || "the agent".to_owned(), |message| reported.borrow_mut().push(message));
        let mut watching = Box::pin(watching);
        let mut after = async |seconds: u64| {
            assert!(tokio::time::timeout(Duration::from_secs(seconds), &mut watching).await.is_err());
            assert!((&mut watching).now_or_never().is_none());
            reported.borrow().len()
        };
        assert_eq!(after(59).await, 0);
        connection.send_replace(Some(()));
        assert_eq!(after(3_600).await, 0);
        connection.send_replace(None);
        assert_eq!(after(59).await, 0);
        assert_eq!(after(2).await, 1);
        assert_eq!(after(3_600).await, 1, "not again while it lasts");
        connection.send_replace(Some(()));
        assert_eq!(after(1).await, 1);
        connection.send_replace(None);
        assert_eq!(after(61).await, 2);
        assert!(reported.borrow()[0].starts_with("the driver waits for the agent; "), "{reported:?}");
    }
}
