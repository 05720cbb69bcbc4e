//! One call to the API server, with a time limit.

use std::future::Future;
use std::time::Duration;

use super::error;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No answer in time.
    #[error("the API server did not answer within {} s", .0.as_secs())]
    Silent(Duration),
    /// It was refused, or the API server is not reachable.
    #[error("{}", error::describe(.0))]
    Failed(kube::Error),
}

impl CallError {
    /// How long the API server asks the client to wait before the next attempt, if it does.
    pub fn retry_after(&self) -> Option<Duration> {
        if let CallError::Failed(error) = self { error::retry_after(error) } else { None }
    }
}

impl From<CallError> for kube::Error {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Silent(time) => kube::Error::Service(format!("no answer within {} s", time.as_secs()).into()),
            CallError::Failed(error) => error,
        }
    }
}

/// The result of the call, if it arrives in time.
///
/// # Errors
/// [`CallError`].
pub async fn within<T>(
    time: Duration,
    call: impl Future<Output = Result<T, kube::Error>> + Send,
) -> Result<T, CallError> {
    match tokio::time::timeout(time, call).await {
        Ok(answered) => answered.map_err(CallError::Failed),
        Err(_) => Err(CallError::Silent(time)),
    }
}
