//! More calls than a connection may have, in hand-written frames of HTTP/2.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::raw::EMPTY;

pub(crate) const WORKLOAD: &str = "SpiffeWorkloadAPI";
pub(crate) const SECRETS: &str = "envoy.service.secret.v3.SecretDiscoveryService";
/// An initial window (RFC 9113, 6.5.2) of 0 bytes.
pub(crate) const NO_WINDOW: [u8; 6] = [0, 4, 0, 0, 0, 0];

const LIMIT: Duration = Duration::from_secs(120);

const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
const REFUSED_STREAM: [u8; 4] = [0, 0, 0, 7];

/// Sends that many calls at once on one connection, and then counts the answered calls and the refused streams. A
/// library would respect the limit as soon as it receives it.
pub(crate) async fn flood(socket: &Path, method: &str, calls: u32) -> (UnixStream, usize, usize) {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    stream.write_all(&self::calls(method, calls)).await.unwrap();
    let (mut answered, mut refused) = (HashSet::new(), HashSet::new());
    while answered.len() + refused.len() < usize::try_from(calls).unwrap() {
        let next = tokio::time::timeout(LIMIT, next_frame(&mut stream)).await;
        match next.ok().flatten().expect("every call is answered or refused") {
            (HEADERS, id, _) => drop(answered.insert(id)),
            (RST_STREAM, id, reason) if reason == REFUSED_STREAM => drop(refused.insert(id)),
            // The frames of another kind on that stream.
            (RST_STREAM, id, _) if refused.contains(&id) => {}
            (RST_STREAM | GOAWAY, id, reason) => panic!("stream {id} ends with {reason:?}"),
            _ => {}
        }
    }
    (stream, answered.len(), refused.len())
}

/// The bytes of a client that begins with that many calls.
pub(crate) fn calls(method: &str, calls: u32) -> Vec<u8> {
    let mut bytes = beginning(&[]);
    for call in 0..calls {
        bytes.extend(head(2 * call + 1, WORKLOAD, method, &[]));
        bytes.extend(frame(DATA, END_STREAM, 2 * call + 1, EMPTY));
    }
    bytes
}

/// The preface and the settings of a client.
pub(crate) fn beginning(settings: &[u8]) -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame(SETTINGS, 0, 0, settings)[..]].concat()
}

/// The head of a call on that stream, with more headers.
pub(crate) fn head(stream: u32, service: &str, method: &str, more: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &[&block(service, method), more].concat())
}

/// A part of the body of a call.
pub(crate) fn data(stream: u32, bytes: &[u8]) -> Vec<u8> {
    frame(DATA, 0, stream, bytes)
}

/// A frame with that payload, of less than 16 MiB.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The kind of the next frame, its stream and its payload; nothing at the end.
pub(crate) async fn next_frame(stream: &mut UnixStream) -> Option<(u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    let [high, middle, low, kind, _, id @ ..] = head;
    let mut payload = vec![0; usize::try_from(u32::from_be_bytes([0, high, middle, low])).unwrap()];
    stream.read_exact(&mut payload).await.ok()?;
    Some((kind, u32::from_be_bytes(id), payload))
}

/// The headers of a call: POST, http, and the rest as literals (RFC 7541, 6.2.2).
pub(crate) fn block(service: &str, method: &str) -> Vec<u8> {
    let text = |text: &str| [length(text.len()), text.as_bytes().to_vec()].concat();
    let path = [&[0x04][..], &text(&format!("/{service}/{method}"))].concat();
    let pairs = [("content-type", "application/grpc"), ("te", "trailers"), ("workload.spiffe.io", "true")];
    let pairs = pairs.map(|(name, value)| [&[0][..], &text(name), &text(value)].concat()).concat();
    [&[0x83, 0x86, 0x01, 1, b'x'][..], &path, &pairs].concat()
}

/// The length of a string, of less than 16,511 bytes (RFC 7541, 5.1).
pub(crate) fn length(bytes: usize) -> Vec<u8> {
    match bytes.checked_sub(127) {
        None => vec![u8::try_from(bytes).unwrap()],
        Some(rest) => vec![0x7f, 0x80 | u8::try_from(rest & 0x7f).unwrap(), u8::try_from(rest >> 7).unwrap()],
    }
}
