//! `in_mount_ns` really is a place where mounting is safe.

use std::fs;
use std::path::Path;
use std::process::Command;

use svid_csi_testkit::in_mount_ns;

/// The test and its run in the namespace both know this folder, and neither needs it to be empty.
const FOLDER: &str = env!("CARGO_TARGET_TMPDIR");

#[test]
fn a_mount_is_seen_inside_only() {
    in_mount_ns(|| {
        let mount = Command::new("mount").args(["-t", "tmpfs", "inside", FOLDER]).status().unwrap();
        assert!(mount.success());
        fs::File::create(Path::new(FOLDER).join("seen-inside-only")).unwrap();
    });
    assert_eq!(inside(), fs::exists(Path::new(FOLDER).join("seen-inside-only")).unwrap());
}

fn inside() -> bool {
    std::env::var_os("SVID_CSI_IN_MOUNT_NS").is_some()
}
