//! Accepts connections forever: after a failure it logs, waits and retries, so that no failure ends a server.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::sleep;
use tracing::warn;

/// How long to wait when the system has no free descriptors.
const EXHAUSTED: Duration = Duration::from_millis(200);

/// How often accepting connections failed, on one socket or on sockets of one kind.
#[derive(Debug)]
pub(crate) struct Acceptor {
    what: String,
    failures: u64,
}

impl Acceptor {
    /// `what` names the socket in the log.
    pub(crate) fn of(what: impl ToString) -> Self {
        Self { what: what.to_string(), failures: 0 }
    }

    /// The next connection. `poll` is a listener's `poll_accept`.
    pub(crate) async fn next<S, A>(&mut self, mut poll: impl FnMut(&mut Context<'_>) -> Poll<io::Result<(S, A)>>) -> S {
        loop {
            match poll_fn(&mut poll).await {
                Ok((connection, _)) => return connection,
                // The client disconnected before it was accepted.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    self.failures += 1;
                    if self.failures.is_power_of_two() {
                        warn!(socket = self.what, failures = self.failures, %error, "cannot accept connections");
                    }
                    sleep(EXHAUSTED).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::captured_log::CapturedLog;

    #[tokio::test(start_paused = true)]
    async fn failures_to_accept_are_logged_and_retried() {
        let log = CapturedLog::start();
        let mut answers =
            [system_error(24), system_error(24), system_error(24), system_error(103), Ok(("in", ()))].into_iter();
        let mut acceptor = Acceptor::of("CSI socket");
        let accepted = acceptor.next(|_| Poll::Ready(answers.next().expect("it has accepted one"))).await;
        assert_eq!(accepted, "in");
        let lines = log.lines("cannot accept connections");
        assert_eq!(lines.len(), 2, "the first, the second, the fourth and so on: {lines:?}");
        assert!(lines[0].contains("socket=\"CSI socket\"") && lines[0].contains("Too many open files"), "{lines:?}");
    }

    /// EMFILE is 24 and ECONNABORTED 103 (errno(3)).
    fn system_error<S>(number: i32) -> io::Result<(S, ())> {
        Err(io::Error::from_raw_os_error(number))
    }
}
