//! Publish requests, all of whose text a pod chooses: an accepted one is the same after it was recorded, and names of files
//! and folders in it are single, plain names. Mistakes are one line of printable text.
#![no_main]

use std::collections::HashMap;
use std::path::{Component, Path};
use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use svid_csi_core::files::{FileName, FileNames, Layout};
use svid_csi_core::plan::{Issuer, Plan};
use svid_csi_core::secret::Secret;
use svid_csi_core::spiffe_id::TrustDomain;
use svid_csi_core::state::Record;
use svid_csi_core::volume::{ATTRIBUTES, Access, Capability, Content, PublishRequest, Rules, VolumeSpec};
use svid_csi_core::volume_id::VolumeId;

const UID: &str = "0b9a6b1e-6a5c-4f0e-9a38-0c6b9d6f8d11";
const PLANS: [Plan; 5] = [
    Plan::Passthrough,
    Plan::Files(Issuer::LocalCa),
    Plan::WorkloadApi(Issuer::CertManager),
    Plan::Files(Issuer::Broker),
    Plan::WorkloadApi(Issuer::LocalCa),
];

// The first byte selects the plan, the second the way to write the rest: lines of `name=value`, or of `number=value` for
// the attribute with that number.
fuzz_target!(|input: &[u8]| {
    let [plan, flags, text @ ..] = input else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let plan = PLANS[usize::from(*plan) % PLANS.len()];
    let mut request = good();
    request.read_only = flags & 1 == 0;
    for line in text.split('\n') {
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        match name {
            "id" => request.volume_id = value.to_owned(),
            "target" => request.target_path = value.to_owned(),
            "tokens" => request.tokens = Some(Secret::new(value.to_owned())),
            "password" => request.pkcs12_password = Some(Secret::new(value.to_owned())),
            "group" => {
                let access = Access::Mount { particular: flags & 2 != 0, group: value.to_owned() };
                request.capability = Some(Capability { access, has_mode: true, reader_only: flags & 4 != 0 });
            }
            _ => {
                let known = name.parse::<usize>().ok().map(|number| ATTRIBUTES[number % ATTRIBUTES.len()].name);
                request.context.insert(known.unwrap_or(name).to_owned(), value.to_owned());
            }
        }
    }
    match VolumeSpec::parse(&request, &rules(plan)) {
        Ok(spec) => check(spec),
        Err(mistakes) => {
            let text = mistakes.to_string();
            assert!(!text.is_empty() && !text.contains(|c: char| c.is_control()), "{text:?}");
        }
    }
});

fn check(spec: VolumeSpec) {
    let folder = Path::new(spec.id.as_str());
    assert!(matches!(folder.components().collect::<Vec<_>>()[..], [Component::Normal(_)]), "{folder:?}");
    let target = spec.target.path();
    assert!(
        target.is_absolute() && target.components().all(|part| !matches!(part, Component::ParentDir)),
        "{target:?}"
    );
    for name in names(&spec.content) {
        let name = name.as_str();
        assert!(matches!(Path::new(name).components().collect::<Vec<_>>()[..], [Component::Normal(_)]), "{name:?}");
        assert!(!name.contains(['/', '\0']) && !name.starts_with("..") && name.len() <= 255, "{name:?}");
    }
    let record = Record::intended("csi.spiffe.io", Arc::new(spec), None);
    let read = Record::from_json(&record.to_json()).expect("it is read back");
    assert_eq!(read, record);
}

fn names(content: &Content) -> Vec<&FileName> {
    match content {
        Content::Passthrough => Vec::new(),
        Content::Files(files) => {
            [&files.names.cert, &files.names.key, &files.names.bundle].into_iter().flatten().collect()
        }
        Content::WorkloadApi(socket) => socket.sockets.iter().collect(),
    }
}

fn rules(plan: Plan) -> Rules {
    Rules { default_plan: plan, ..RULES.clone() }
}

static RULES: LazyLock<Rules> = LazyLock::new(|| {
    let name = |name| FileName::parse(name).expect("a name");
    Rules {
        default_plan: Plan::Passthrough,
        allowed_plans: PLANS.into(),
        layout: Layout::default(),
        file_names: FileNames { cert: Some(name("tls.crt")), key: Some(name("tls.key")), bundle: Some(name("ca.crt")) },
        trust_domain: Some(TrustDomain::parse("example.org").expect("a name")),
        allow_missing_read_only: false,
        pods_dir: None,
    }
});

fn good() -> PublishRequest {
    let context = [
        ("csi.storage.k8s.io/ephemeral", "true"),
        ("csi.storage.k8s.io/pod.name", "web-0"),
        ("csi.storage.k8s.io/pod.namespace", "shop"),
        ("csi.storage.k8s.io/pod.uid", UID),
        ("csi.storage.k8s.io/serviceAccount.name", "web"),
    ];
    let access = Access::Mount { particular: false, group: String::new() };
    let context: HashMap<_, _> = context.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    PublishRequest {
        volume_id: VolumeId::of_kubelet(UID, "spiffe").to_string(),
        target_path: format!("/var/lib/kubelet/pods/{UID}/volumes/kubernetes.io~csi/spiffe/mount"),
        capability: Some(Capability { access, has_mode: true, reader_only: false }),
        read_only: true,
        context,
        tokens: None,
        pkcs12_password: None,
    }
}
