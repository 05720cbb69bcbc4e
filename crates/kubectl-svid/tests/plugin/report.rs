//! `kubectl svid report`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use flate2::read::GzDecoder;
use serde_json::json;
use tar::Archive;

use crate::api_server::{ApiServer, Script};
use crate::{driver_pod, plugin, ran, run, user_pod};

/// What a driver packs, as far as the plugin cares.
const PACKED: &[u8] = b"\x1f\x8bpacked by a driver";
/// The signature part of a token.
const SIGNATURE: &str = "c2lnbmF0dXJlLXRoYXQtaXMtbG9uZy1lbm91Z2g";

fn approver(name: &str) -> serde_json::Value {
    json!({
        "metadata": {
            "name": name, "namespace": "svid-csi",
            "labels": {"app.kubernetes.io/component": "approver"},
        },
        "spec": {"containers": [{"name": "main", "image": "x"}]},
    })
}

/// The files of an archive, by name.
fn unpacked(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut archive = Archive::new(GzDecoder::new(File::open(path).unwrap()));
    let read = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().strip_prefix("svid-csi-report").unwrap().display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (name, bytes)
    });
    read.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_and_logs_are_in_one_archive_without_secrets() {
    let server = ApiServer::start().await;
    server.driver("a", Script::Prints(PACKED.to_vec()));
    server.driver("b", Script::Hangs);
    server.log(
        "driver-a",
        &format!("Authorization: Bearer eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.{SIGNATURE}\n"),
        Some("panic\n"),
    );
    server.log("driver-b", "stuck\n", None);
    server.put(approver("approver-1"));
    server.log("approver-1", "denied shop/request\n", None);
    server.put(approver("approver-2"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.tar.gz");
    let words = ["report", "--node=a", "--node=b", "--node-timeout=1s", "--output", path.to_str().unwrap()];
    let (code, text, error) = run(&server, &words);
    assert!(
        code == 2 && text.is_empty() && error.contains("node b, driver pod svid-csi/driver-b: the node did not"),
        "{error}"
    );

    let files = unpacked(&path);
    let names: Vec<_> = files.keys().map(String::as_str).collect();
    let expected = [
        "README.txt",
        "a/driver-a-before-its-restart.log",
        "a/driver-a.log",
        "a/driver-a.tar.gz",
        "approver/approver-1.log",
        "b/driver-b.log",
    ];
    assert_eq!(names, expected);
    assert_eq!(files["a/driver-a.tar.gz"], PACKED);
    let readme = String::from_utf8(files["README.txt"].clone()).unwrap();
    assert!(readme.contains("the report of the driver on node b: the node did not answer in time"), "{readme}");
    assert!(readme.contains("the log of pod svid-csi/approver-2: the API server answers 403"), "{readme}");
    for (name, bytes) in &files {
        assert!(!String::from_utf8_lossy(bytes).contains(SIGNATURE), "{name} holds a token");
    }
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");

    let (code, _, error) = run(&server, &words);
    assert!(code == 2 && error.contains("report.tar.gz exists already: give another --output, or --force"), "{error}");
    let (code, _, error) = run(&server, &[&words[..2], &words[4..], &["--force"]].concat());
    assert_eq!((code, unpacked(&path).len()), (0, 5), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_of_a_pod_is_reported() {
    let server = ApiServer::start().await;
    server.driver("a", Script::Prints(PACKED.to_vec()));
    server.driver("b", Script::Prints(PACKED.to_vec()));
    server.put(user_pod("web", "b", "csi.spiffe.io"));
    let folder = tempfile::tempdir().unwrap();
    let (code, text, error) =
        ran(plugin(&server, &["report", "web", "--anonymize"]).current_dir(folder.path()).output().unwrap());
    assert_eq!((code, text.as_str()), (0, ""), "{error}");
    let mut written: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    let path = written.pop().unwrap();
    assert!(written.is_empty() && error.contains(path.file_name().unwrap().to_str().unwrap()), "{error}");
    assert_eq!(unpacked(&path).into_keys().collect::<Vec<_>>(), ["README.txt", "b/driver-b.tar.gz"]);
    let executed = server.executed();
    let words: Vec<_> = executed.iter().map(|one| (one.pod.as_str(), one.words[1..].join(" "))).collect();
    assert_eq!(
        words,
        [("driver-b", "report --anonymize --output - --admin-socket /plugin/data/admin.sock".to_owned())]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_writes_nothing() {
    let server = ApiServer::start().await;
    server.driver("a", Script::Ends("     12  README.txt\u{1b}[2J\n".to_owned(), String::new(), 0));
    let folder = tempfile::tempdir().unwrap();
    let (code, text, _) =
        ran(plugin(&server, &["report", "--node=a", "--dry-run"]).current_dir(folder.path()).output().unwrap());
    assert!(code == 0 && text.starts_with("node a:\n     12  README.txt\\x1b[2J\n"), "{text}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_refused_before_a_node_is_asked() {
    let server = ApiServer::start().await;
    server.driver("a", Script::Ends("not an archive".to_owned(), String::new(), 0));
    let many: Vec<_> = (0..21).map(|index| format!("--node=n{index}")).collect();
    let many: Vec<_> = ["report"].into_iter().chain(many.iter().map(String::as_str)).collect();
    for (words, expected) in [
        (&["report"][..], "required arguments were not provided"),
        (&["report", "web", "--node=a"], "cannot be used with"),
        (&many, "a report is about at most 20 nodes, not 21"),
        (&["report", "--node=gone"], "there is no driver pod on node gone"),
    ] {
        let (code, _, error) = run(&server, words);
        assert!(code == 2 && error.contains(expected), "{words:?}: {error}");
    }
    assert_eq!(server.executed(), []);
    let mut other = driver_pod("b");
    other["spec"]["nodeName"] = json!("../b");
    server.put(other);
    server.script("driver-b", Script::Prints(PACKED.to_vec()));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.tar.gz");
    let (code, _, error) = run(&server, &["report", "--node=a", "--node=../b", "--output", path.to_str().unwrap()]);
    assert!(code == 2 && error.contains("its answer is not an archive"), "{error}");
    assert!(unpacked(&path).contains_key("_.._b/driver-b.tar.gz"), "{:?}", unpacked(&path).keys());
}
