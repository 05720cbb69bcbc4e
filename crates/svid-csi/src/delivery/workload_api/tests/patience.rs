//! What a client may take its time for, with a clock that jumps.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::Instant;

use super::*;
use svid_csi_proto::workload::X509svidRequest;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";

async fn ends(mut stream: UnixStream) {
    let mut said = Vec::new();
    // Whether it ends in order or is reset, it ends.
    let _ = stream.read_to_end(&mut said).await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_on_which_nothing_is_asked_is_ended() {
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
async fn one_that_has_asked_may_be_idle_for_ever_and_nothing_ticks_meanwhile() {
    let (socket, ca) = (Socket::serve(), TestCa::new("ca"));
    socket.endpoint.tell(context(vec![svid(&ca, "web", "")], &[], &[]));
    let mut request = tonic::Request::new(X509svidRequest {});
    request.metadata_mut().insert("workload.spiffe.io", "true".parse().unwrap());
    let mut stream = socket.api().await.fetch_x509svid(request).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_secs(30 * 24 * 3600)).await;
    for _ in 0..3 {
        socket.endpoint.tell(context(vec![svid(&ca, "web", "")], &[], &[]));
        stream.message().await.unwrap().unwrap();
        tokio::time::sleep(Duration::from_secs(3600)).await;
    }
    let page = socket.metrics.encode(&crate::metrics::Snapshot::default());
    assert!(page.contains("svid_csi_workload_api_connections 1\n"), "{page}");
    assert_eq!(socket.endpoint.streams.load(std::sync::atomic::Ordering::Relaxed), 1);
    drop(stream);
}
