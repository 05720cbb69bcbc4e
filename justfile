set shell := ["bash", "-euo", "pipefail", "-c"]

import? 'tests/cluster/cluster.just'
import? 'docs/docs.just'
import? 'fuzz/fuzz.just'
import? 'xtask/xtask.just'

# List the recipes
[private]
default:
    @just --list

# Everything a change must pass; CI runs this and then the cluster tests
check: fmt style lint doc deny test

# The formatting of the code
fmt:
    cargo fmt --all --check

# The language of documentation, comments, messages and names of tests (docs/style.md)
style:
    xtask/style

# Clippy, with warnings as errors
lint:
    cargo clippy --workspace --all-targets --all-features --locked -- -D warnings

# The documentation of the code builds, and its links work
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

# The licences and origins of the dependencies
deny:
    cargo deny --locked check bans licenses sources

# Other recipes also select the whole workspace instead of one package: the selection decides with which features
# dependencies are compiled, so selecting one package would compile most of them again.

# All tests that need no cluster
test:
    cargo test --workspace --locked

# Every fault at every effect of the driver on the node, and kills of the approver (ARCHITECTURE.md, "Every effect"); takes long
faults:
    CI=true cargo test --locked --workspace --test node --test approver -- --include-ignored --test-threads 2 effects::

# Random operations and faults against the real driver: --seed N, --minutes M, --replay FILE or --shrink FILE (docs/testing.md)
chaos *flags:
    SVID_CSI_CHAOS="{{ flags }}" cargo test --locked --workspace --test node -- --ignored --nocapture --exact chaos::chaos

# The same for a minute with the seed of the commit, as CI does
chaos-of-commit:
    {{ just_executable() }} chaos --seed "$((16#$(git rev-parse --short=8 HEAD)))"

# The same with `seeds` new seeds, one after the other; all of them, even if one fails
chaos-of-new-seeds seeds="10" minutes="5":
    failed=0; for _ in {1..{{ seeds }}}; do {{ just_executable() }} chaos --minutes {{ minutes }} || failed=1; done; exit "$failed"

# What 10,000 volumes leave behind, and what 100 hostile pods take up; takes long
leaks:
    cargo test --locked --workspace --test node -- --ignored --nocapture --test-threads 1 ten_thousand_volumes a_hundred_hostile_pods \
        pods_leave_descriptors_to_the_kubelet a_pod_makes_the_driver_hold_little ten_thousand_links

# Each simulation with `seeds` seeds, beginning at `seed` (docs/testing.md)
simulations seeds="200" seed="1":
    SVID_CSI_SEEDS={{ seeds }} SVID_CSI_SEED={{ seed }} \
        cargo test --workspace --locked --lib --test rules -- --nocapture --test-threads 2 \
        lease::tests::simulation cert_manager::tests::simulation roots::tests::simulation broker::subscription::tests \
        renewals_are_in_time

# Small changes to core that its tests must notice, all of them or a shard such as 3/16; `-f FILE` selects files. Needs cargo-mutants
mutants shard="1/1" *flags:
    cargo mutants --package svid-csi-core --jobs 2 --output target {{ if shard == "1/1" { "" } else { "--shard " + shard } }} {{ flags }}

# The tests that need the openssl command, as an independent implementation of CSRs and PKCS#12
openssl:
    cargo test --locked --workspace --test rules -- --ignored openssl

# Compares verdicts on `chains` certificate chains with Go's, and on a twentieth of them with OpenSSL's, beginning at `seed`
paths chains="10000" seed="0": oracle-program
    SVID_CSI_ORACLE="$PWD/target/oracle" SVID_CSI_INPUTS={{ chains }} SVID_CSI_SEED={{ seed }} \
        cargo test --locked --workspace --test rules -- --ignored --nocapture judges_chains_alike

# Compare parsers and verdicts with those of go-spiffe, cert-manager and Go, on that many inputs each from a seed; needs Go
oracles inputs="100000" seed="0": oracle-program
    SVID_CSI_ORACLE="$PWD/target/oracle" SVID_CSI_INPUTS={{ inputs }} SVID_CSI_SEED={{ seed }} \
        cargo test --locked --workspace --test rules -- --ignored --nocapture --test-threads 2 oracle::

# Compare the approver's CSR parser with cert-manager's own decoder; needs Go
csr-oracle inputs="150000" seed="11": oracle-program
    SVID_CSI_ORACLE="$PWD/target/oracle" SVID_CSI_INPUTS={{ inputs }} SVID_CSI_SEED={{ seed }} \
        cargo test --locked --workspace --test rules -- --ignored --nocapture an_approved_csr_is_the_one_that_cert_manager_reads

[private]
oracle-program:
    go -C tests/cluster/tools/oracle build -o "$PWD/target/oracle" .

# grpc-go reads the SPIFFE bundle map of a volume; needs Go
grpc:
    cargo test --locked --workspace --test node -- --ignored grpc_go

# The exchange of keys with a Go server that only knows X25519MLKEM768; needs Go
post-quantum:
    cargo test --locked --workspace --lib -- --ignored a_go_server_that_only_knows_x25519mlkem768

# Programs of others on volumes: spiffe-helper, ghostunnel, nginx, Node.js and Java, which `just consumers-setup` installs; needs Go
consumers:
    cargo test --workspace --locked --test node -- --ignored consumers::

# Install what they need, on Debian
consumers-setup:
    apt-get install -y --no-install-recommends nginx-light nodejs openjdk-17-jdk-headless openssl

# The tests that need Java's keytool, as an independent reader of PKCS#12 files
keytool:
    cargo test --locked --workspace --test rules -- --ignored keytool

# The status page in Chromium: with 5,000 volumes, hostile pod names, changed scripts
page-test:
    cargo test --locked --workspace --lib -- --ignored --nocapture page::

# Take the pictures of the status page for the documentation
page-pictures:
    SVID_CSI_WRITE_PICTURES=1 cargo test --locked --workspace --lib -- --ignored pictures_are_light_and_dark
    pngquant --force --ext .png 256 docs/status-page-light.png docs/status-page-dark.png

# Install what both need, on Debian
page-setup:
    apt-get install -y --no-install-recommends chromium pngquant

# Check the metrics of running programs, the alerts with their tests, and the dashboard with promtool; needs Go, and builds promtool in a few minutes
promtool:
    CGO_ENABLED=0 go -C tests/cluster/tools/promtool build -ldflags "-s -w" -o "$PWD/target/promtool" \
        github.com/prometheus/prometheus/cmd/promtool
    PROMTOOL="$PWD/target/promtool" cargo test --locked --workspace --test node --test approver -- --ignored promtool::

# Show what the driver does, on this machine and without Kubernetes
demo *flags:
    cargo run --release --locked -- demo {{ flags }}

# Measure speed and memory of the driver on this machine, built as for its image (docs/benchmarks.md)
bench *flags: build-bench
    cargo run --profile bench --locked --package svid-csi-testkit --bin bench -- \
        --driver target/static/{{ arch() }}-unknown-linux-gnu/dist/svid-csi {{ flags }}

# Measure what it costs to look at the driver: doctor, scrapes, probes; SVID_CSI_MEASURED names another build of it (docs/performance.md)
figures:
    cargo test --locked --workspace --test node -- --ignored --nocapture --test-threads 1 figures::
    cargo test --locked --workspace --lib -- --ignored --nocapture what_a_counted_call_costs

# Draw charts of the growth beside a file with the result of `just bench --json`
bench-charts result:
    cargo run --profile bench --locked --package svid-csi-testkit --bin bench -- --draw {{ result }}

# Find out again which functions a running driver uses, on x86-64, and write xtask/order, by which it is linked (docs/performance.md)
order:
    touch crates/svid-csi/src/main.rs
    SVID_CSI_SYMBOLS="$PWD/target/svid-csi-symbols" {{ just_executable() }} build-bench
    xtask/order-functions target/release/bench target/svid-csi-symbols

# The driver as for its image, and the programs that measure it
[private]
build-bench:
    cargo xtask image
    cargo build --profile bench --locked --package svid-csi-testkit --bin bench --bin predecessor
