//! `svid-csi report`.

mod leaks;
mod secrets;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use flate2::read::GzDecoder;
use serde_json::Value;

use super::admin_socket::{page, that_answers};
use super::{healthy, hide, unmount};
use crate::fixture::{Node, test};

/// The files in a report, by their names.
type Files = BTreeMap<String, String>;

fn command(node: &Node) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_svid-csi"));
    let given = node.path("admin.sock");
    let socket = if given.exists() { given } else { node.path("root/admin.sock") };
    command.args(["report", "--admin-socket"]).arg(socket).current_dir(node.dir.path());
    command
}

fn run(command: &mut Command) -> (i32, Vec<u8>, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code().unwrap(), stdout, String::from_utf8(stderr).unwrap())
}

fn unpacked(archive: &[u8]) -> Files {
    let mut archive = tar::Archive::new(GzDecoder::new(archive));
    let files = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        assert_eq!(entry.header().mode().unwrap(), 0o600);
        let name = entry.path().unwrap().into_owned();
        assert!(name.to_str().unwrap().starts_with("svid-csi-report-"), "{}", name.display());
        let name: std::path::PathBuf = name.components().skip(1).collect();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        assert!(text.len() <= 1024 * 1024, "{}", name.display());
        (name.to_str().unwrap().to_owned(), text)
    });
    files.collect()
}

/// The names of the files in a folder that a report could have left.
fn left(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.contains("report") || name.contains(".new")).collect()
}

#[test]
fn it_holds_what_is_known_about_a_node() {
    test(async || {
        let node = healthy(&[]).await;
        let (code, archive, error) = run(&mut command(&node));
        assert_eq!(code, 0, "{error}");
        let path = String::from_utf8(archive).unwrap();
        assert!(path.starts_with("svid-csi-report-n1-20") && path.ends_with("Z.tar.gz\n"), "{path}");
        assert!(error.contains("read README.txt before you send the report") && error.lines().count() == 1, "{error}");
        let path = node.path(path.trim_end());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(left(node.dir.path()).len(), 1, "{:?}", left(node.dir.path()));
        let files = unpacked(&fs::read(&path).unwrap());
        let json = |name: &str| -> Value { serde_json::from_str(&files[name]).unwrap() };
        assert_eq!(json("status.json")["volumes"].as_array().unwrap().len(), 3);
        assert_eq!(json("facts.json")["volumes"][0]["phase"], "ready");
        assert_eq!(json("findings.json")["node"], "n1");
        assert!(files["findings.txt"].starts_with("node n1: "), "{}", files["findings.txt"]);
        assert!(files["metrics.txt"].contains("svid_csi_build_info"), "{}", files["metrics.txt"]);
        assert!(files["flags.txt"].lines().any(|line| line == "--trust-domain=example.org"), "{}", files["flags.txt"]);
        assert!(files["environment.txt"].lines().any(|line| line == "PATH"), "{}", files["environment.txt"]);
        assert!(files["process.txt"].contains("CapEff:") && files["process.txt"].contains("Max open files"));
        let root = node.path("root/data");
        assert!(files["mounts.txt"].contains(root.to_str().unwrap()) && files["kernel.txt"].contains("is_tmpfs: true"));
        assert!(files["versions.txt"].starts_with("report: "), "{}", files["versions.txt"]);
        let readme = &files["README.txt"];
        assert!(readme.contains("Text that looks like one is replaced by [redacted] ("), "{readme}");
        assert!(files.keys().filter(|name| *name != "README.txt").all(|name| readme.contains(&format!("  {name}: "))));
        assert!(readme.contains("  objects: the API server cannot be asked: "), "{readme}");
    });
}

#[test]
fn a_dry_run_writes_nothing() {
    test(async || {
        let node = healthy(&[]).await;
        let (code, text, error) = run(command(&node).arg("--dry-run"));
        let text = String::from_utf8(text).unwrap();
        assert_eq!((code, error.as_str()), (0, ""));
        for file in ["README.txt", "facts.json", "metrics.txt"] {
            let line = text.lines().find(|line| line.ends_with(file)).unwrap_or_else(|| panic!("{text}"));
            assert!(line.split_whitespace().next().unwrap().parse::<u64>().unwrap() > 100, "{line}");
        }
        assert!(left(node.dir.path()).is_empty());
    });
}

#[test]
fn a_report_without_a_driver_says_so() {
    test(async || {
        let mut node = healthy(&[]).await;
        node.kill();
        let (code, archive, error) = run(command(&node).args(["--output", "-"]));
        assert_eq!(code, 0, "{error}");
        assert!(error.starts_with("the report has little about the driver: no process is listening on "), "{error}");
        let files = unpacked(&archive);
        assert!(files["findings.txt"].contains("driver-unreachable") && !files.contains_key("facts.json"), "{files:?}");
        assert!(files["README.txt"].contains("  metrics.txt: no process is listening on "), "{}", files["README.txt"]);
    });
}

#[test]
fn a_file_that_cannot_be_written_leaves_nothing() {
    test(async || {
        let node = healthy(&[]).await;
        let fails = |args: &[&str], expected: &str| {
            let (code, text, error) = run(command(&node).args(args));
            assert!(code == 1 && text.is_empty() && error.lines().count() == 1, "{args:?}: {code} {error}");
            assert!(error.contains(expected), "{args:?}: {error}");
        };
        fs::write(node.path("there"), "kept").unwrap();
        fails(&["--output=there"], "there exists already: give another --output, or --force to replace it");
        assert_eq!(fs::read_to_string(node.path("there")).unwrap(), "kept");
        fails(&["--output=root"], "root is not a file: give another --output");
        fails(&["--output=missing/report"], "cannot create ");
        let folder = node.path("out");
        fs::create_dir(&folder).unwrap();
        hide(&folder);
        fails(&["--output=out/report"], "Read-only file system");
        assert!(left(&folder).is_empty());
        unmount(&folder);
        let full = |size: &str| {
            let options = format!("size={size}");
            super::mount(&[
                "-t".as_ref(),
                "tmpfs".as_ref(),
                "-o".as_ref(),
                options.as_ref(),
                "none".as_ref(),
                folder.as_os_str(),
            ]);
        };
        full("4k");
        fails(&["--output=out/report"], "No space left on device");
        assert!(left(&folder).is_empty(), "{:?}", left(&folder));
        fails(&["--output=/dev/full"], "/dev/full is not a file");

        let (code, _, error) = run(command(&node).args(["--output=there", "--force"]));
        assert_eq!(code, 0, "{error}");
        assert!(unpacked(&fs::read(node.path("there")).unwrap()).contains_key("facts.json"));
        assert_eq!(fs::metadata(node.path("there")).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(left(node.dir.path()).is_empty(), "{:?}", left(node.dir.path()));
    });
}

#[test]
fn a_reader_that_goes_away_fails() {
    test(async || {
        let node = healthy(&[]).await;
        let script = format!(
            "( \"$0\" report --data-root {} --output - ; echo $? >&2 ) | true; \
             \"$0\" report --data-root {0} --output - > /dev/full; echo $? >&2",
            node.path("root").display()
        );
        let (_, text, error) = run(Command::new("sh").arg("-c").arg(script).arg(env!("CARGO_BIN_EXE_svid-csi")));
        assert!(text.is_empty());
        let lines: Vec<_> = error.lines().collect();
        assert_eq!((lines[1], lines[3]), ("1", "1"), "{error}");
        for line in [lines[0], lines[2]] {
            assert!(line.starts_with("error: cannot write the report to stdout; it is not complete: "), "{error}");
        }
    });
}

#[test]
fn names_may_be_replaced_by_hashes() {
    test(async || {
        let node = healthy(&[]).await;
        let (code, archive, error) = run(command(&node).args(["--output", "-", "--anonymize"]));
        assert_eq!(code, 0, "{error}");
        let files = unpacked(&archive);
        let is_in_word = |c: char| c.is_ascii_alphanumeric() || c == '-';
        for (name, text) in &files {
            let words: Vec<_> = text.split(|c| !is_in_word(c)).collect();
            assert!(!words.contains(&"shop") && !words.contains(&"web"), "{name}: {text}");
        }
        let json = |name: &str| -> Value { serde_json::from_str(&files[name]).unwrap() };
        let (status, facts) = (json("status.json"), json("facts.json"));
        let pods = |page: &Value| {
            let volumes = page["volumes"].as_array().unwrap().iter();
            volumes.map(|volume| volume["pod"].as_str().unwrap().to_owned()).collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(pods(&status), pods(&facts));
        assert_eq!(pods(&facts).len(), 3);
        let namespaces: std::collections::BTreeSet<_> =
            pods(&facts).iter().map(|pod| pod.split('/').next().unwrap().to_owned()).collect();
        assert!(namespaces.len() == 1 && namespaces.first().unwrap().starts_with("n-"), "{namespaces:?}");
    });
}

#[test]
fn thousands_of_volumes_and_hostile_names_fit() {
    let volume = |number: usize| {
        let pod = format!(r"shop/\u001b[2J\n../../{number}{}", "x".repeat(60));
        format!(r#""v{number}":{{"phase":"ready","plan":"local-ca:files","pod":"{pod}","target":"/x{number}"}}"#)
    };
    let volumes: Vec<_> = (0..5_000).map(volume).collect();
    let version = env!("CARGO_PKG_VERSION");
    let facts = format!(r#"{{"version":"{version}","node":"../n\n1","volumes":{{{}}}}}"#, volumes.join(","));
    let folder = that_answers(&page(&facts));
    let mut command = Command::new(env!("CARGO_BIN_EXE_svid-csi"));
    command.args(["report", "--data-root"]).arg(folder.path()).current_dir(folder.path());
    let (code, path, error) = run(&mut command);
    assert_eq!(code, 0, "{error}");
    let path = String::from_utf8(path).unwrap();
    assert!(path.starts_with("svid-csi-report-n1-"), "{path}");
    let files = unpacked(&fs::read(folder.path().join(path.trim_end())).unwrap());
    assert!(files.values().map(String::len).sum::<usize>() <= 16 * 1024 * 1024);
    assert!(files.values().all(|text| !text.contains('\x1b')));
    for (name, list) in [("facts.json", "volumes"), ("status.json", "volumes"), ("findings.json", "findings")] {
        let page: Value = serde_json::from_str(&files[name]).unwrap();
        let shown = page[list].as_array().unwrap().len() as u64;
        let left_out = page[format!("{list}_left_out")].as_u64().unwrap_or_default();
        assert!(shown >= 1_000 && shown + left_out >= 5_000, "{name}: {shown} and {left_out}");
    }
}
