//! The driver's process.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::{doctor, finds, found, healthy, ids, output, text};
use crate::fixture::{test, until};
use crate::stuck::Unreadable;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The program as if it were released under another version of the same length.
fn of_version(version: &str, at: &Path) {
    assert_eq!(version.len(), VERSION.len());
    let replace = format!("s/{}/{version}/g", VERSION.replace('.', "\\."));
    let mut sed = Command::new("sed");
    sed.env("LC_ALL", "C").args(["-e", &replace, env!("CARGO_BIN_EXE_svid-csi")]);
    assert!(sed.stdout(fs::File::create(at).unwrap()).status().unwrap().success());
    fs::set_permissions(at, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_driver_of_another_version() {
    test(async || {
        let node = healthy(&[]).await;
        finds(&node, &[]).await;
        let newer = node.path("svid-csi-of-tomorrow");
        of_version("9.9.9", &newer);
        let mut doctor = Command::new(&newer);
        doctor.args(["doctor", "--output=short", "--data-root"]).arg(node.path("root"));
        let (_, text) = output(&mut doctor);
        let ids: Vec<_> = text.lines().filter_map(|line| line.split(' ').nth(1)).collect();
        let ids: Vec<_> = ids.into_iter().filter(|id| !super::OF_NAMESPACE.contains(id)).collect();
        assert_eq!(ids, ["driver-other-version"], "{text}");
        assert!(text.contains(&format!("the driver is version {VERSION}, this program 9.9.9")), "{text}");
    });
}

#[test]
fn volumes_that_are_left_alone_or_whose_system_calls_hang() {
    test(async || {
        let mut node = healthy(&[]).await;
        node.kill();
        let record = Unreadable::folder(&node, "hung");
        node.start().await;
        node.kubelet.register("demo.svid-csi", std::time::Duration::from_secs(120)).await.unwrap();
        finds(&node, &["volume-left-alone"]).await;
        let (_, answer) = doctor(&node, &[]);
        let finding = found(&answer).find(|finding| finding["id"] == "volume-left-alone").unwrap();
        assert_eq!(text(finding, "about"), record.id());
        record.hang(&node).await;
        let hung = ids(&node);
        assert!(hung.contains("volumes-busy"), "{hung:?}");
        record.release();
        until("it is no longer busy", async || !ids(&node).contains("volumes-busy")).await;
    });
}
