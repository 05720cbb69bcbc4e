//! The status page, from the driver and from `svid-csi page`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use serde_json::Value;

use super::healthy;
use crate::endpoints::{get, metric, renew_pod, tcp};
use crate::fixture::{Node, test};

fn page(node: &Node, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_svid-csi"));
    command.args(["page", "--admin-socket"]).arg(node.path("admin.sock")).args(args);
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn data(html: &str) -> Value {
    let (_, data) = html.split_once("id=\"data\">").expect("the page has data");
    serde_json::from_str(data.split_once("</script>").unwrap().0).unwrap()
}

fn texts<'a>(list: &'a Value, field: &str) -> Vec<&'a str> {
    list.as_array().unwrap().iter().map(|entry| entry[field].as_str().unwrap()).collect()
}

#[test]
fn it_is_served_to_root_and_written_with_findings() {
    test(async || {
        let mut node = healthy(&["--admin-socket={dir}/admin.sock", "--metrics-address=127.0.0.1:0"]).await;
        let served = get(&node, "/").await;
        let (head, body) = served.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        for header in
            ["content-type: text/html", "content-security-policy: default-src 'none'", "x-content-type-options"]
        {
            assert!(head.contains(header), "{header} in {head}");
        }
        let by_driver = data(body);
        assert_eq!(texts(&by_driver["volumes"], "state"), ["ok"; 3]);
        assert_eq!(texts(&by_driver["recent"], "what"), ["issued"; 3]);
        assert!(by_driver["findings"].is_null(), "the driver does not look around");
        assert!(tcp(&node, "/").await.starts_with("HTTP/1.1 404"), "nothing that names pods is served over TCP");

        let (code, html, error) = page(&node, &[]);
        assert_eq!((code, error.as_str()), (0, ""));
        let written = data(&html);
        let mut pods = texts(&written["volumes"], "pod");
        pods.sort_unstable();
        assert_eq!((written["node"].as_str(), pods), (Some("n1"), vec!["shop/api", "shop/socket", "shop/web"]));
        assert_eq!(texts(&written["findings"], "id"), super::OF_NAMESPACE.iter().rev().copied().collect::<Vec<_>>());
        assert_eq!(written["names"][0]["registration"], "registered");
        assert!(written["horizon"]["first"].as_u64().unwrap() > 3_000, "{}", written["horizon"]);
        assert!(!html.contains("PRIVATE KEY"));

        let file = node.path("page.html");
        let (code, nothing, _) = page(&node, &["--output", file.to_str().unwrap()]);
        assert_eq!((code, nothing.as_str()), (0, ""));
        assert_eq!(data(&fs::read_to_string(&file).unwrap())["volumes"].as_array().unwrap().len(), 3);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

        node.kill();
        let (code, nothing, error) = page(&node, &[]);
        assert!(code == 1 && nothing.is_empty() && error.contains("the driver is no longer running"), "{error}");
    });
}

#[test]
fn failures_are_among_the_recent_events_once_with_their_number() {
    test(async || {
        let more = ["--admin-socket={dir}/admin.sock", "--data-size-limit=1Mi", "--metrics-address=127.0.0.1:0"];
        let node = healthy(&more).await;
        let filler = node.path("root/data/filler");
        let _ = fs::write(&filler, vec![0; 2 << 20]);
        for failures in 1..=2 {
            renew_pod(&node, "shop/web").await;
            let failed = Some(f64::from(failures));
            crate::fixture::until("it fails", async || metric(&node, "renewal_failures_total").await == failed).await;
        }
        let written = data(&page(&node, &[]).1);
        let failure = &written["recent"][0];
        assert_eq!((failure["about"].as_str(), failure["what"].as_str()), (Some("shop/web"), Some("renewal failed")));
        assert_eq!(failure["times"], 2, "{failure}");
        assert!(failure["why"].as_str().unwrap().contains("No space left on device"), "{failure}");
        let (issued, failed): (Vec<_>, Vec<_>) =
            texts(&written["recent"], "what").into_iter().partition(|what| *what == "issued");
        assert!(failed.len() == 1 && issued.len() >= 3, "{}", written["recent"]);

        let mut status = Command::new(env!("CARGO_BIN_EXE_svid-csi"));
        status.args(["status", "--json", "--admin-socket"]).arg(node.path("admin.sock"));
        let status: Value = serde_json::from_slice(&status.output().unwrap().stdout).unwrap();
        assert_eq!(
            (&status["recent"][0]["what"], &status["recent"][0]["times"]),
            (&"renewal failed".into(), &2.into())
        );
        assert!(status["recent"][0]["time"].as_str().unwrap().ends_with('Z'), "{status}");
    });
}
