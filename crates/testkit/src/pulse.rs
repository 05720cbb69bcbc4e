//! Waits for events at a peer, without polling.

use std::time::Duration;

use tokio::sync::watch;

/// How long a test waits for an event that must occur. Nothing takes that long on any machine.
const LIMIT: Duration = Duration::from_secs(120);

/// Notified of every change and every call.
#[derive(Debug, Clone, Default)]
pub struct Pulse(watch::Sender<u64>);

impl Pulse {
    pub(crate) fn beat(&self) {
        self.0.send_modify(|beats| *beats += 1);
    }

    pub(crate) fn listen(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }

    /// Waits until `probe` returns something; it is called after every change and every call.
    ///
    /// # Panics
    /// If two minutes have passed without a result. The message names `what`.
    pub async fn until<T>(&self, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
        let mut beats = self.listen();
        let found = tokio::time::timeout(LIMIT, async {
            loop {
                beats.mark_unchanged();
                if let Some(found) = probe() {
                    return found;
                }
                beats.changed().await.expect("the sender is in `self`");
            }
        });
        found.await.unwrap_or_else(|_| panic!("still waiting: {what}"))
    }
}
