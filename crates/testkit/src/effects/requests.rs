//! Requests to an API server that are sent without encryption.

use std::net::SocketAddr;

use nix::libc;

use super::calls::{Class, Touch};
use super::registers::Call;
use super::tracee::Tracee;

/// Those that change something.
const METHODS: [&str; 4] = ["POST", "PUT", "PATCH", "DELETE"];

/// Sent in the background: chance decides into which operation one falls, and nothing depends on it.
const EVENTS: &str = "/events";

/// The longest first line that is looked at.
const LONGEST: u64 = 1024;

/// The request that a call begins to send to that server, if it changes something there.
pub(super) fn requested(call: &Call, tracee: Tracee, server: SocketAddr) -> Option<Touch> {
    let (address, length) = match call.number {
        libc::SYS_write | libc::SYS_sendto => (call.args[1], call.args[2]),
        libc::SYS_writev => (tracee.number(call.args[1])?, tracee.number(call.args[1] + 8)?),
        _ => return None,
    };
    let head = tracee.bytes(address, length.min(LONGEST))?;
    let line = head.split(|byte| *byte == b'\r').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    let method = words.next().filter(|method| METHODS.contains(method))?;
    let path = words.next()?.split('?').next().filter(|path| !path.ends_with(EVENTS))?;
    let touch = Touch { class: Class::Request, paths: vec![path.into()], detail: method.to_owned() };
    tracee.is_connected_to(call.args[0], server).then_some(touch)
}
