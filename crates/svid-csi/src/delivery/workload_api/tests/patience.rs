//! Time limits of clients, on a clock that jumps.

use std::sync::atomic::Ordering;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::Instant;

use super::*;
use svid_csi_proto::workload::{JwtsvidRequest, X509svidRequest};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";

async fn ends(mut stream: UnixStream) {
    let mut said = Vec::new();
    // Whether it ends regularly or with a reset.
    let _ = stream.read_to_end(&mut said).await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_request_is_ended() {
    let socket = Socket::serve();
    for begins_with in [&[][..], PREFACE] {
        let begun = Instant::now();
        let mut stream = UnixStream::connect(socket.path()).await.unwrap();
        stream.write_all(begins_with).await.unwrap();
        ends(stream).await;
        let seconds = begun.elapsed().as_secs();
        assert!((30..=31).contains(&seconds), "{seconds} s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_with_a_request_may_be_idle_forever_without_timers() {
    let (socket, ca) = (Socket::serve(), TestCa::new("ca"));
    socket.endpoint.send(context(vec![svid(&ca, "web", "")], &[], &[]));
    let mut request = tonic::Request::new(X509svidRequest {});
    request.metadata_mut().insert("workload.spiffe.io", "true".parse().unwrap());
    let mut stream = socket.api().await.fetch_x509svid(request).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_secs(30 * 24 * 3600)).await;
    for _ in 0..3 {
        socket.endpoint.send(context(vec![svid(&ca, "web", "")], &[], &[]));
        stream.message().await.unwrap().unwrap();
        tokio::time::sleep(Duration::from_secs(3600)).await;
    }
    let page = socket.metrics.encode(&crate::telemetry::metrics::Snapshot::default());
    assert!(page.contains("svid_csi_workload_api_connections 1\n"), "{page}");
    assert_eq!(socket.endpoint.streams.load(Ordering::Relaxed), 1);
    drop(stream);
}

#[tokio::test(start_paused = true)]
async fn a_response_waits_for_room_for_a_second() {
    let (socket, ca) = (Socket::serve_with_tokens(), TestCa::new("ca"));
    socket.endpoint.send(context(vec![svid(&ca, "web", "")], &[], &[]));
    let bytes = &socket.endpoint.shares.bytes;
    // All except for what is reserved for the request.
    let held = [bytes.try_take((512 << 10) - 4096).unwrap(), bytes.try_take((2 << 20) - (512 << 10)).unwrap()];
    let fetch = async || {
        let message = JwtsvidRequest { audience: vec!["a".to_owned()], spiffe_id: String::new() };
        let mut request = tonic::Request::new(message);
        request.metadata_mut().insert("workload.spiffe.io", "true".parse().unwrap());
        socket.api().await.fetch_jwtsvid(request).await
    };
    let begun = Instant::now();
    assert_eq!(fetch().await.unwrap_err().code(), tonic::Code::ResourceExhausted);
    assert_eq!(begun.elapsed().as_secs(), 1);
    let later = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        drop(held);
    };
    tokio::join!(fetch(), later).0.unwrap();
}

/// A frame of HTTP/2 (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

/// The number of a call's stream.
const STREAM: u8 = 1;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;

/// FetchX509SVID, from a client with a window of that many bytes on a stream.
fn fetch(window: u32) -> Vec<u8> {
    call("/SpiffeWorkloadAPI/FetchX509SVID", window)
}

fn call(path: &str, window: u32) -> Vec<u8> {
    let [end_stream, end_headers] = [1, 4];
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let head = [
        vec![0x83, 0x86, 0x04], // POST, http, and the path that follows (RFC 7541, appendix A)
        text(path),
        vec![0x01],
        text("localhost"),
        vec![0x0f, 0x10],
        text("application/grpc"),
        vec![0x00],
        text("workload.spiffe.io"),
        text("true"),
    ];
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(SETTINGS, 0, 0, &[&[0, 4], &window.to_be_bytes()[..]].concat()),
        allowing(0, i32::MAX as u32 - 65_535),
        frame(HEADERS, end_headers, STREAM, &head.concat()),
        frame(DATA, end_stream, STREAM, &[0; 5]),
    ]
    .concat()
}

/// Lets that many more bytes be sent on a stream; on the connection if it is 0.
fn allowing(stream: u8, bytes: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes())
}

/// How many bytes of the response are in the next frame that has any.
async fn answered(stream: &mut UnixStream) -> usize {
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut payload).await.unwrap();
        if head[3] == DATA && !payload.is_empty() {
            return payload.len();
        }
    }
}

/// A message that HTTP/2 keeps is in transit.
#[tokio::test(start_paused = true)]
async fn a_message_keeps_its_reservation_until_the_client_has_let_it_be_sent() {
    let (ca, large) = (TestCa::new("ca"), vec![7; 2 * 1024 * 1024]);
    let svids = "/SpiffeWorkloadAPI/FetchX509SVID";
    let secrets = "/envoy.service.secret.v3.SecretDiscoveryService/FetchSecrets";
    for (path, lists) in [(svids, &[][..]), (svids, &[&large[..]]), (secrets, &[])] {
        let socket = Socket::serve();
        socket.endpoint.send(context(vec![svid(&ca, "web", "")], &[], lists));
        let share = &socket.endpoint.shares.bytes;
        assert!(share.is_untouched());
        let mut stream = UnixStream::connect(socket.path()).await.unwrap();
        stream.write_all(&call(path, 1)).await.unwrap();
        assert_eq!(answered(&mut stream).await, 1);
        assert!(!share.is_untouched(), "{path}: the client has received one byte");
        stream.write_all(&allowing(STREAM, i32::MAX as u32 - 1)).await.unwrap();
        let (mut reads, mut rest) = stream.into_split();
        let reading = tokio::spawn(async move { reads.read_to_end(&mut Vec::new()).await });
        while !share.is_untouched() {
            tokio::task::yield_now().await;
        }
        rest.shutdown().await.unwrap();
        drop(socket);
        let _ = reading.await;
    }
}

/// The window does not let the message be sent, or only its beginning; or the client does not read.
#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_its_first_message_is_disconnected() {
    let (socket, ca, large) = (Socket::serve(), TestCa::new("ca"), vec![7; 2 * 1024 * 1024]);
    let (nothing, large): (&[&[u8]], &[&[u8]]) = (&[], &[&large]);
    let all = i32::MAX as u32;
    for (lists, window, reads) in
        [(nothing, 0, true), (nothing, 1, true), (large, 0, true), (large, 65_535, true), (large, all, false)]
    {
        socket.endpoint.send(context(vec![svid(&ca, "web", "")], &[], lists));
        let begun = Instant::now();
        let mut stream = UnixStream::connect(socket.path()).await.unwrap();
        stream.write_all(&fetch(window)).await.unwrap();
        while socket.endpoint.streams.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        if reads {
            ends(stream).await;
        } else {
            while socket.endpoint.connections.load(Ordering::Relaxed) > 0 {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        let seconds = begun.elapsed().as_secs();
        assert!((10..=11).contains(&seconds), "{window}: {seconds} s");
        while socket.endpoint.streams.load(Ordering::Relaxed) > 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    assert_eq!(socket.endpoint.usage().connections, 0);
}
