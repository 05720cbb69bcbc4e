//! `svid-csi status`.

use std::process::{Command, Output};

use serde_json::Value;

use super::healthy;
use crate::fixture::{Node, test};

fn status(node: &Node, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_svid-csi"));
    command.args(["status", "--data-root"]).arg(node.path("root")).args(args);
    let columns = args.iter().find_map(|arg| arg.strip_prefix("--data-root=")).map(|_| "40");
    let Output { status, stdout, stderr } = command.envs(columns.map(|columns| ("COLUMNS", columns))).output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn pods(answer: &Value) -> Vec<&str> {
    answer["volumes"].as_array().unwrap().iter().map(|volume| volume["pod"].as_str().unwrap()).collect()
}

#[test]
fn volumes_are_shown_filtered_and_sorted() {
    test(async || {
        let mut node = healthy(&[]).await;
        let (code, text, _) = status(&node, &[]);
        assert_eq!(code, 0);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("node n1, driver ") && lines[0].ends_with(", 3 volumes"), "{text}");
        assert_eq!(lines[1], "demo.svid-csi: registered");
        assert!(lines[2].starts_with("if the source failed now: first pod without an identity in "), "{text}");
        let heads: Vec<_> = lines[4].split_whitespace().collect();
        assert_eq!(heads[..6], ["POD", "PLAN", "STATE", "LEFT", "RENEWAL", "CONNECTIONS"]);
        let rows: Vec<_> = lines[5..].iter().map(|line| line.split_whitespace().next().unwrap()).collect();
        assert_eq!(rows, ["shop/api", "shop/socket", "shop/web"]);
        assert!(!text.contains('\x1b'), "no colours outside of a terminal");

        let json =
            |args: &[&str]| -> Value { serde_json::from_str(&status(&node, &[&["--json"], args].concat()).1).unwrap() };
        let all = json(&[]);
        assert_eq!(pods(&all), ["shop/api", "shop/socket", "shop/web"]);
        assert!(all["outage_horizon"]["first_seconds"].as_u64().unwrap() > 3_000, "{all}");
        assert_eq!(all["volumes"][1]["connections"], 0);
        assert_eq!(all["volumes"][0]["spiffe_id"], "spiffe://example.org/ns/shop/sa/api");
        assert_eq!(pods(&json(&["--pod=shop/web"])), ["shop/web"]);
        assert_eq!(pods(&json(&["--namespace=other"])).len(), 0);
        assert_eq!(pods(&json(&["--state=ok", "--sort=expiry"])).len(), 3);
        assert_eq!(pods(&json(&["--state=expired", "--state=missing"])).len(), 0);

        let root = format!("--data-root={}", node.path("root").display());
        let (_, narrow, _) = status(&node, &[&root, "--pod=shop/web"]);
        let paragraph: Vec<_> = narrow.lines().skip(4).collect();
        assert_eq!(paragraph[0], "shop/web");
        assert!(
            paragraph[1].starts_with("  ok, ") && paragraph[1].ends_with(" left") && paragraph[3] == "  local-ca:files",
            "{narrow}"
        );
        // A reader that has seen enough ends it.
        let script = format!("\"$0\" status --watch --json {root} | head -n 1 | wc -l");
        let piped = Command::new("sh").args(["-c", &script, env!("CARGO_BIN_EXE_svid-csi")]).output().unwrap();
        assert_eq!((piped.stdout.as_slice(), piped.stderr.as_slice()), (&b"1\n"[..], &b""[..]));

        node.kill();
        let (code, text, error) = status(&node, &[]);
        assert!(code == 1 && text.is_empty() && error.lines().count() == 1, "{error}");
        assert!(error.contains("root/admin.sock: the driver is no longer running"), "{error}");
    });
}
