//! Whether the kubelet can reach this driver, for `/livez`. Checked on request only.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use svid_csi_proto::csi_v1::ProbeRequest;
use svid_csi_proto::csi_v1::identity_client::IdentityClient;

use super::door::Door;
use crate::net::unix_channel;
use crate::tasks::RuntimeWatch;

/// How long the sockets may take to answer; the chart's probes wait for five seconds.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a busy driver may take longer than that. The chart's probes repeat every ten seconds, and fail at the sixth.
const BUSY_AT_MOST: Duration = Duration::from_secs(60);

/// The sockets on which the kubelet calls this driver, and the runtime that answers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Liveness {
    pub(in crate::node) csi: Vec<Arc<Door>>,
    pub(in crate::node) registration: Vec<Arc<Door>>,
    runtime: Arc<RuntimeWatch>,
    slow: Arc<Slow>,
}

/// Since when a CSI socket has not answered in time.
#[derive(Debug, Default)]
struct Slow(Mutex<Option<Instant>>);

impl Slow {
    /// For how long, if it is not answering in time now.
    fn look(&self, is_slow: bool, now: Instant) -> Option<Duration> {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *since = is_slow.then(|| since.unwrap_or(now));
        since.map(|since| now.saturating_duration_since(since))
    }
}

impl Liveness {
    pub(in crate::node) fn new(csi: Vec<Arc<Door>>, registration: Vec<Arc<Door>>) -> Self {
        Self { csi, registration, ..Self::default() }
    }

    /// Connects to each CSI socket like the kubelet, checks that each registration socket is still bound to its path, and
    /// that no threads hang. A driver that is only busy is alive.
    ///
    /// # Errors
    /// The socket that the kubelet cannot reach, or the threads that hang.
    pub(crate) async fn check(&self) -> Result<(), String> {
        let lost: Vec<_> = self.csi.iter().chain(&self.registration).filter(|door| is_lost(door)).collect();
        lost.iter().for_each(|door| door.look_again());
        if let Some(door) = lost.first() {
            return Err(format!("{} was deleted or replaced", door.path().display()));
        }
        self.runtime.check().map_err(|stuck| format!("the driver is stuck: {stuck}"))?;
        let answers = futures::future::join_all(self.csi.iter().map(|door| probe(door))).await;
        let mut slow = None;
        for (door, answer) in self.csi.iter().zip(answers) {
            match answer {
                Ok(()) => {}
                Err(Unanswered::Failed(why)) => {
                    return Err(format!("{} does not answer: {why}", door.path().display()));
                }
                Err(Unanswered::Slow) => slow = Some(door),
            }
        }
        match (slow, self.slow.look(slow.is_some(), Instant::now())) {
            (Some(door), Some(since)) if since >= BUSY_AT_MOST => Err(format!(
                "{} does not answer within {PATIENCE:?} since {} s",
                door.path().display(),
                since.as_secs()
            )),
            _ => Ok(()),
        }
    }
}

/// If that cannot be determined, a probe of the CSI sockets still shows whether the kubelet reaches this driver.
fn is_lost(door: &Door) -> bool {
    matches!(door.is_open(), Ok(false))
}

/// Why a socket has not answered.
enum Unanswered {
    Failed(String),
    Slow,
}

async fn probe(door: &Door) -> Result<(), Unanswered> {
    let probed = tokio::time::timeout(PATIENCE, async {
        let channel =
            unix_channel::connect(door.path()).await.map_err(|error| crate::telemetry::report::chain(&error))?;
        IdentityClient::new(channel).probe(ProbeRequest {}).await.map_err(|status| status.message().to_owned())
    });
    match probed.await {
        Ok(answered) => answered.map(drop).map_err(Unanswered::Failed),
        Err(_) => Err(Unanswered::Slow),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_answers_count_from_the_first_until_one_is_in_time() {
        let (slow, start) = (Slow::default(), Instant::now());
        let looks = [(5, true), (15, true), (75, true), (76, false), (80, true)];
        let seen =
            looks.map(|(at, is_slow)| slow.look(is_slow, start + Duration::from_secs(at)).map(|since| since.as_secs()));
        assert_eq!(seen, [Some(0), Some(10), Some(70), None, Some(0)]);
    }
}
