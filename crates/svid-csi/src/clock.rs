//! The one place that reads the wall clock.

use std::time::SystemTime;

/// Now.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
pub fn now() -> SystemTime {
    SystemTime::now()
}
