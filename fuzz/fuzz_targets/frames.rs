//! What a pod writes to its socket: whatever it is, the connection ends with its client, nothing stays reserved for it, and
//! the answer consists of whole frames.
#![no_main]

use std::cell::OnceCell;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use svid_csi::fuzzing::workload_api::PodSocket;
use svid_csi_core::files::FileName;
use svid_csi_core::plan::Issuer;
use svid_csi_core::target::TargetPath;
use svid_csi_core::volume::{Content, SocketSpec, Subject, VolumeSpec};
use svid_csi_core::volume_id::VolumeId;
use svid_csi_fuzz::CONTEXT;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const PATHS: [&str; 8] = [
    "/SpiffeWorkloadAPI/FetchX509SVID",
    "/SpiffeWorkloadAPI/FetchX509Bundles",
    "/SpiffeWorkloadAPI/FetchJWTSVID",
    "/SpiffeWorkloadAPI/FetchJWTBundles",
    "/SpiffeWorkloadAPI/ValidateJWTSVID",
    "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets",
    "/envoy.service.secret.v3.SecretDiscoveryService/FetchSecrets",
    "/grpc.health.v1.Health/Watch",
];

thread_local! {
    static SOCKET: OnceCell<PodSocket> = const { OnceCell::new() };
}

// A 0 is followed by bytes as they are; any other byte by frames: the type, flags, the stream, the size of what follows, and
// this. Types above 15 are calls and messages that are put into frames here.
fuzz_target!(|input: &[u8]| {
    let [kind, rest @ ..] = input else { return };
    let parts = if *kind == 0 { rest.chunks(1024).map(<[u8]>::to_vec).collect() } else { built(rest) };
    let answer = SOCKET.with(|socket| {
        socket
            .get_or_init(|| PodSocket::new(&spec(), CONTEXT.clone()).expect("a runtime"))
            .talk(parts.iter().map(|part| &part[..]))
    });
    let mut left = &answer[..];
    while let [high, middle, low, _, _, _, _, _, _, after @ ..] = left {
        let size = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
        assert!(size <= 1 << 14 || parts.iter().any(|part| part.get(3) == Some(&4)), "a frame of {size} bytes");
        // The last one may be cut by the end of the connection.
        left = after.get(size..).unwrap_or_default();
    }
});

fn built(mut steps: &[u8]) -> Vec<Vec<u8>> {
    let mut parts = vec![[PREFACE, &frame(4, 0, 0, &[])].concat()];
    while let [kind, flags, stream, size, rest @ ..] = steps {
        let (text, rest) = rest.split_at(rest.len().min(usize::from(*size)));
        steps = rest;
        parts.push(match kind % 32 {
            kind @ 0..16 => frame(kind, *flags, *stream, text),
            kind @ 16..24 => frame(1, 4 | flags & 1, stream | 1, &call(PATHS[usize::from(kind % 8)], text)),
            _ => frame(0, flags & 1, stream | 1, &[&[0, 0, 0, 0, *size], text].concat()),
        });
    }
    parts
}

fn frame(kind: u8, flags: u8, stream: u8, content: &[u8]) -> Vec<u8> {
    let [_, high, middle, low] = (content.len() as u32).to_be_bytes();
    [&[high, middle, low, kind, flags, 0, 0, 0, stream], content].concat()
}

/// The headers of a call, and what follows them.
fn call(path: &str, more: &[u8]) -> Vec<u8> {
    let pair = |name: &str, value: &str| {
        [&[0, name.len() as u8], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
    };
    // POST, http.
    let mut block = vec![0x83, 0x86];
    let pairs = [(":path", path), (":authority", "localhost"), ("te", "trailers")];
    let pairs = pairs.into_iter().chain([("content-type", "application/grpc"), ("workload.spiffe.io", "true")]);
    pairs.for_each(|(name, value)| block.extend(pair(name, value)));
    block.extend(more);
    block
}

fn spec() -> Arc<VolumeSpec> {
    let subject = Subject { issuer: Issuer::Broker, identity: None, hint: None };
    let sockets = vec![FileName::parse("agent.sock").expect("a name")];
    Arc::new(VolumeSpec {
        id: VolumeId::parse("csi-web").expect("an id"),
        target: TargetPath::parse("/pods/uid/volumes/kubernetes.io~csi/spiffe/mount").expect("a path"),
        read_only: true,
        pod: None,
        content: Content::WorkloadApi(SocketSpec { subject, sockets, secrets: Box::default() }),
    })
}
