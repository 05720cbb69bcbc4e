//! What the API server's refusals mean, and how they are told.

use kube::Error;
use kube::core::Status;

use crate::report;

/// The status, where the API server answered with one.
pub fn status(error: &Error) -> Option<&Status> {
    if let Error::Api(status) = error { Some(status) } else { None }
}

/// The object was changed since it was read.
pub fn is_conflict(error: &Error) -> bool {
    status(error).is_some_and(|status| status.code == 409 && !status.is_already_exists())
}

/// There is an object of that name.
pub fn is_already_exists(error: &Error) -> bool {
    status(error).is_some_and(Status::is_already_exists)
}

/// There is no object of that name.
pub fn is_not_found(error: &Error) -> bool {
    status(error).is_some_and(|status| status.code == 404)
}

/// A permission is missing.
pub fn is_forbidden(error: &Error) -> bool {
    status(error).is_some_and(|status| status.code == 403)
}

/// The error on one line of printable ASCII, cut: the API server repeats what others wrote.
pub fn told(error: &Error) -> String {
    match error {
        Error::Api(status) => format!("{} ({})", report::one_line(&status.message), status.code),
        other => report::one_line(&report::chain(other)),
    }
}
