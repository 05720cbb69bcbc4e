set shell := ["bash", "-euo", "pipefail", "-c"]

import? 'tests/cluster/cluster.just'
import? 'docs/docs.just'
import? 'xtask/xtask.just'

# List the recipes
[private]
default:
    @just --list

# Everything a change must pass; CI runs this and then the cluster tests
check: fmt lint doc deny test

# The formatting of the code
fmt:
    cargo fmt --all --check

# Clippy, with warnings as errors
lint:
    cargo clippy --workspace --all-targets --all-features --locked -- -D warnings

# The documentation builds and its links lead somewhere
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

# Licenses and origins of the dependencies
deny:
    cargo deny --locked check bans licenses sources

# Other recipes select the whole workspace too, where a package would do: what is selected decides with which features
# dependencies are compiled, and a package alone would have most of them compiled again.

# All tests that need no cluster
test:
    cargo test --workspace --locked

# The tests that need the openssl command, as another hand that makes CSRs and reads PKCS#12 files
openssl:
    cargo test --locked --workspace --test rules -- --ignored openssl

# Certificate chains that are judged here as by Go and OpenSSL; SVID_CSI_CHAINS says how many, SVID_CSI_SEED from which on
paths:
    cargo test --locked --package svid-csi-core --test rules -- --ignored --nocapture judges_chains_alike

# The tests that need Java's keytool, as another hand that reads PKCS#12 files
keytool:
    cargo test --locked --workspace --test rules -- --ignored keytool

# The approver's reading of CSRs against cert-manager's own decoder; needs Go
csr-oracle:
    go -C tests/cluster/tools/certmanager build -o "$PWD/target/csr-oracle" ./csr
    CSR_ORACLE="$PWD/target/csr-oracle" cargo test --locked --package svid-csi-core --test rules -- \
        --ignored --nocapture what_is_approved_is_what_cert_manager_reads

# Show on this machine, without Kubernetes, what the driver does
demo *flags:
    cargo run --release --locked -- demo {{ flags }}

# How fast and how small the driver is on this machine, built as for its image (docs/benchmarks.md)
bench *flags:
    cargo xtask image
    cargo run --release --locked --package svid-csi-testkit --bin bench -- \
        --driver target/static/{{ arch() }}-unknown-linux-gnu/release/svid-csi {{ flags }}
