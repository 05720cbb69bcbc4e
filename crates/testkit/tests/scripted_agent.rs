//! The scripted agent complies with the rules of the Workload API, and records its callers.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use hyper_util::rt::TokioIo;
use serde_json::Value;
use svid_csi_proto::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use svid_csi_proto::workload::{JwtsvidRequest, X509svidRequest};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};

/// A running agent, killed when dropped.
struct Agent {
    child: Child,
    events: Lines<BufReader<ChildStdout>>,
}

impl Agent {
    fn start(socket: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_scripted-agent"));
        command.args(["--svid-ttl", "2", "--trust-domain", "test.example", "--socket"]).arg(socket);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let events = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut agent = Self { child, events };
        assert_eq!(agent.event()["event"], "listening");
        agent
    }

    fn event(&mut self) -> Value {
        serde_json::from_str(&self.events.next().unwrap().unwrap()).unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

async fn client(socket: &Path) -> SpiffeWorkloadApiClient<Channel> {
    let socket = socket.to_owned();
    let connect = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    SpiffeWorkloadApiClient::new(endpoint.connect_with_connector(connect).await.unwrap())
}

fn with_header<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("workload.spiffe.io", "true".parse().unwrap());
    request
}

#[tokio::test]
async fn it_keeps_the_rules_of_the_workload_api() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("made/agent.sock");
    let mut agent = Agent::start(&socket);
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o777);
    let mut client = client(&socket).await;

    let bare = client.fetch_x509svid(X509svidRequest {}).await.unwrap_err();
    assert_eq!(bare.code(), Code::InvalidArgument);
    let jwt = client.fetch_jwtsvid(with_header(JwtsvidRequest::default())).await.unwrap_err();
    assert_eq!(jwt.code(), Code::Unimplemented);

    let mut stream = client.fetch_x509svid(with_header(X509svidRequest {})).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap();
    let second = stream.message().await.unwrap().unwrap();
    assert_eq!(first.svids[0].spiffe_id, "spiffe://test.example/workload");
    assert_ne!(first.svids[0].x509_svid, second.svids[0].x509_svid);

    let fetch = agent.event();
    assert_eq!((&fetch["event"], &fetch["pid"]), (&"fetch".into(), &std::process::id().into()));
    assert_eq!(fetch["exe"].as_str().unwrap(), std::env::current_exe().unwrap().to_str().unwrap());
}

#[test]
fn the_official_client_reaches_it_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("agent.sock");
    for _ in 0..2 {
        let _agent = Agent::start(&socket);
        let watch =
            Command::new(env!("CARGO_BIN_EXE_workload")).args(["watch", "--once", "--socket"]).arg(&socket).output();
        let seen: Value = serde_json::from_slice(&watch.unwrap().stdout).unwrap();
        assert_eq!(seen["spiffe_id"], "spiffe://test.example/workload");
    }
}
