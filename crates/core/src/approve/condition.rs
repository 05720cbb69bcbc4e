//! A verdict as a condition of the request.

use std::time::SystemTime;

use super::request::CONDITION_REASON;
use super::verdict::Verdict;
use crate::cert_request::Condition;
use crate::unix_time;

/// The longest message of a condition, in bytes.
const MAX_MESSAGE_BYTES: usize = 2048;

/// The condition for a verdict; `None` for a request that is ignored or not settled yet.
pub fn condition(verdict: &Verdict, now: SystemTime) -> Option<Condition> {
    let (kind, message) = match verdict {
        Verdict::Approve => ("Approved", "Approved request".to_owned()),
        Verdict::Deny(reasons) => ("Denied", format!("Denied request: {}", reasons.message(MAX_MESSAGE_BYTES))),
        Verdict::Ignore(_) | Verdict::Depends(_) => return None,
    };
    Some(Condition {
        kind: kind.to_owned(),
        status: "True".to_owned(),
        last_transition_time: Some(unix_time::rfc3339(now)),
        reason: CONDITION_REASON.to_owned(),
        message,
    })
}
