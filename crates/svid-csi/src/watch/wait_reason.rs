//! Logs each reason for waiting once.

use tracing::{info, warn};

use crate::telemetry::reported::gist;

/// The reason for waiting, if there is one.
#[derive(Debug, Default)]
pub(super) struct WaitReason(Option<String>);

impl WaitReason {
    /// Logs the reason, unless it is the last one with other numbers.
    pub(super) fn waiting(&mut self, reason: String) {
        if self.0.as_ref().is_none_or(|last| gist(last) != gist(&reason)) {
            warn!("waiting: {reason}");
        }
        self.0 = Some(reason);
    }

    /// Logs the end of the wait, if there was one.
    pub(super) fn done(&mut self) {
        if self.0.take().is_some() {
            info!("no longer waiting");
        }
    }

    /// The reason, if there is one.
    pub(super) fn reason(&self) -> Option<String> {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::captured_log::CapturedLog;

    #[test]
    fn a_reason_is_logged_again_only_after_another_or_after_the_end() {
        let log = CapturedLog::start();
        let mut wait_reason = WaitReason::default();
        wait_reason.done();
        for reason in ["a", "a", "b", "a"] {
            wait_reason.waiting(reason.to_owned());
        }
        assert_eq!((log.lines("waiting: a").len(), log.lines("waiting: b").len()), (2, 1));
        wait_reason.done();
        wait_reason.done();
        wait_reason.waiting("a".to_owned());
        assert_eq!((log.lines("waiting: a").len(), log.lines("no longer waiting").len()), (3, 1));
    }
}
