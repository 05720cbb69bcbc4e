mod extras;
mod layouts;
mod table;

use super::*;
use crate::files::FileName;
use crate::files::Layout;
use crate::plan::Issuer;
use crate::secret::Secret;
use crate::spiffe_id::TrustDomain;

const UID: &str = "0b9a6b1e-6a5c-4f0e-9a38-0c6b9d6f8d11";

fn names() -> FileNames {
    let name = |name| FileName::parse(name).unwrap();
    FileNames { cert: Some(name("tls.crt")), key: Some(name("tls.key")), bundle: Some(name("ca.crt")) }
}

fn rules(plan: Plan) -> Rules {
    Rules {
        default_plan: plan,
        allowed_plans: [plan].into(),
        layout: Layout::default(),
        file_names: names(),
        trust_domain: Some(TrustDomain::parse("example.org").unwrap()),
        allow_missing_read_only: false,
        pods_dir: None,
    }
}

fn passthrough() -> Rules {
    rules(Plan::Passthrough)
}

fn files() -> Rules {
    rules(Plan::Files(Issuer::LocalCa))
}

fn request() -> PublishRequest {
    let context = [
        ("csi.storage.k8s.io/ephemeral", "true"),
        ("csi.storage.k8s.io/pod.name", "web-0"),
        ("csi.storage.k8s.io/pod.namespace", "shop"),
        ("csi.storage.k8s.io/pod.uid", UID),
        ("csi.storage.k8s.io/serviceAccount.name", "web"),
    ];
    PublishRequest {
        volume_id: VolumeId::of_kubelet(UID, "spiffe").to_string(),
        target_path: format!("/var/lib/kubelet/pods/{UID}/volumes/kubernetes.io~csi/spiffe/mount"),
        capability: Some(Capability {
            access: Access::Mount { particular: false, group: String::new() },
            has_mode: true,
            reader_only: false,
        }),
        read_only: true,
        context: context.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        tokens: None,
        pkcs12_password: None,
    }
}

fn with(key: &str, value: &str) -> PublishRequest {
    let mut request = request();
    request.context.insert(key.to_owned(), value.to_owned());
    request
}

fn files_of(request: &PublishRequest) -> FilesSpec {
    match VolumeSpec::parse(request, &files()).unwrap().content {
        Content::Files(files) => files,
        _ => panic!("not a files volume"),
    }
}

#[track_caller]
fn refused(request: &PublishRequest, rules: &Rules, says: &str) {
    let mistakes = VolumeSpec::parse(request, rules).expect_err("accepted");
    assert!(mistakes.to_string().contains(says), "expected {says:?} in: {mistakes}");
}

#[test]
fn a_passthrough_volume_is_writable_on_the_host() {
    let spec = VolumeSpec::parse(&request(), &passthrough()).unwrap();
    assert_eq!((spec.plan(), spec.read_only, spec.target_mode()), (Plan::Passthrough, false, 0o750));
}

#[test]
fn a_files_volume_is_read_only_and_for_the_pods_service_account() {
    let spec = VolumeSpec::parse(&request(), &files()).unwrap();
    assert_eq!((spec.read_only, spec.target_mode()), (true, 0o440));
    assert_eq!(files_of(&request()).subject.identity.unwrap().to_string(), "spiffe://example.org/ns/shop/sa/web");
    assert_eq!(files_of(&request()).names, names());
}

#[test]
fn passthrough_needs_nothing_of_the_pod_info_but_ephemeral() {
    let mut request = request();
    request.context.retain(|key, _| key.ends_with("/ephemeral"));
    request.target_path = "/tmp/anywhere".to_owned();
    assert_eq!(VolumeSpec::parse(&request, &passthrough()).unwrap().pod, None);
}

#[test]
fn requests_that_both_dialects_refuse() {
    let change = |change: fn(&mut PublishRequest)| {
        let mut request = request();
        change(&mut request);
        request
    };
    let table: [(PublishRequest, &str); 8] = [
        (change(|r| r.volume_id.clear()), "volume_id is missing"),
        (change(|r| r.volume_id = "../x".to_owned()), "volume_id may hold only"),
        (change(|r| r.target_path.clear()), "target_path is missing"),
        (change(|r| r.target_path = "/a/../b".to_owned()), "must not contain"),
        (change(|r| r.capability = None), "volume_capability is missing"),
        (change(|r| r.capability.as_mut().unwrap().access = Access::Block), "block access is not supported"),
        (change(|r| r.read_only = false), "pod.spec.volumes[].csi.readOnly must be set to 'true'"),
        (change(|r| _ = r.context.remove("csi.storage.k8s.io/ephemeral")), "only ephemeral volumes are supported"),
    ];
    for rules in [passthrough(), files()] {
        for (request, says) in &table {
            refused(request, &rules, says);
        }
    }
}

#[test]
fn requests_that_only_spiffe_csi_refuses() {
    let mut particular = request();
    particular.capability.as_mut().unwrap().access = Access::Mount { particular: true, group: String::new() };
    refused(&particular, &passthrough(), "must be a simple mount");
    let mut reader = request();
    reader.capability.as_mut().unwrap().reader_only = true;
    refused(&reader, &passthrough(), "SINGLE_NODE_READER_ONLY is not valid");
    let mut modeless = request();
    modeless.capability.as_mut().unwrap().has_mode = false;
    refused(&modeless, &passthrough(), "no access mode");
    assert!(VolumeSpec::parse(&reader, &files()).is_ok(), "csi-driver-spiffe does not look at the access mode");
}

#[test]
fn a_missing_read_only_is_accepted_only_if_allowed_and_then_enforced() {
    let mut request = request();
    request.read_only = false;
    let rules = Rules { allow_missing_read_only: true, ..passthrough() };
    assert!(VolumeSpec::parse(&request, &rules).unwrap().read_only);
}

#[test]
fn every_mistake_is_reported_at_once() {
    let mut request = with("svid-csi/sauce", "x");
    request.volume_id = String::new();
    request.read_only = false;
    let mistakes = VolumeSpec::parse(&request, &files()).unwrap_err();
    assert_eq!(mistakes.0.len(), 3, "{mistakes}");
}

#[test]
fn an_identity_needs_proof_of_the_pod() {
    let mut elsewhere = request();
    elsewhere.target_path = "/tmp/target".to_owned();
    refused(&elsewhere, &files(), "target_path must have the form");
    refused(&with("csi.storage.k8s.io/pod.uid", "another"), &files(), "disagrees with the pod UID in target_path");
    let mut other_volume = request();
    other_volume.volume_id = VolumeId::of_kubelet(UID, "other").to_string();
    refused(&other_volume, &files(), "volume_id is not the kubelet's");
    for key in ["pod.name", "pod.namespace", "pod.uid", "serviceAccount.name"] {
        let mut without = request();
        without.context.remove(&format!("csi.storage.k8s.io/{key}"));
        refused(&without, &files(), &format!("csi.storage.k8s.io/{key} is missing"));
    }
}

#[test]
fn tokens_must_agree_with_the_pod_info_and_are_never_repeated() {
    let token = |uid: &str| {
        let claims = format!(
            r#"{{"kubernetes.io":{{"namespace":"shop","pod":{{"name":"web-0","uid":"{uid}"}},"serviceaccount":{{"name":"web","uid":"s"}}}}}}"#
        );
        let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let part = |text: &str| base64::Engine::encode(&engine, text);
        let jwt = format!("{}.{}.{}", part(r#"{"alg":"RS256"}"#), part(&claims), part("signature"));
        let json = format!(r#"{{"":{{"token":"{jwt}","expirationTimestamp":"2030-01-01T00:00:00Z"}}}}"#);
        PublishRequest { tokens: Some(Secret::new(json)), ..request() }
    };
    assert!(VolumeSpec::parse(&token(UID), &files()).is_ok());
    refused(&token("another"), &files(), "kubernetes.io.pod.uid of a token disagrees");
    let garbled = PublishRequest { tokens: Some(Secret::new("s3cr3t".to_owned())), ..request() };
    let mistakes = VolumeSpec::parse(&garbled, &files()).unwrap_err().to_string();
    assert!(!mistakes.contains("s3cr3t") && mistakes.contains("serviceAccount.tokens"), "{mistakes}");
    assert!(!format!("{garbled:?}").contains("s3cr3t"));
}

#[test]
fn targets_must_be_in_the_pods_folder_if_it_is_known() {
    let rules = Rules { pods_dir: Some("/var/lib/kubelet/pods".into()), ..passthrough() };
    assert!(VolumeSpec::parse(&request(), &rules).is_ok());
    let mut outside = request();
    outside.target_path = format!("/srv/pods/{UID}/volumes/kubernetes.io~csi/spiffe/mount");
    refused(&outside, &rules, "--kubelet-dir");
}

#[test]
fn the_attribute_wins_over_the_pods_fs_group() {
    let group = |attributes: &[(&str, &str)], mount_group: &str| {
        let mut request = request();
        let group = mount_group.to_owned();
        request.capability.as_mut().unwrap().access = Access::Mount { particular: false, group };
        for (key, value) in attributes {
            request.context.insert((*key).to_owned(), (*value).to_owned());
        }
        files_of(&request).fs_group
    };
    let predecessor = ("spiffe.csi.cert-manager.io/fs-group", "3000");
    assert_eq!(group(&[], ""), None);
    assert_eq!(group(&[], "2000"), Some(2000));
    assert_eq!((group(&[], "0"), group(&[("svid-csi/fs-group", "0")], "2000")), (Some(0), Some(0)), "root's group");
    assert_eq!(group(&[predecessor], "2000"), Some(3000));
    assert_eq!(group(&[predecessor, ("svid-csi/fs-group", "4294967294")], "2000"), Some(4_294_967_294));
}

#[test]
fn wrong_groups_name_their_field() {
    for wrong in ["-1", "4294967295", "wheel", ""] {
        refused(
            &with("svid-csi/fs-group", wrong),
            &files(),
            "svid-csi/fs-group must be a group id from 0 to 4294967294",
        );
        let says = "spiffe.csi.cert-manager.io/fs-group must be a group id";
        refused(&with("spiffe.csi.cert-manager.io/fs-group", wrong), &files(), says);
    }
}

#[test]
fn attributes_choose_among_the_allowed_plans_and_names() {
    let rules = Rules { allowed_plans: [Plan::Passthrough, Plan::Files(Issuer::LocalCa)].into(), ..passthrough() };
    let spec = VolumeSpec::parse(&with("svid-csi/source", "local-ca"), &rules).unwrap();
    assert_eq!(spec.plan(), Plan::Files(Issuer::LocalCa));
    refused(&with("svid-csi/source", "local-ca"), &passthrough(), "--allow-plan local-ca:files");
    refused(&with("svid-csi/delivery", "carrier-pigeon"), &rules, "use `socket-dir`, `files` or `workload-api`");
    refused(&with("svid-csi/file-key", "../key"), &files(), "svid-csi/file-key");
    refused(&with("svid-csi/file-key", "tls.crt"), &files(), "tls.crt");
    refused(&with("svid-csi/file-key", "k"), &passthrough(), "has no meaning with delivery `socket-dir`");
    assert_eq!(
        files_of(&with("svid-csi/file-cert", "svid.pem")).names.cert.as_ref().map(FileName::as_str),
        Some("svid.pem")
    );
}

#[test]
fn unknown_attributes_of_ours_are_refused_and_of_others_ignored() {
    refused(&with("svid-csi/sauce", "x"), &files(), "svid-csi/sauce does not exist");
    assert!(VolumeSpec::parse(&with("example.com/sauce", "x"), &files()).is_ok());
}

#[test]
fn a_spec_reads_back_as_written() {
    for rules in [passthrough(), files()] {
        let spec = VolumeSpec::parse(&request(), &rules).unwrap();
        let json = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<VolumeSpec>(&json).unwrap(), spec);
    }
}

#[test]
fn errors_about_endless_input_are_cut() {
    let mut request = with("svid-csi/source", &"x".repeat(1 << 20));
    for number in 0..1000 {
        request.context.insert(format!("svid-csi/{number}{}", "y".repeat(1000)), String::new());
    }
    request.context.insert("csi.storage.k8s.io/pod.name".to_owned(), "n".repeat(1 << 20));
    let mistakes = VolumeSpec::parse(&request, &files()).unwrap_err().to_string();
    assert!(mistakes.len() < 5000, "{} bytes", mistakes.len());
    refused(&PublishRequest { context: request.context.clone(), ..request }, &passthrough(), "");
}

fn socket_of(request: &PublishRequest, plan: Plan) -> SocketSpec {
    match VolumeSpec::parse(request, &rules(plan)).unwrap().content {
        Content::WorkloadApi(socket) => socket,
        _ => panic!("not a volume with a socket"),
    }
}

#[test]
fn a_socket_has_the_usual_or_the_requested_names() {
    let plan = Plan::WorkloadApi(Issuer::LocalCa);
    let names = |request: &PublishRequest| {
        socket_of(request, plan).sockets.iter().map(|name| name.as_str().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&request()), ["agent.sock", "spire-agent.sock", "socket", "api.sock"]);
    assert_eq!(names(&with("svid-csi/socket-name", "a.sock, socket")), ["a.sock", "socket"]);
    refused(&with("svid-csi/socket-name", "a,"), &rules(plan), "a file name has 1 to 255 bytes");
    refused(&with("svid-csi/socket-name", "a,b,a"), &rules(plan), "the name `a` twice");
    refused(&with("svid-csi/socket-name", "1,2,3,4,5,6,7,8,9"), &rules(plan), "9 names, at most 8");
    assert_eq!(names(&with("svid-csi/socket-name", "api.sock")), ["api.sock"]);
    refused(&with("svid-csi/socket-name", "a/b"), &rules(plan), "svid-csi/socket-name");
    refused(&with("svid-csi/socket-name", &"a".repeat(65)), &rules(plan), "more than 64 bytes");
    refused(&with("svid-csi/file-cert", "a"), &rules(plan), "has no meaning with delivery `workload-api`");
    refused(&with("svid-csi/socket-name", "a"), &files(), "has no meaning with delivery `files`");
    let spec = VolumeSpec::parse(&request(), &rules(plan)).unwrap();
    assert_eq!((spec.plan(), spec.read_only, spec.target_mode()), (plan, true, 0o750));
}

#[test]
fn envoys_secrets_have_the_names_of_spire_agents_or_the_requested_ones() {
    let plan = Plan::WorkloadApi(Issuer::LocalCa);
    assert_eq!(*socket_of(&request(), plan).secrets, SecretNames::default());
    let mut federated = with("svid-csi/sds-bundle-name", "null");
    federated.context.insert("svid-csi/sds-all-bundles-name".to_owned(), "ROOTCA".to_owned());
    let SecretNames { svid, bundle, all_bundles } = *socket_of(&federated, plan).secrets;
    assert_eq!([svid, bundle, all_bundles], ["default", "null", "ROOTCA"]);
    refused(&with("svid-csi/sds-all-bundles-name", "ROOTCA"), &rules(plan), "would have the same name");
    refused(&with("svid-csi/sds-svid-name", ""), &rules(plan), "svid-csi/sds-svid-name must have 1 to 253 bytes");
    refused(&with("svid-csi/sds-svid-name", &"a".repeat(254)), &rules(plan), "must have 1 to 253 bytes");
    refused(&with("svid-csi/sds-svid-name", "a"), &files(), "has no meaning with delivery `files`");
    for (request, is_recorded) in [(request(), false), (federated, true)] {
        let spec = VolumeSpec::parse(&request, &rules(plan)).unwrap();
        let json = serde_json::to_string(&spec).unwrap();
        assert_eq!(json.contains("all_bundles"), is_recorded, "what is usual, an older driver reads too: {json}");
        assert_eq!(serde_json::from_str::<VolumeSpec>(&json).unwrap(), spec);
    }
}

#[test]
fn a_broker_decides_the_spiffe_id() {
    let plan = Plan::WorkloadApi(Issuer::Broker);
    let rules = Rules { trust_domain: None, ..rules(plan) };
    let spec = VolumeSpec::parse(&with("svid-csi/hint", "db"), &rules).unwrap();
    let subject = spec.subject().unwrap();
    assert_eq!((subject.issuer, &subject.identity, subject.hint.as_deref()), (Issuer::Broker, &None, Some("db")));
    refused(&with("svid-csi/hint", ""), &rules, "svid-csi/hint must have 1 to 1024 bytes");
    refused(&with("svid-csi/hint", "db"), &files(), "source `local-ca` issues only one: leave it out");
    refused(&with("svid-csi/hint", "db"), &passthrough(), "has no meaning with delivery `socket-dir`");
    let mut nameless = request();
    nameless.context.retain(|key, _| key.ends_with("/ephemeral"));
    refused(&nameless, &rules, "podInfoOnMount");
}
