//! Admin sockets of other versions and of other programs.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::thread;

use tempfile::TempDir;

use super::output;

/// An admin socket in a folder of its own that answers every request with this.
pub(super) fn that_answers(answer: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join("admin.sock")).unwrap();
    let answer = answer.to_owned();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, answer) = (stream.unwrap(), answer.clone());
            thread::spawn(move || {
                let mut request = [0; 1024];
                if stream.read(&mut request).is_ok_and(|read| read > 0) {
                    let _ = stream.write_all(answer.as_bytes());
                }
            });
        }
    });
    folder
}

/// What `svid-csi doctor` says about an admin socket that answers this.
fn of(answer: &str) -> (i32, String) {
    let folder = that_answers(answer);
    let mut doctor = Command::new(env!("CARGO_BIN_EXE_svid-csi"));
    output(doctor.args(["doctor", "--output=short", "--data-root"]).arg(folder.path()))
}

pub(super) fn page(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn older_newer_and_half_answers_have_a_line_each() {
    let (code, text) = of("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    assert!(code == 1 && text.starts_with("warning driver-other-version ") && text.contains("older"), "{text}");
    let (code, text) = of(&page(r#"{"version":"99.0.0","node":"n1","novelty":{"x":1}}"#));
    assert!(code == 1 && text.contains("the driver is version 99.0.0, this program "), "{text}");
    let (code, text) = of(&page(r#"{"version":7}"#));
    assert!(code == 1 && text.contains("the driver's facts cannot be read: invalid type"), "{text}");
    let (code, text) = of(&page(r#"{"version":"9"#));
    assert!(code == 1 && text.lines().count() == 1 && text.contains("cannot be read"), "{text}");
    let (code, text) = of("HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{\"version\":");
    assert!(code == 2 && text.starts_with("fault driver-unreachable ") && text.lines().count() == 1, "{text}");
    let (code, text) = of("SSH-2.0-x\r\n");
    assert!(code == 2 && text.contains("is another program listening there?"), "{text}");
}

#[test]
fn ten_thousand_findings_and_hostile_names() {
    let volume = |number: usize| {
        format!(
            r#""v{number}":{{"phase":"ready","plan":"local-ca:files","pod":"shop/\u001b[2J\n{number}","target":"/x{number}"}}"#
        )
    };
    let volumes: Vec<_> = (0..10_000).map(volume).collect();
    let version = env!("CARGO_PKG_VERSION");
    let facts = format!(r#"{{"version":"{version}","busy":3,"pods_dir":"/none","volumes":{{{}}}}}"#, volumes.join(","));
    let (code, text) = of(&page(&facts));
    assert_eq!(code, 2);
    assert!(!text.contains('\x1b') && text.contains(r"shop/\u{1b}[2J\n7: the driver has recorded none"), "{text}");
    assert!(text.lines().filter(|line| line.contains("identity-missing")).count() == 10_000);
    assert!(text.contains("warning volumes-busy"), "the volumes that could not be looked at");
}
