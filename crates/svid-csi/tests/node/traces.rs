//! Spans, sent to a collector that the test scripts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::Value;
use svid_csi::demo::kubelet::InlineVolume;
use tokio::net::TcpListener;

use crate::cert_manager::cluster::{Cluster, prepared_test};
use crate::endpoints::metric;
use crate::fixture::{FILES, Node, test, until, volume};

/// Takes what a driver sends.
struct Collector {
    url: String,
    bodies: Arc<Mutex<Vec<String>>>,
}

impl Collector {
    /// One that answers with this status, after so long.
    async fn start(status: StatusCode, after: Duration) -> Self {
        let bodies = Arc::<Mutex<Vec<String>>>::default();
        let taken = bodies.clone();
        let take = async move |headers: HeaderMap, body: String| {
            assert_eq!(headers["content-type"], "application/json");
            taken.lock().unwrap().push(body);
            tokio::time::sleep(after).await;
            (status, "{}")
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let pages = Router::new().route("/v1/traces", post(take));
        tokio::spawn(async move { axum::serve(listener, pages).await.unwrap() });
        Self { url, bodies }
    }

    fn text(&self) -> String {
        self.bodies.lock().unwrap().concat()
    }

    /// All spans, in the order in which they ended.
    fn spans(&self) -> Vec<Span> {
        let bodies = self.bodies.lock().unwrap();
        let requests = bodies.iter().map(|body| serde_json::from_str::<Value>(body).unwrap());
        let of_scopes = requests.flat_map(|request| {
            let resource = &request["resourceSpans"][0];
            let attributes = attributes(&resource["resource"]);
            assert_eq!((&*attributes["service.name"], &*attributes["k8s.node.name"]), ("svid-csi-driver", "n1"));
            resource["scopeSpans"][0]["spans"].as_array().unwrap().clone()
        });
        of_scopes.map(Span).collect()
    }

    /// The spans of the call about a volume, by their names, once the call has arrived.
    async fn call(&self, name: &str, about: &InlineVolume) -> BTreeMap<String, Span> {
        let mut found = None;
        until("the trace arrives", async || {
            let of_volume =
                |span: &&Span| span.name() == name && span.attribute("volume") == Some(about.id().to_string());
            found = self.spans().iter().rev().find(of_volume).map(|root| root.0["traceId"].clone());
            found.is_some()
        })
        .await;
        let of_trace = self.spans().into_iter().filter(|span| Some(&span.0["traceId"]) == found.as_ref());
        of_trace.map(|span| (span.name(), span)).collect()
    }
}

struct Span(Value);

impl Span {
    fn name(&self) -> String {
        self.0["name"].as_str().unwrap().to_owned()
    }

    fn attribute(&self, key: &str) -> Option<String> {
        attributes(&self.0).remove(key)
    }

    fn time(&self, field: &str) -> u128 {
        self.0[field].as_str().unwrap().parse().unwrap()
    }

    fn contains(&self, other: &Span) -> bool {
        self.time("startTimeUnixNano") <= other.time("startTimeUnixNano")
            && other.time("endTimeUnixNano") <= self.time("endTimeUnixNano")
    }

    fn error(&self) -> Option<&str> {
        (self.0["status"]["code"] == 2).then(|| self.0["status"]["message"].as_str().unwrap())
    }
}

fn attributes(of: &Value) -> BTreeMap<String, String> {
    let each = |attribute: &Value| {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&attribute["key"]), text(&attribute["value"]["stringValue"]))
    };
    of["attributes"].as_array().unwrap().iter().map(each).collect()
}

async fn started(collector: &Collector) -> Node {
    let endpoint = format!("--otlp-endpoint={}", collector.url);
    let common = ["--data-root={dir}/root", "--trust-domain=example.org", "--admin-socket={dir}/admin.sock"];
    let mut node = Node::new(&[FILES, &common, &["--metrics-address=127.0.0.1:0"], &[&endpoint]]);
    node.start().await;
    node
}

#[test]
fn a_publish_is_a_trace_from_the_call_to_the_mount() {
    test(async || {
        let collector = Collector::start(StatusCode::OK, Duration::ZERO).await;
        let mut node = started(&collector).await;
        let web = volume("web");
        node.publish(&web).await;
        let spans = collector.call("NodePublishVolume", &web).await;
        assert_eq!(spans.keys().collect::<Vec<_>>(), ["NodePublishVolume", "deliver", "issue", "mount"]);
        let root = &spans["NodePublishVolume"];
        assert_eq!(root.0["kind"], 2);
        for (key, value) in [("driver", "demo.svid-csi"), ("plan", "local-ca:files"), ("pod", "shop/web")] {
            assert_eq!(root.attribute(key).as_deref(), Some(value), "{}", root.0);
        }
        for part in ["issue", "deliver", "mount"] {
            assert_eq!(spans[part].0["parentSpanId"], root.0["spanId"], "{part}");
            assert!(root.contains(&spans[part]) && spans[part].error().is_none(), "{part}: {}", spans[part].0);
        }
        assert_eq!(spans["issue"].attribute("source").as_deref(), Some("local-ca"));
        assert!(root.error().is_none(), "{}", root.0);

        // A republish changes nothing; the driver sends what has ended when it stops.
        node.publish(&web).await;
        node.unpublish(&web).await;
        node.terminate().await;
        let names: Vec<_> = collector.spans().iter().map(Span::name).collect();
        assert_eq!(names.iter().filter(|name| *name == "NodePublishVolume").count(), 1, "{names:?}");
        assert_eq!(names.last().map(String::as_str), Some("NodeUnpublishVolume"), "{names:?}");
        assert!(!node.log().contains("NodePublishVolume{"), "spans are not in the log: {}", node.log());
    });
}

#[test]
fn failures_are_in_the_trace_and_secrets_are_not() {
    prepared_test(&[], async |mut cluster: Cluster| {
        let collector = Collector::start(StatusCode::OK, Duration::ZERO).await;
        cluster.node.add_args(&[&format!("--otlp-endpoint={}", collector.url)]);
        cluster.start().await;
        let good = cluster
            .volume("good")
            .attribute("svid-csi/file-pkcs12", "key.p12")
            .secret("pkcs12-password", "hunter2-of-the-pod");
        let tokens: Value = serde_json::from_str(good.tokens.as_deref().unwrap()).unwrap();
        let token = tokens[""]["token"].as_str().unwrap().to_owned();
        let target = cluster.node.publish(&good).await;
        let key = std::fs::read_to_string(target.join("tls.key")).unwrap();
        cluster.server.cert_manager.mode(svid_csi_testkit::api_server::Mode::Fail("the HSM is on holiday".to_owned()));
        let bad = cluster.volume("bad");
        cluster.node.refused(&bad).await;
        let spans = collector.call("NodePublishVolume", &bad).await;
        for name in ["NodePublishVolume", "issue"] {
            assert!(spans[name].error().is_some_and(|why| why.contains("the HSM is on holiday")), "{}", spans[name].0);
        }
        assert!(spans["NodePublishVolume"].attribute("code").is_some() && !spans.contains_key("mount"));
        collector.call("NodePublishVolume", &good).await;
        let sent = collector.text();
        let key_line = key.lines().nth(1).unwrap();
        for secret in [key_line, "hunter2-of-the-pod", &token, "PRIVATE KEY"] {
            assert!(!sent.contains(secret), "{secret} in {sent}");
        }
        let invalid = volume("invalid").attribute("svid-csi/delivery", &"\u{1b}[2J".repeat(1_000));
        cluster.node.refused(&invalid).await;
        let spans = collector.call("NodePublishVolume", &invalid).await;
        let why = spans["NodePublishVolume"].error().unwrap();
        assert!(why.contains("the request is invalid") && !why.contains("[2J"), "{why}");
    });
}

#[test]
fn a_collector_that_hangs_refuses_or_is_away_delays_nothing_and_is_counted() {
    test(async || {
        for (status, after) in
            [(StatusCode::OK, Duration::from_secs(600)), (StatusCode::SERVICE_UNAVAILABLE, Duration::ZERO)]
        {
            let collector = Collector::start(status, after).await;
            let mut node = started(&collector).await;
            let begun = Instant::now();
            for number in 0..20 {
                node.publish(&volume(&format!("web-{number}"))).await;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
            until("they are counted", async || metric(&node, "spans_dropped_total").await >= Some(80.0)).await;
            let log = node.log();
            assert_eq!(log.matches("traces cannot be sent, and are dropped").count(), 1, "{log}");
            node.terminate().await;
        }
        let away = Collector { url: "http://127.0.0.1:9".to_owned(), bodies: Arc::default() };
        let mut node = started(&away).await;
        node.publish(&volume("web")).await;
        until("it is counted", async || metric(&node, "spans_dropped_total").await >= Some(4.0)).await;
        node.terminate().await;
    });
}
