//! The committed code under `src/gen/` is what the `.proto` files say.
//!
//! After a change to a `.proto` file: `REGENERATE=1 cargo test -p svid-csi-proto`.

use std::fs;
use std::path::Path;

const PROTOS: [&str; 3] = ["csi.proto", "pluginregistration.proto", "workload.proto"];
const GENERATED: [&str; 3] = ["csi.v1.rs", "pluginregistration.rs", "workload.rs"];

/// Messages that carry keys or tokens: `src/redacted.rs` prints them without.
const SECRET: [&str; 4] = [".csi.v1.NodePublishVolumeRequest", ".X509SVID", ".JWTSVID", ".ValidateJWTSVIDRequest"];

fn generate(into: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let descriptors = protox::compile(PROTOS, [&root]).expect("the .proto files compile");
    let mut messages = tonic_prost_build::Config::new();
    messages.out_dir(into).default_package_filename("workload").skip_debug(SECRET);
    tonic_prost_build::configure()
        .out_dir(into)
        .compile_fds_with_config(descriptors, messages)
        .expect("the code is generated");
}

#[test]
fn committed_code_matches_the_proto_files() {
    let fresh = tempfile::tempdir().unwrap();
    generate(fresh.path());
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/gen");
    for name in GENERATED {
        let expected = fs::read_to_string(fresh.path().join(name)).unwrap();
        if std::env::var_os("REGENERATE").is_some() {
            fs::copy(fresh.path().join(name), committed.join(name)).unwrap();
        } else {
            let found = fs::read_to_string(committed.join(name)).unwrap();
            assert!(found == expected, "src/gen/{name} is stale: run REGENERATE=1 cargo test -p svid-csi-proto");
        }
    }
}
