//! The programs accept the flags of the chart.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use crate::helm::text;
use crate::objects::{Objects, containers, words};
use crate::renderings::ALL;

/// The binary to use; by default that of `cargo build`, beside this test's own.
const BINARY: &str = "SVID_CSI_BINARY";

fn binary() -> PathBuf {
    let built = || env::current_exe().unwrap().ancestors().nth(2).unwrap().join("svid-csi");
    let binary = env::var_os(BINARY).map_or_else(built, PathBuf::from);
    assert!(binary.exists(), "{} is not there: `just chart-test` builds it", binary.display());
    binary
}

/// All mistakes are reported at once, so a deliberate one shows that there is no other, and nothing is started.
#[test]
fn every_rendering_has_valid_flags() {
    let binary = binary();
    for (name, arguments) in ALL {
        for container in Objects::rendered(arguments).pods().flat_map(containers) {
            let args = words(&container["args"]);
            let args =
                args.iter().map(|arg| arg.replace("$(NODE_NAME)", "node-1").replace("$(POD_NAMESPACE)", "svid-csi"));
            let output = Command::new(&binary).args(args).arg("--no-such-flag").env_clear().output().unwrap();
            let said = text(output.stderr);
            assert!(said.contains("1 mistake in the flags") && said.contains("--no-such-flag"), "{name}: {said}");
        }
    }
}
