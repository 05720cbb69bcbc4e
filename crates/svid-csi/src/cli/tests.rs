//! Tables over whole command lines.

mod approver;
mod broker;
mod chain;
mod doctor;
mod mistakes;
mod renew;
mod watch;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::CommandFactory;
use svid_csi_core::files::Layout;
use svid_csi_core::findings::checks;
use svid_csi_core::identity::KeyType;
use svid_csi_core::plan::{Issuer, Plan};

use super::{Cli, Command, DriverCommand};
use crate::kube::client::ClientOptions;

const FILES: Plan = Plan::Files(Issuer::LocalCa);
const LOCAL_CA: &str = "svid-csi driver --source local-ca --delivery files --driver-name demo.svid-csi --node-id n1 \
                        --endpoint unix:///s --data-root /r --trust-domain example.org";
const CERT_MANAGER: &str =
    "svid-csi driver --profile spiffe.csi.cert-manager.io --node-id n --endpoint e --data-root r";
const SPIFFE: &str = "svid-csi driver --profile csi.spiffe.io -node-id n1 -workload-api-socket-dir /agent";

fn driver(line: &str, environment: &[(&str, &str)]) -> Result<DriverCommand, String> {
    let lookup = |name: &str| environment.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
    match super::parse(line.split_whitespace().map(Into::into), &lookup) {
        Ok(Command::Driver(driver)) => Ok(*driver),
        Ok(other) => Err(format!("not a driver: {other:?}")),
        Err(answer) => Err(answer.to_string()),
    }
}

fn good(line: &str) -> DriverCommand {
    driver(line, &[]).unwrap_or_else(|answer| panic!("{line}\n{answer}"))
}

/// The lines of the error, each with a mistake.
fn mistakes(line: &str) -> Vec<String> {
    let answer = driver(line, &[]).expect_err(line);
    answer.lines().filter_map(|line| line.strip_prefix("  ")).map(str::to_owned).collect()
}

fn path(text: &str) -> Option<PathBuf> {
    Some(here(text))
}

/// The absolute form of a relative path.
fn here(text: &str) -> PathBuf {
    std::path::absolute(text).unwrap()
}

#[test]
fn passthrough_as_promised() {
    let line = "svid-csi driver --profile csi.spiffe.io -node-id n1 -csi-socket-path S -workload-api-socket-dir D \
                --stable-socket-dir T --data-root R";
    let DriverCommand { config, warnings, .. } = good(line);
    let agent = config.agent.as_ref().unwrap();
    assert_eq!((agent.path.as_path(), agent.stable.as_deref()), (&*here("D"), Some(&*here("T"))));
    assert_eq!((config.kubelet.node_id.as_str(), config.data.clone().map(|data| data.root)), ("n1", path("R")));
    assert_eq!((config.admin.socket.clone(), config.admin.metrics_address), (path("R/admin.sock"), None));
    let [driver] = config.kubelet.drivers.as_slice() else { panic!("{config:?}") };
    assert_eq!((driver.name.as_str(), driver.socket.as_path()), ("csi.spiffe.io", &*here("S")));
    assert_eq!((driver.default_plan, driver.allowed_plans.len()), (Plan::Passthrough, 1));
    assert!(config.local_ca.is_none() && warnings.is_empty());
}

#[test]
fn local_ca_as_promised() {
    let DriverCommand { config, warnings, .. } =
        good(&format!("{LOCAL_CA} --certificate-request-duration 1h30m --jwt-svid-ttl 10m --local-ca-dir ca"));
    let local_ca = config.local_ca.unwrap();
    assert_eq!(local_ca.jwt_lifetime, Duration::from_secs(600));
    assert_eq!(good(LOCAL_CA).config.local_ca.unwrap().jwt_lifetime, Duration::from_secs(300));
    assert_eq!(local_ca.trust_domain.as_str(), "example.org");
    assert_eq!((local_ca.lifetime, local_ca.dir), (Duration::from_secs(5_400), path("ca")));
    assert_eq!(
        (config.kubelet.drivers[0].default_plan, config.kubelet.drivers[0].socket.as_path()),
        (FILES, Path::new("/s"))
    );
    assert_eq!(config.admin.metrics_address.unwrap().to_string(), "127.0.0.1:9809");
    assert_eq!(config.data.as_ref().unwrap().size_limit, 134_217_728);
    let names = &config.kubelet.drivers[0].file_names;
    assert_eq!([&names.cert, &names.key].map(|name| name.as_ref().unwrap().as_str()), ["tls.crt", "tls.key"]);
    assert_eq!(names.bundle.as_ref().unwrap().as_str(), "ca.crt");
    assert!(config.agent.is_none() && warnings.is_empty());
    assert_eq!(config.kubelet.drivers[0].layout, Layout::Pem);
    let usual_names = "--file-name-certificate tls.crt --file-name-key tls.key --file-name-ca ca.crt";
    let gke = good(&format!("{LOCAL_CA} --layout gke {usual_names}"));
    assert_eq!((gke.config.kubelet.drivers[0].layout, gke.warnings.is_empty()), (Layout::Gke, true));
}

#[test]
fn drivers_that_need_the_api_server_know_where_it_is() {
    let kubeconfig = |client: &ClientOptions| client.kubeconfig.clone();
    let more = "--local-ca-roots svid-csi/roots --kubeconfig k --context c";
    let DriverCommand { config, warnings, .. } = good(&format!("{LOCAL_CA} {more}"));
    let roots = config.local_ca.unwrap().roots.unwrap();
    assert_eq!((roots.to_string().as_str(), kubeconfig(&config.client)), ("svid-csi/roots", path("k")));
    assert_eq!((config.client.context.as_deref(), warnings), (Some("c"), Vec::new()));
    let registers = "--kubelet-registration-dir g --kubelet-registration-path p --startup-taint svid-csi/not-ready";
    for line in [LOCAL_CA, SPIFFE, &format!("{CERT_MANAGER} --issuer-name i")] {
        let DriverCommand { config, warnings, .. } = good(&format!("{line} {registers} --kubeconfig k"));
        let taint = config.kubelet.startup_taint.unwrap();
        assert_eq!((taint.as_str(), kubeconfig(&config.client)), ("svid-csi/not-ready", path("k")));
        assert!(warnings.is_empty(), "{line}: {warnings:?}");
    }
    let idle = good(&format!("{SPIFFE} --local-ca-roots a/b"));
    assert!(idle.config.local_ca.is_none());
    assert_eq!(idle.warnings, ["--local-ca-roots has no effect: no volume may use the source local-ca"]);
    assert!(mistakes(&format!("{LOCAL_CA} --kubeconfig k"))[0].starts_with("--kubeconfig: belongs to the source"));
}

#[test]
fn spiffe_csi_manifest_as_it_is() {
    let line =
        "/bin/spiffe-csi-driver -workload-api-socket-dir /spire-agent-socket -csi-socket-path /spiffe-csi/csi.sock";
    let config = driver(line, &[("MY_NODE_NAME", "worker-1")]).unwrap().config;
    assert_eq!(
        (config.kubelet.node_id.as_str(), config.kubelet.drivers[0].name.as_str()),
        ("worker-1", "csi.spiffe.io")
    );
    assert_eq!(
        (config.data.map(|data| data.root), config.admin.socket, config.admin.metrics_address),
        (None, None, None)
    );
}

#[test]
fn csi_driver_spiffe_manifest_as_it_is() {
    let line = "cert-manager-csi-driver-spiffe --log-level=1 --csi-driver-name=spiffe.csi.cert-manager.io \
        --certificate-request-duration=1h --issuer-name=spiffe-ca --issuer-kind=ClusterIssuer \
        --issuer-group=cert-manager.io --trust-domain=cluster.local --file-name-certificate=tls.crt \
        --file-name-key=tls.key --file-name-ca=ca.crt --source-ca-bundle= --node-id=n1 --endpoint=unix://plugin/csi.sock \
        --data-root=csi-data-dir --runtime-issuance-config-map-name= --runtime-issuance-config-map-namespace=cert-manager \
        --extra-certificate-request-annotations=a=b,c=d --use-own-service-account=true";
    let DriverCommand { config, warnings, .. } = good(line);
    let cert_manager = config.cert_manager.unwrap();
    let issuer = cert_manager.issuer.unwrap();
    assert_eq!(
        (issuer.name.as_str(), issuer.kind.as_str(), issuer.group.as_str()),
        ("spiffe-ca", "ClusterIssuer", "cert-manager.io")
    );
    assert_eq!((cert_manager.trust_domain.as_str(), cert_manager.settings.node_id.as_str()), ("cluster.local", "n1"));
    assert!(!cert_manager.settings.pods_ask && cert_manager.bundle.is_none() && cert_manager.runtime_issuer.is_none());
    assert_eq!(
        cert_manager.settings.annotations,
        [("a", "b"), ("c", "d")].map(|(a, b)| (a.to_owned(), b.to_owned())).into()
    );
    assert!(warnings.is_empty() && config.local_ca.is_none(), "{warnings:?}");

    let DriverCommand { config, warnings, .. } = driver(line, &[("SVID_CSI_SOURCE", "local-ca")]).unwrap();
    assert_eq!(
        (config.data.map(|data| data.root), config.kubelet.drivers[0].socket.as_path()),
        (path("csi-data-dir"), Path::new("/plugin/csi.sock"))
    );
    assert_eq!(config.kubelet.drivers[0].default_plan, FILES);
    assert!(config.kubelet.drivers[0].file_names.bundle.is_some());
    let about = ["issuer-name", "issuer-kind", "issuer-group", "map-namespace", "annotations", "own-service-account"];
    assert_eq!(warnings.len(), about.len(), "{warnings:?}");
    for (warning, flag) in warnings.iter().zip(about) {
        assert!(warning.contains(flag) && warning.contains("no effect"), "{warning}");
    }
}

#[test]
fn a_profile_brings_its_defaults() {
    let spiffe = good(SPIFFE).config;
    assert_eq!(spiffe.kubelet.drivers[0].socket, Path::new("/spiffe-csi/csi.sock"));
    let line = "svid-csi driver --profile spiffe.csi.cert-manager.io --node-id n --endpoint e --data-root r";
    let config = good(line).config;
    assert_eq!(
        (config.kubelet.drivers[0].name.as_str(), config.admin.metrics_address),
        ("spiffe.csi.cert-manager.io", None)
    );
    assert_eq!(config.kubelet.drivers[0].default_plan, Plan::Files(Issuer::CertManager));
    let cert_manager = config.cert_manager.unwrap();
    assert_eq!(cert_manager.trust_domain.as_str(), "cluster.local");
    assert_eq!(cert_manager.issuer.unwrap().name, "my-spiffe-ca");
    let runtime = "--runtime-issuance-config-map-name=a --runtime-issuance-config-map-namespace=b";
    for (flags, issuer) in [("", None), ("--issuer-name=", None), ("--issuer-name=ca", Some("ca"))] {
        let named = good(&format!("{line} {runtime} {flags}")).config.cert_manager.unwrap().issuer;
        assert_eq!(named.map(|issuer| issuer.name).as_deref(), issuer, "as the approver has it: {flags:?}");
    }
    let settings = cert_manager.settings;
    assert_eq!((settings.lifetime, settings.renewals, settings.pods_ask), (Duration::from_secs(3_600), 8, true));
    let local_ca = good(&format!("{line} --source local-ca --key-type rsa-2048")).config.local_ca.unwrap();
    assert_eq!((local_ca.trust_domain.as_str(), local_ca.key_type), ("cluster.local", KeyType::Rsa2048));
    let idle = "-n ns -s=server --as-group g --insecure-skip-tls-verify --token t";
    let warnings = good(&format!("{line} --kubeconfig k -v5 {idle}")).warnings;
    assert_eq!(warnings.len(), 5, "{warnings:?}");
}

#[test]
fn cert_manager_as_promised() {
    let line = "svid-csi driver --profile spiffe.csi.cert-manager.io --kubeconfig K --issuer-name I --trust-domain T.org \
                --node-id N --endpoint unix://S --data-root R";
    let config = good(&line.replace("T.org", "t.org")).config;
    let issuer = config.cert_manager.unwrap().issuer.unwrap();
    assert_eq!((config.client.kubeconfig, issuer.name), (path("K"), "I".to_owned()));
    for (flags, pods_ask) in [
        ("", true),
        ("--use-own-service-account", false),
        ("--use-own-service-account=false", true),
        ("--request-mode own", false),
        ("--request-mode node-bound", false),
        ("--request-mode node-bound --use-own-service-account", false),
        ("--request-mode pod", true),
    ] {
        let config = good(&format!("{CERT_MANAGER} {flags}")).config.cert_manager.unwrap();
        assert_eq!(config.settings.pods_ask, pods_ask, "{flags}");
    }
    let flags = "--runtime-issuance-config-map-name cm --runtime-issuance-config-map-namespace ns --source-ca-bundle b.pem \
                 --renewal-concurrency 3 --key-type ed25519 --issuer-name i --issuer-kind Issuer --issuer-group g";
    let config = good(&format!("{CERT_MANAGER} {flags}")).config.cert_manager.unwrap();
    assert_eq!(config.runtime_issuer.unwrap().to_string(), "ns/cm");
    assert_eq!((config.settings.renewals, config.settings.key_type), (3, KeyType::Ed25519));
    assert_eq!(config.issuer.unwrap().kind(), "Issuer");
    assert!(config.bundle.unwrap().to_string().contains("/b.pem"));
    let warnings =
        good(&format!("{CERT_MANAGER} --extra-certificate-request-annotations spiffe.csi.cert-manager.io/x=1,a=2"))
            .warnings;
    assert!(matches!(&warnings[..], [one] if one.contains("spiffe.csi.cert-manager.io/x is ignored")), "{warnings:?}");
}

#[test]
fn go_spellings() {
    for flags in [
        "-node-id=n2",
        "-node-id n2",
        "--node-id=n2",
        "--node-id n2",
        "--node-id=n3 -node-id n2",
        "--node-id= -node-id n2",
    ] {
        assert_eq!(good(&format!("{LOCAL_CA} {flags}")).config.kubelet.node_id, "n2", "{flags}");
    }
    for (flags, expected) in [
        ("", false),
        ("--allow-missing-read-only", true),
        ("-allow-missing-read-only", true),
        ("--allow-missing-read-only=true", true),
        ("--allow-missing-read-only=T", true),
        ("--allow-missing-read-only=false", false),
        ("--allow-missing-read-only=0", false),
        ("--allow-missing-read-only --allow-missing-read-only=false", false),
        ("--allow-missing-read-only=", false),
    ] {
        assert_eq!(good(&format!("{LOCAL_CA} {flags}")).config.kubelet.allow_missing_read_only, expected, "{flags}");
    }
    assert_eq!(
        good(&format!("{LOCAL_CA} --csi-driver-name a.b -plugin-name c.d")).config.kubelet.drivers[0].name,
        "c.d"
    );
}

#[test]
fn the_environment_fills_what_the_command_line_leaves_open() {
    let plans =
        [("SVID_CSI_ALLOW_PLAN", "local-ca:files socket:socket-dir"), ("SVID_CSI_WORKLOAD_API_SOCKET_DIR", "a")];
    assert_eq!(driver(LOCAL_CA, &plans).unwrap().config.kubelet.drivers[0].allowed_plans.len(), 2);
    let node = [("SVID_CSI_NODE_ID", "from-flag-variable"), ("MY_NODE_NAME", "inherited"), ("HOST", "other")];
    for (flags, expected) in [
        ("--node-id n1", "n1"),
        ("--node-id=", "from-flag-variable"),
        ("--node-id= --node-id-env HOST", "from-flag-variable"),
    ] {
        assert_eq!(driver(&format!("{LOCAL_CA} {flags}"), &node).unwrap().config.kubelet.node_id, expected, "{flags}");
    }
    assert_eq!(
        driver(&format!("{LOCAL_CA} --node-id= --node-id-env HOST"), &node[1..]).unwrap().config.kubelet.node_id,
        "other"
    );
    let injected =
        [("SVID_CSI_PORT", "tcp://10.0.0.1:80"), ("SVID_CSI_SERVICE_HOST", "10.0.0.1"), ("SVID_CSI_TRUST_DOMAIN", "")];
    driver(LOCAL_CA, &injected).unwrap();
    let alias = [("SVID_CSI_CSI_SOCKET_PATH", "/from/alias.sock"), ("SVID_CSI_ALLOW_MISSING_READ_ONLY", "true")];
    let config = driver(SPIFFE, &alias).unwrap().config;
    assert!(
        config.kubelet.allow_missing_read_only && config.kubelet.drivers[0].socket == Path::new("/from/alias.sock")
    );
    let answer = driver(LOCAL_CA, &[("SVID_CSI_LOG_FORMAT", "yaml")]).unwrap_err();
    assert!(answer.contains("  SVID_CSI_LOG_FORMAT: \"yaml\" is not a log format"), "{answer}");
}

#[test]
fn one_process_serves_both_names() {
    let line = "svid-csi driver --profile spiffe.csi.cert-manager.io --source local-ca --node-id n --endpoint /a/csi.sock \
                --data-root r --also-profile csi.spiffe.io:csi-socket=/b/csi.sock,registration-path=/k/b.sock \
                --workload-api-socket-dir /agent --kubelet-registration-dir /registration --kubelet-registration-path /k/a.sock";
    let config = good(line).config;
    let [main, also] = config.kubelet.drivers.as_slice() else { panic!("{config:?}") };
    assert_eq!((main.default_plan, main.registration_path.clone()), (FILES, path("/k/a.sock")));
    assert_eq!(
        (also.name.as_str(), also.default_plan, also.allowed_plans.len()),
        ("csi.spiffe.io", Plan::Passthrough, 1)
    );
    assert_eq!((also.socket.as_path(), also.registration_path.clone()), (Path::new("/b/csi.sock"), path("/k/b.sock")));
    let config = good(&format!("{line} --allow-plan local-ca:files")).config;
    assert_eq!(config.kubelet.drivers[1].allowed_plans, [Plan::Passthrough, FILES].into());
    good(&format!(
        "{LOCAL_CA} --also-profile spiffe.csi.cert-manager.io:csi-socket=unix://b.sock --issuer-name accepted"
    ));
}

#[test]
fn switches_can_be_off() {
    let config = good(&format!("{LOCAL_CA} --metrics-address 0 --admin-socket 0")).config;
    assert_eq!((config.admin.metrics_address, config.admin.socket), (None, None));
    let config = good(&format!("{SPIFFE} --metrics-address [::]:9402 --admin-socket unix:///x/a.sock")).config;
    assert_eq!((config.admin.metrics_address, config.admin.socket), ("[::]:9402".parse().ok(), path("/x/a.sock")));
}

#[test]
fn flags_without_effect_cause_warnings() {
    for (line, flag) in [
        (format!("{LOCAL_CA} --workload-api-socket-dir /d"), "--workload-api-socket-dir"),
        (format!("{LOCAL_CA} --kubelet-registration-path /p"), "--kubelet-registration-path"),
        (format!("{SPIFFE} --local-ca-dir /d"), "--local-ca-dir"),
    ] {
        let warnings = good(&line).warnings;
        assert!(warnings.len() == 1 && warnings[0].starts_with(flag), "{line}: {warnings:?}");
    }
}

#[test]
fn help_is_grouped_and_ends_with_examples() {
    for line in
        ["svid-csi driver --help", "svid-csi driver -bogus -h", "svid-csi help driver", "spiffe-csi-driver -help"]
    {
        let help = driver(line, &[]).unwrap_err();
        for part in [
            "Driver:",
            "Volume data:",
            "Sources socket and broker:",
            "Source broker:",
            "Sources cert-manager and local-ca:",
            "Source cert-manager:",
            "API server:",
            "Kubelet:",
            "Observability:",
            "Examples:",
        ] {
            assert!(help.contains(part), "{line}: {part} is missing in\n{help}");
        }
        assert!(!help.contains("--insecure-skip-tls-verify"), "client flags that are not obeyed only clutter the help");
    }
    assert!(driver("spiffe-csi-driver --version", &[]).unwrap_err().contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_demo_takes_one_flag() {
    let parse = |line: &str| super::parse(line.split_whitespace().map(Into::into), &|_| None);
    assert!(matches!(parse("svid-csi demo --json"), Ok(Command::Demo(demo)) if demo.json));
    assert!(matches!(parse("svid-csi demo"), Ok(Command::Demo(demo)) if !demo.json));
    assert!(parse("svid-csi demo --jsn").unwrap_err().to_string().contains("did you mean --json?"));
    assert!(parse("svid-csi").is_err());
}

#[test]
fn findings_name_flags_that_exist() {
    let cli = Cli::command();
    let flags = |arg: &clap::Arg| {
        let aliases = arg.get_all_aliases().unwrap_or_default();
        arg.get_long().into_iter().chain(aliases).map(str::to_owned).collect::<Vec<_>>()
    };
    let known: BTreeSet<_> = cli.get_subcommands().flat_map(clap::Command::get_arguments).flat_map(flags).collect();
    let mut named = 0;
    for check in checks() {
        let text = format!("{} {}", check.title, check.explanation);
        let words = text.split(|c: char| !c.is_ascii_lowercase() && c != '-');
        for flag in words.filter_map(|word| word.strip_prefix("--")) {
            // A flag of the kubelet.
            assert!(known.contains(flag) || flag == "root-dir", "{} names --{flag}, which does not exist", check.id);
            named += 1;
        }
    }
    assert!(named >= 8, "{named} flags are found");
}
