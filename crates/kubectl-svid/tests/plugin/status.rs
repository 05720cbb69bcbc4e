//! `kubectl svid status`.

use std::io::{Read, Write};
use std::process::Stdio;
use std::time::Instant;

use serde_json::{Value, json};

use crate::api_server::{ApiServer, Executed, Script};
use crate::{driver_pod, plugin, ran, run, user_pod};

/// How many nodes the plugin asks at a time.
const AT_ONCE: usize = 50;

/// A volume as `svid-csi status --json` shows it.
fn volume(pod: &str, state: &str, left: i64) -> Value {
    json!({
        "id": format!("csi-{pod}"), "pod": format!("shop/{pod}"), "driver": "csi.spiffe.io", "plan": "broker:files",
        "state": state, "why": null, "spiffe_id": format!("spiffe://example.org/{pod}"), "serial": "0a",
        "not_after": "2030-01-01T00:00:00Z", "renewal": "2029-01-01T00:00:00Z", "seconds_left": left,
        "connections": null,
    })
}

fn answer(is_connected: bool, volumes: &[Value]) -> Script {
    let text = json!({
        "node": "as-the-driver-says", "driver_version": "9.9.9", "busy": 0,
        "names": [{"name": "csi.spiffe.io", "registered": true}],
        "sources": [{"source": "broker", "connected": is_connected}],
        "outage_horizon": null, "volumes": volumes, "of_a_later_version": [1],
    });
    Script::Ends(text.to_string(), String::new(), 0)
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_nodes_are_asked_a_few_at_a_time() {
    const NODES: usize = 500;
    let server = ApiServer::start().await;
    for node in 0..NODES {
        let left = 3_600 + i64::try_from(node).unwrap();
        let volumes: Vec<_> = (0..20).map(|pod| volume(&format!("p{node}-{pod}"), "ok", left)).collect();
        server.driver(&format!("n{node}"), answer(true, &volumes));
    }
    server.gather(AT_ONCE, NODES);
    let started = Instant::now();
    let (code, text, error) = run(&server, &["status", "-A"]);
    println!("{NODES} nodes in {:.1} s", started.elapsed().as_secs_f32());
    let lines: Vec<_> = text.lines().collect();
    assert_eq!((code, error.as_str()), (0, ""), "{text}");
    assert_eq!(lines[0], "nodes: 500 asked, 500 answered");
    assert_eq!(lines[1], "volumes: 10000 (10000 ok)");
    assert_eq!(lines[2], "if the sources failed now: first pod without an identity in 1h0m, half of them in 1h4m");
    assert_eq!(lines.len(), 3 + 1 + 1 + 10_000);
    assert_eq!(server.counts().most, AT_ONCE);
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_are_summed_filtered_and_sorted() {
    let server = ApiServer::start().await;
    server.driver("a", answer(true, &[volume("web", "ok", 7_200), volume("late", "renewing", 60)]));
    server.driver("b", answer(false, &[volume("api", "starting", 0), volume("new", "of-a-later-version", 90)]));
    let (code, text, _) = run(&server, &["status", "-n", "shop"]);
    assert_eq!(
        text,
        "nodes: 2 asked, 2 answered\n\
         volumes: 4 (1 of-a-later-version, 1 starting, 1 renewing, 1 ok)\n\
         source broker: not connected on 1 node (b)\n\
         if the sources failed now: first pod without an identity in 1m, half of them in 1m\n\n\
         NODE  POD        STATE               LEFT  PLAN          SERIAL  SPIFFE ID\n\
         b     shop/api   starting            0s    broker:files  0a      spiffe://example.org/api\n\
         a     shop/late  renewing            1m    broker:files  0a      spiffe://example.org/late\n\
         b     shop/new   of-a-later-version  1m    broker:files  0a      spiffe://example.org/new\n\
         a     shop/web   ok                  2h0m  broker:files  0a      spiffe://example.org/web\n"
    );
    assert_eq!(code, 1, "a source is down");
    let words =
        ["/bin/svid-csi", "status", "--json", "--namespace", "shop", "--admin-socket", "/plugin/data/admin.sock"];
    let words = words.map(str::to_owned).to_vec();
    let expected = |pod: &str| Executed { pod: pod.to_owned(), container: "main".to_owned(), words: words.clone() };
    let mut executed = server.executed();
    executed.sort_by(|one, other| one.pod.cmp(&other.pod));
    assert_eq!(executed, [expected("driver-a"), expected("driver-b")]);

    let pods = |args: &[&str]| -> Vec<String> {
        let (_, text, _) = run(&server, &[&["status"], args].concat());
        let rows = text.lines().skip_while(|line| !line.starts_with("NODE")).skip(1);
        rows.map(|row| row.split_whitespace().nth(1).unwrap().to_owned()).collect()
    };
    assert_eq!(pods(&["--sort=expiry"]), ["shop/api", "shop/late", "shop/new", "shop/web"]);
    assert_eq!(pods(&["--sort=node"]), ["shop/late", "shop/web", "shop/api", "shop/new"]);
    assert_eq!(pods(&["--sort=state"]), ["shop/api", "shop/late", "shop/new", "shop/web"]);
    assert_eq!(pods(&["--state=ok", "--state=renewing"]), ["shop/late", "shop/web"]);
    assert_eq!(pods(&["--node=b"]), ["shop/api", "shop/new"]);
    server.executed();

    server.put(user_pod("web", "a", "csi.spiffe.io"));
    assert_eq!(run(&server, &["status", "web"]).0, 0);
    let executed = server.executed();
    assert_eq!(
        (executed.len(), &*executed[0].pod, &executed[0].words[3..5]),
        (1, "driver-a", &["--pod".to_owned(), "shop/web".to_owned()][..])
    );

    let (code, text, _) = run(&server, &["status", "-A", "--json"]);
    let all: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &all["nodes_asked"], &all["states"]["ok"]), (1, &json!(2), &json!(1)));
    assert_eq!(all["outage_horizon"], json!({"first_seconds": 60, "half_seconds": 90}));
    assert_eq!((&all["nodes"][1]["node"], &all["nodes"][1]["volumes"][0]["pod"]), (&json!("b"), &json!("shop/api")));
    let (_, text, _) = run(&server, &["status", "-A", "--json", "--state", "removing"]);
    let none: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&none["states"], &none["nodes"][1]["volumes"]), (&all["states"], &json!([])));
}

#[tokio::test(flavor = "multi_thread")]
async fn output_fits_a_narrow_terminal_and_survives_a_closed_pipe() {
    let server = ApiServer::start().await;
    let waiting =
        json!({"id": "csi-1", "pod": "shop/api\u{1b}[2J", "state": "expired", "why": "a\nlie", "seconds_left": -5});
    server.driver("a", answer(true, &[volume("web", "ok", 7_200), waiting]));
    let (code, text, _) = ran(plugin(&server, &["status", "-A"]).env("COLUMNS", "40").output().unwrap());
    assert_eq!(code, 2, "a volume has expired");
    assert!(
        text.ends_with(
            "\nshop/api\\u{1b}[2J\n  expired, over left\n  \n  -\n  a\n  a\\nlie\n\
             shop/web\n  ok, 2h0m left\n  broker:files\n  spiffe://example.org/web\n  a\n"
        ),
        "{text}"
    );
    assert!(text.is_ascii() && !text.contains('\x1b'), "{text}");

    let mut child = plugin(&server, &["status", "-A"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut error = String::new();
    child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
    assert_eq!((child.wait().unwrap().code(), error.as_str()), (Some(2), ""));
    std::io::stdout().flush().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_only_have_the_label_are_not_asked() {
    let server = ApiServer::start().await;
    server.driver("a", answer(true, &[]));
    let mut other = driver_pod("b");
    other["spec"]["containers"][1]["securityContext"] = json!({"privileged": false});
    server.put(other);
    let mut ended = driver_pod("a");
    ended["metadata"]["name"] = json!("driver-old");
    ended["status"]["phase"] = json!("Failed");
    server.put(ended);
    let mut of_others = driver_pod("c");
    of_others["metadata"]["namespace"] = json!("tenant");
    server.put(of_others);
    server.script("driver-c", answer(true, &[]));
    assert_eq!(run(&server, &["status", "-A"]).1, "nodes: 2 asked, 2 answered\nvolumes: none\n");
    let (code, text, _) = run(&server, &["status", "-A", "--driver-namespace=svid-csi"]);
    assert_eq!((code, text.as_str()), (0, "nodes: 1 asked, 1 answered\nvolumes: none\n"));
    let (code, _, error) = run(&server, &["status", "--driver-selector=app=svid"]);
    assert!(code == 2 && error.contains("no privileged pod in any namespace has the labels app=svid"), "{error}");
}
