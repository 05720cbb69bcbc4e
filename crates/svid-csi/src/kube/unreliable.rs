//! An API server on which everything that a network and a restart can do happens to calls and watches, as a seed
//! decides; for tests with a paused clock.

use std::time::Duration;

use svid_csi_testkit::api_server::{ApiServer, Fault};

use crate::host::simulated::Random;
use crate::kube::client::CALL_TIMEOUT;

/// The longest pause of a follower after everything works again: a watch fell silent when it had just begun, then a
/// pause, then a call without a response, then another pause.
pub(crate) fn longest_pause(watch_lasts: u64) -> Duration {
    let (grace, pause) = (Duration::from_secs(5), Duration::from_secs(36));
    Duration::from_secs(watch_lasts) + grace + (pause + CALL_TIMEOUT) * 2
}

/// One of the troubles of a resource, for a moment or until [`heal`].
pub(crate) fn disturb(server: &ApiServer, random: &mut Random, resource: &str) {
    let times = 1 + usize::from(random.once_in(2));
    let verb = if random.once_in(2) { "list" } else { "watch" };
    let watches = &server.watches;
    match random.below(13) {
        0 => watches.break_all(),
        1 => watches.end_all(),
        2 => watches.gone_all(),
        3 => watches.silence_all(),
        4 => watches.repeat_all(),
        5 => watches.bookmark_all(),
        6 => server.objects.compact(),
        7 => server.faults.next(times, verb, resource, Fault::Gone),
        8 => server.faults.next(times, verb, resource, Fault::InternalError),
        9 => server.faults.next(times, verb, resource, Fault::LoseAnswer),
        10 => server.faults.next(times, verb, resource, Fault::Delay(random.millis(40_000))),
        11 => server.faults.next(times, verb, resource, Fault::Hang),
        _ => server.faults.clear(),
    }
}

/// All calls succeed from now on. Silent watches stay silent.
pub(crate) fn heal(server: &ApiServer) {
    server.faults.clear();
}
