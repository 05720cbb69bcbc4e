//! The committed code in `src/gen/` is up to date with the `.proto` files.
//!
//! After a change to a `.proto` file: `REGENERATE=1 cargo test -p svid-csi-proto`.

use std::fs;
use std::path::Path;

use tonic_prost_build::Config;

const PROTOS: [&str; 5] = ["csi.proto", "health.proto", "pluginregistration.proto", "sds.proto", "workload.proto"];
const GENERATED: [&str; 6] = [
    "csi.v1.rs",
    "envoy.service.secret.v3.rs",
    "grpc.health.v1.rs",
    "pluginregistration.rs",
    "workload.rs",
    "spiffe.broker.rs",
];

/// Messages with keys or tokens: `src/redacted.rs` prints them without.
const SECRET: [&str; 6] = [
    ".csi.v1.NodePublishVolumeRequest",
    ".X509SVID",
    ".JWTSVID",
    ".ValidateJWTSVIDRequest",
    ".envoy.service.secret.v3.DataSource",
    ".envoy.service.secret.v3.DiscoveryResponse",
];

/// Messages of the Workload API that the Broker API uses in responses.
const SHARED: [(&str, &str); 4] = [
    (".X509SVIDResponse", "crate::workload::X509svidResponse"),
    (".X509BundlesResponse", "crate::workload::X509BundlesResponse"),
    (".JWTSVIDResponse", "crate::workload::JwtsvidResponse"),
    (".JWTBundlesResponse", "crate::workload::JwtBundlesResponse"),
];

fn generate(into: &Path) {
    let mut messages = Config::new();
    messages.skip_debug(SECRET);
    compile(&PROTOS, messages, into);
    let mut broker = Config::new();
    for (message, path) in SHARED {
        broker.extern_path(message, path);
    }
    // In a separate folder, because the messages of the Workload API that are not shared are generated a second time.
    let apart = tempfile::tempdir().expect("a folder");
    compile(&["broker.proto"], broker, apart.path());
    fs::copy(apart.path().join("spiffe.broker.rs"), into.join("spiffe.broker.rs")).expect("the code is copied");
}

fn compile(protos: &[&str], mut config: Config, into: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let descriptors = protox::compile(protos, [&root]).expect("the .proto files compile");
    config.out_dir(into).default_package_filename("workload");
    tonic_prost_build::configure()
        .out_dir(into)
        .codec_path("crate::codec::SmallCodec")
        .compile_fds_with_config(descriptors, config)
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
