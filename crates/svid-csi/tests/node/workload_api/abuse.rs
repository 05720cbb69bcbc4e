//! A pod that abuses its socket harms no other pod, and costs the driver little.

use std::fs;
use std::path::{Path, PathBuf};

use h2::Reason;
use h2::client::Builder;
use hyper::body::Bytes;
use svid_csi_proto::workload::{JwtsvidRequest, ValidateJwtsvidRequest, X509svidRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tonic::Code;

use super::client::{Svids, api, asking};
use super::flood::{NO_WINDOW, SECRETS, WINDOW_UPDATE, beginning, data, flood, head, next_frame};
use super::node_with;
use super::raw::{begin, call, connect};
use crate::endpoints::{metric, renew_all};
use crate::fixture::{Node, test, until, volume};

/// A node with metrics, the socket of a misbehaving pod, and a stream of a well-behaved one.
async fn stage() -> (Node, PathBuf, Svids) {
    let node = node_with(&["--metrics-address=127.0.0.1:0"]).await;
    let socket = node.publish(&volume("bad")).await.join("agent.sock");
    let good = node.publish(&volume("good")).await.join("agent.sock");
    let mut svids = Svids::open(&good).await.unwrap();
    svids.next().await.unwrap();
    (node, socket, svids)
}

/// The other pod's stream continues, and so does this pod's socket.
async fn all_is_well(node: &Node, socket: &Path, good: &mut Svids) {
    renew_all(node).await;
    good.next().await.unwrap();
    Svids::open(socket).await.unwrap().next().await.unwrap();
}

async fn connections(node: &Node) -> f64 {
    metric(node, "workload_api_connections").await.unwrap()
}

/// The driver's memory in KiB.
fn memory(node: &Node) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_stream_with_a_full_window_is_dropped() {
    test(async || {
        let (node, socket, mut good) = stage().await;
        let (sender, connection) = connect(&socket, Builder::new().initial_window_size(0)).await;
        let connection = tokio::spawn(connection);
        let (_sender, answer) = call(sender, "FetchX509SVID").await;
        let mut unread = answer.await.unwrap().into_body();
        renew_all(&node).await;
        good.next().await.unwrap();
        let ended = connection.await.unwrap();
        assert!(unread.data().await.is_none_or(|read| read.is_err()), "{ended:?}");
        all_is_well(&node, &socket, &mut good).await;
    });
}

#[test]
fn a_peer_that_does_not_read_its_socket_is_dropped() {
    test(async || {
        let (node, socket, mut good) = stage().await;
        let (sender, mut connection) = connect(&socket, Builder::new().initial_window_size(1 << 30)).await;
        let answer = tokio::select! {
            (_, answer) = call(sender, "FetchX509SVID") => answer,
            ended = &mut connection => panic!("{ended:?}"),
        };
        // The call is sent and its response begins; nothing is read from here on.
        let _unread = tokio::select! {
            answer = answer => answer.unwrap(),
            ended = &mut connection => panic!("{ended:?}"),
        };
        let before = memory(&node);
        until("the connection is dropped", async || {
            renew_all(&node).await;
            good.next().await.unwrap();
            connections(&node).await == 1.0
        })
        .await;
        let grown = memory(&node).saturating_sub(before);
        assert!(grown < 16 * 1024, "{grown} KiB more");
        all_is_well(&node, &socket, &mut good).await;
    });
}

#[test]
fn connections_over_the_limit_are_refused_with_a_reason() {
    test(async || {
        let (node, socket, mut good) = stage().await;
        let mut silent = Vec::new();
        while silent.len() < 32 {
            silent.push(UnixStream::connect(&socket).await.unwrap());
        }
        until("they are connected", async || connections(&node).await == 33.0).await;
        let refused = Svids::open(&socket).await.map(drop).unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(refused.message().contains("32 connections already"), "{refused}");
        let mut waiting = 0;
        for _ in 0..10_000 {
            // The kernel refuses connections that do not fit into the queue of the socket.
            if let Ok(stream) = UnixStream::connect(&socket).await {
                silent.push(stream);
                waiting += 1;
            }
        }
        assert!(waiting >= 64, "only {waiting} connected");
        let descriptors = fs::read_dir(format!("/proc/{}/fd", node.pid())).unwrap().count();
        assert!(descriptors < 150, "{descriptors} descriptors");
        renew_all(&node).await;
        good.next().await.unwrap();
        assert!(metric(&node, "workload_api_refused_connections").await.unwrap() >= 1.0);
        drop(silent);
        until("there is room again", async || Svids::open(&socket).await.is_ok()).await;
    });
}

#[test]
fn calls_over_the_limit_of_a_connection_are_refused() {
    test(async || {
        let (node, socket, mut good) = stage().await;
        let (_open, answered, refused) = flood(&socket, "FetchX509SVID", 110).await;
        assert_eq!((answered, refused), (100, 10));
        all_is_well(&node, &socket, &mut good).await;
    });
}

#[test]
fn too_large_messages_are_refused() {
    test(async || {
        let (node, socket, mut good) = stage().await;
        let mut api = api(&socket).await;
        let svid = "a".repeat(64 * 1024);
        let large = ValidateJwtsvidRequest { audience: "a".to_owned(), svid };
        let code = api.validate_jwtsvid(asking(large)).await.unwrap_err().code();
        assert_eq!(code, Code::OutOfRange);
        let audience = vec!["a".repeat(100); 1000];
        let code =
            api.fetch_jwtsvid(asking(JwtsvidRequest { audience, spiffe_id: String::new() })).await.unwrap_err().code();
        assert_eq!(code, Code::OutOfRange);
        let mut request = asking(X509svidRequest {});
        request.metadata_mut().insert("x", "a".repeat(20 * 1024).parse().unwrap());
        let refused = match api.fetch_x509svid(request).await {
            Ok(answer) => answer.into_inner().message().await.map(drop),
            Err(refused) => Err(refused),
        };
        assert!(refused.unwrap_err().to_string().contains("431"));
        all_is_well(&node, &socket, &mut good).await;
    });
}

#[test]
fn messages_of_many_small_fields_are_refused() {
    test(async || {
        let (node, socket, mut good) = stage().await;
        let request = JwtsvidRequest { audience: vec![String::new(); 10_000], spiffe_id: String::new() };
        let refused = api(&socket).await.fetch_jwtsvid(asking(request)).await.unwrap_err();
        assert_eq!(refused.code(), Code::OutOfRange);
        assert!(refused.message().contains("too many small fields"), "{refused}");
        all_is_well(&node, &socket, &mut good).await;
    });
}

/// HTTP/2 would otherwise keep a window of requests, and as many trailers as there are calls.
#[test]
fn requests_for_secrets_are_read_while_a_response_waits() {
    test(async || {
        let (node, socket, mut good) = stage().await;
        let mut stream = UnixStream::connect(&socket).await.unwrap();
        let request_and_more = data(1, &[0; 15_000]).repeat(4);
        let sent = [beginning(&NO_WINDOW), head(1, SECRETS, "StreamSecrets", &[]), request_and_more].concat();
        stream.write_all(&sent).await.unwrap();
        while !matches!(next_frame(&mut stream).await.expect("the driver reads on"), (WINDOW_UPDATE, 0, _)) {}
        drop(stream);
        all_is_well(&node, &socket, &mut good).await;
    });
}

#[test]
fn an_endless_message_does_not_block_others() {
    test(async || {
        let (node, socket, mut good) = stage().await;
        let (sender, connection) = connect(&socket, &Builder::new()).await;
        let connection = tokio::spawn(connection);
        let (sender, _answer, mut body) = begin(sender, "ValidateJWTSVID").await;
        // It announces 60,000 bytes, of which one follows.
        body.send_data(Bytes::from_static(&[0, 0, 0, 0xea, 0x60, 1]), false).unwrap();
        let (_, answer) = call(sender, "FetchX509SVID").await;
        answer.await.unwrap();
        all_is_well(&node, &socket, &mut good).await;
        connection.abort();
    });
}

#[test]
fn garbage_ends_only_its_connection() {
    test(async || {
        let (node, socket, mut good) = stage().await;
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        let settings: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
        for garbage in [
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
            vec![0xff; 5000],
            [&preface[..], &[0xff; 5000]].concat(),
            // A frame of 16 MiB, headers that make no sense, a stream that is not open, settings of an odd length.
            [&preface[..], settings, &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1], &[0; 20_000]].concat(),
            [&preface[..], settings, &[0, 0, 4, 1, 4, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]].concat(),
            [&preface[..], settings, &[0, 0, 1, 0, 0, 0, 0, 0, 9, 0]].concat(),
            [&preface[..], &[0, 0, 1, 4, 0, 0, 0, 0, 0, 0]].concat(),
        ] {
            let mut stream = UnixStream::connect(&socket).await.unwrap();
            // It may be closed before everything is sent.
            let _ = stream.write_all(&garbage).await;
            let mut said = Vec::new();
            let _ = stream.read_to_end(&mut said).await;
        }
        until("all are removed", async || connections(&node).await == 1.0).await;
        all_is_well(&node, &socket, &mut good).await;
    });
}

#[test]
fn calls_cancelled_at_once_end_the_connection() {
    test(async || {
        let (node, socket, mut good) = stage().await;
        let (mut sender, connection) = connect(&socket, Builder::new().initial_max_send_streams(100_000)).await;
        // All at once, before the driver has processed any.
        for _ in 0..2_000 {
            let (next, answer, mut body) = begin(sender, "FetchX509SVID").await;
            body.send_reset(Reason::CANCEL);
            drop(answer);
            sender = next;
        }
        let ended = connection.await.expect_err("the driver ends it");
        assert!(ended.reason() == Some(Reason::ENHANCE_YOUR_CALM) || ended.is_io(), "{ended:?}");
        all_is_well(&node, &socket, &mut good).await;
    });
}

#[test]
fn many_small_calls_leave_no_memory_behind() {
    test(async || {
        let (node, socket, mut good) = stage().await;
        let mut api = api(&socket).await;
        let mut refused = async |calls| {
            for _ in 0..calls {
                let answer = api.fetch_jwtsvid(asking(JwtsvidRequest::default())).await;
                assert_eq!(answer.unwrap_err().code(), Code::InvalidArgument);
            }
        };
        refused(500).await;
        let before = memory(&node);
        refused(5_000).await;
        let grown = memory(&node).saturating_sub(before);
        assert!(grown < 4 * 1024, "{grown} KiB more");
        all_is_well(&node, &socket, &mut good).await;
    });
}

#[test]
fn the_driver_raises_its_limit_of_descriptors() {
    test(async || {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let maximum = getrlimit(Resource::Nofile).maximum;
        setrlimit(Resource::Nofile, Rlimit { current: Some(256), maximum }).unwrap();
        let node = node_with(&[]).await;
        let limits = fs::read_to_string(format!("/proc/{}/limits", node.pid())).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        let columns: Vec<_> = line.split_whitespace().collect();
        assert!(columns[3] == columns[4] && columns[3] != "256", "{line}");
    });
}
