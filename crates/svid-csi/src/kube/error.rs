//! The meaning of the API server's errors, and how they are reported.

use std::time::Duration;

use kube::Error;
use kube::core::Status;

use crate::telemetry::report;

/// The status, if the API server answered with one.
pub fn status(error: &Error) -> Option<&Status> {
    if let Error::Api(status) = error { Some(status) } else { None }
}

/// The object was changed since it was read.
pub fn is_conflict(error: &Error) -> bool {
    status(error).is_some_and(|status| status.code == 409 && !status.is_already_exists())
}

/// An object with that name exists.
pub fn is_already_exists(error: &Error) -> bool {
    status(error).is_some_and(Status::is_already_exists)
}

/// No object with that name exists.
pub fn is_not_found(error: &Error) -> bool {
    status(error).is_some_and(|status| status.code == 404)
}

/// The object is not, or no longer, as the call assumes: its version differs, or a test of a JSON patch fails.
pub fn has_changed(error: &Error) -> bool {
    is_conflict(error) || status(error).is_some_and(|status| status.code == 422)
}

/// A permission is missing.
pub fn is_forbidden(error: &Error) -> bool {
    status(error).is_some_and(|status| status.code == 403)
}

/// How long the API server asks the client to wait before the next attempt (429, and some of 5xx).
pub fn retry_after(error: &Error) -> Option<Duration> {
    let seconds = status(error)?.details.as_ref()?.retry_after_seconds;
    (seconds > 0).then(|| Duration::from_secs(seconds.into()))
}

/// The error on one line of printable ASCII, cut, because the API server quotes texts of others.
pub fn describe(error: &Error) -> String {
    match error {
        Error::Api(status) => format!("{} ({})", report::one_line(&status.message), status.code),
        other => report::one_line(&report::chain(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: u16, reason: &str) -> Error {
        let json = serde_json::json!({
            "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": "a\u{1b}[31m\nb",
            "details": { "retryAfterSeconds": 3 },
        });
        Error::Api(Box::new(serde_json::from_value(json).unwrap()))
    }

    #[test]
    fn conflicts_differ_from_existing_names() {
        let (conflict, taken) = (answer(409, "Conflict"), answer(409, "AlreadyExists"));
        assert!(is_conflict(&conflict) && !is_already_exists(&conflict));
        assert!(!is_conflict(&taken) && is_already_exists(&taken));
        assert!(is_forbidden(&answer(403, "Forbidden")) && is_not_found(&answer(404, "NotFound")));
        assert!(has_changed(&conflict) && has_changed(&answer(422, "Invalid")) && !has_changed(&taken));
    }

    #[test]
    fn errors_are_reported_on_one_line() {
        assert_eq!(describe(&answer(500, "InternalError")), "a\\u{1b}[31m\\nb (500)");
        assert_eq!(describe(&Error::TlsRequired), "TLS required but no TLS stack selected");
    }

    #[test]
    fn the_server_determines_the_time_to_wait() {
        assert_eq!(retry_after(&answer(429, "TooManyRequests")), Some(Duration::from_secs(3)));
        assert_eq!(retry_after(&Error::TlsRequired), None);
    }
}
