//! What a hostile pod sends on each of its connections, in hand-written frames of HTTP/2.

use prost::Message;
use svid_csi_proto::sds::{DiscoveryRequest, SECRET_TYPE};

use crate::workload_api::flood::{
    END_HEADERS, HEADERS, NO_WINDOW, SECRETS, WORKLOAD, beginning, block, calls, data, frame, head, length,
};

/// An initial window of all that is possible.
const ALL_WINDOW: [u8; 6] = [0, 4, 0x7f, 0xff, 0xff, 0xff];
/// More than the calls that a connection may have.
const CALLS: u32 = 100;
/// The initial window of a connection.
const WINDOW: usize = 65_535;
/// As many headers as a head may have.
const MANY: usize = LARGEST_HEAD / 34 - 12;
const LARGEST_HEAD: usize = 16 * 1024;

/// One way to use up memory.
pub(super) struct Attack {
    pub(super) what: &'static str,
    /// The bytes for the connections, in turn, each in pieces: the next one is sent when the driver allows more.
    pub(super) connections: Vec<Vec<Vec<u8>>>,
}

pub(super) fn attacks() -> Vec<Attack> {
    let one = |what, bytes| Attack { what, connections: vec![vec![bytes]] };
    let some = |what, pieces| Attack { what, connections: vec![pieces] };
    vec![
        one("silent connections", beginning(&[])),
        one("half calls", half_calls(&[])),
        one("half calls with many headers", half_calls(&many_headers())),
        one("half calls with a long header", half_calls(&long_header())),
        one("half calls with a long query", half_calls_with_a_query()),
        one("half heads", [beginning(&[]), half_head()].concat()),
        one("half frames", [beginning(&[]), half_frame()].concat()),
        one("endless messages", endless(WORKLOAD, "ValidateJWTSVID", 20_479)),
        one("endless requests for secrets", endless(SECRETS, "StreamSecrets", 131_071)),
        some("messages of many parts", messages(WORKLOAD, "FetchJWTSVID", &[0x0a, 0].repeat(10_000))),
        some("requests for many secrets", messages(SECRETS, "FetchSecrets", &[0x1a, 0].repeat(16_500))),
        some("requests with much metadata", messages(SECRETS, "FetchSecrets", &metadata())),
        one("requests in one piece that are not read", unread_requests(15_000)),
        one("requests in single bytes that are not read", unread_requests(1)),
        one("trailers that are not read", unread_trailers()),
        one("responses that are not read", unread_responses()),
        one("secrets that are not read", secrets(&ALL_WINDOW, &[])),
        some("names of secrets that are kept", names_of_secrets()),
        one("refusals that are not read", refusals()),
        Attack {
            what: "all of it",
            connections: vec![
                vec![endless(WORKLOAD, "ValidateJWTSVID", 20_479), half_head()],
                vec![unread_responses(), half_head()],
                vec![unread_requests(15_000), half_head()],
                vec![half_calls(&long_header()), half_frame()],
            ],
        },
    ]
}

/// Headers that are much smaller on the wire than HTTP/2 counts them, and larger in memory.
fn many_headers() -> Vec<u8> {
    let letters = || b'a'..=b'z';
    let names = letters().flat_map(|first| letters().map(move |second| [first, second]));
    // Literals that are not indexed, without a value.
    names.take(MANY).flat_map(|[first, second]| [0, 2, first, second, 0]).collect()
}

/// One header of 15 KB.
fn long_header() -> Vec<u8> {
    [&[0, 1, b'x'][..], &length(15_088), &[b'v'; 15_088]].concat()
}

fn half_calls(more: &[u8]) -> Vec<u8> {
    let heads = (0..CALLS).flat_map(|call| head(2 * call + 1, WORKLOAD, "FetchX509SVID", more));
    beginning(&[]).into_iter().chain(heads).collect()
}

fn half_calls_with_a_query() -> Vec<u8> {
    let query = format!("FetchX509SVID?{}", "q".repeat(7_000));
    let heads = (0..CALLS).flat_map(|call| head(2 * call + 1, WORKLOAD, &query, &[]));
    beginning(&[]).into_iter().chain(heads).collect()
}

/// The head of a call on a new stream, of which a part is missing.
fn half_head() -> Vec<u8> {
    frame(HEADERS, 0, 2 * CALLS + 1, &[block(WORKLOAD, "FetchX509SVID"), many_headers()].concat())
}

/// The same in a single frame that is not complete.
fn half_frame() -> Vec<u8> {
    let mut head = frame(HEADERS, END_HEADERS, 2 * CALLS + 1, &vec![0; 16_384]);
    head.pop();
    head
}

/// Calls with messages that never end.
fn endless(service: &str, method: &str, announced: u32) -> Vec<u8> {
    let begins_with = [&[0][..], &announced.to_be_bytes(), &[b'x'; 15_000]].concat();
    let begun = (0..4).flat_map(|call| {
        let head = head(2 * call + 1, service, method, &[]);
        [head, data(2 * call + 1, &begins_with)].concat()
    });
    beginning(&[]).into_iter().chain(begun).collect()
}

/// Calls with a whole message each, which do not end.
fn messages(service: &str, method: &str, message: &[u8]) -> Vec<Vec<u8>> {
    let length = u32::try_from(message.len()).unwrap();
    let message = [&[0][..], &length.to_be_bytes(), message].concat();
    // The driver allows more when it has read half of a window.
    let of_window = (WINDOW * 2 / 3 / message.len()).max(1);
    let calls = (0..CALLS).map(|call| {
        let parts = message.chunks(16_000).flat_map(|part| data(2 * call + 1, part));
        head(2 * call + 1, service, method, &[]).into_iter().chain(parts).collect()
    });
    let calls: Vec<Vec<u8>> = calls.collect();
    let pieces = calls.chunks(of_window).map(<[_]>::concat);
    std::iter::once(beginning(&[])).chain(pieces).collect()
}

/// A request for secrets whose node has a list of 16,500 values that are not set.
fn metadata() -> Vec<u8> {
    let nested = |tag: u8, message: &[u8]| [&[tag][..], &prost_length(message.len()), message].concat();
    let list = nested(0x32, &[0x0a, 0].repeat(16_500));
    let entry = nested(0x0a, &[&[0x0a, 1, b'x'][..], &nested(0x12, &list)].concat());
    nested(0x12, &nested(0x1a, &entry))
}

fn prost_length(length: usize) -> Vec<u8> {
    let mut encoded = Vec::new();
    prost::encoding::encode_varint(length as u64, &mut encoded);
    encoded
}

fn request_for_secrets(names: &[String]) -> Vec<u8> {
    let request =
        DiscoveryRequest { type_url: SECRET_TYPE.to_owned(), resource_names: names.to_vec(), ..Default::default() };
    let request = request.encode_to_vec();
    [&[0][..], &u32::try_from(request.len()).unwrap().to_be_bytes(), &request].concat()
}

/// A stream of secrets whose response does not fit into the window, so that the rest of its requests is not read: whole
/// windows of it, in parts of that size.
fn unread_requests(size: usize) -> Vec<u8> {
    let rest = data(1, &vec![0; size]).repeat((WINDOW - 1_000) / size);
    [beginning(&NO_WINDOW), head(1, SECRETS, "StreamSecrets", &[]), data(1, &request_for_secrets(&[])), rest].concat()
}

/// The same with ends of many headers.
fn unread_trailers() -> Vec<u8> {
    let (end_stream, end_headers) = (1, END_HEADERS);
    let streams = (0..CALLS).flat_map(|call| {
        let stream = 2 * call + 1;
        let trailers = frame(HEADERS, end_stream | end_headers, stream, &many_headers());
        [head(stream, SECRETS, "StreamSecrets", &[]), data(stream, &request_for_secrets(&[])), trailers].concat()
    });
    beginning(&NO_WINDOW).into_iter().chain(streams).collect()
}

/// Streams of the secrets with those names.
fn secrets(window: &[u8], names: &[String]) -> Vec<u8> {
    let streams = (0..CALLS).flat_map(|call| {
        let stream = 2 * call + 1;
        [head(stream, SECRETS, "StreamSecrets", &[]), data(stream, &request_for_secrets(names))].concat()
    });
    beginning(window).into_iter().chain(streams).collect()
}

/// Streams with as many names as are kept, whose responses are not read.
fn names_of_secrets() -> Vec<Vec<u8>> {
    let names: Vec<_> = (0..100).map(|number| format!("{number:0>160}")).collect();
    let request = request_for_secrets(&names);
    let streams = (0..CALLS).map(|call| {
        let stream = 2 * call + 1;
        [head(stream, SECRETS, "StreamSecrets", &[]), data(stream, &request[..9_000]), data(stream, &request[9_000..])]
            .concat()
    });
    let streams: Vec<Vec<u8>> = streams.collect();
    std::iter::once(beginning(&NO_WINDOW)).chain(streams.chunks(2).map(<[_]>::concat)).collect()
}

/// Calls for secrets that the pod does not have, with names that are longer in a header.
fn refusals() -> Vec<u8> {
    let names: Vec<_> = (0..3).map(|number| format!("{number}{}", "\u{fc}".repeat(100))).collect();
    secrets(&[], &names)
}

fn unread_responses() -> Vec<u8> {
    let calls = calls("FetchX509SVID", CALLS);
    [beginning(&ALL_WINDOW), calls[beginning(&[]).len()..].to_vec()].concat()
}
