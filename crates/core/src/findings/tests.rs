//! The table of checks, a healthy node, and facts that no test can break for real.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, UNIX_EPOCH};

use super::facts::{
    AgentSeen, Answer, BrokerFacts, CertManagerFacts, ClusterSeen, CsiDriverSeen, DataSeen, Delivered, DriverFacts,
    EventFacts, Facts, IdentityFacts, KernelSeen, NameFacts, Reach, TargetSeen, VolumeFacts, VolumeSeen,
};
use super::identity::outage_horizon;
use super::walk::walk;
use super::*;
use crate::state::FileId;

const ROOT: FileId = FileId { device: 1, inode: 7 };

fn identity() -> IdentityFacts {
    IdentityFacts { serial: "01".to_owned(), not_before: 0, not_after: 3_600, renewal: 2_400, untrusted: None }
}

/// A healthy node with one pod, a thousand seconds after its identity arrived.
fn healthy() -> Facts {
    let name = NameFacts {
        name: "csi.x".to_owned(),
        csi_socket: "/csi.sock".to_owned(),
        registration_path: Some("/plugins/csi.sock".to_owned()),
        registration_socket: Some("/registry/csi.x-reg.sock".to_owned()),
        registered: true,
        plans: vec!["local-ca:files".to_owned()],
    };
    let volume = VolumeFacts {
        driver: "csi.x".to_owned(),
        plan: "local-ca:files".to_owned(),
        phase: "ready".to_owned(),
        pod: Some("shop/web".to_owned()),
        target: "/target".to_owned(),
        root: Some(ROOT),
        spiffe_id: Some("spiffe://example.org/web".to_owned()),
        identity: Some(identity()),
        ..VolumeFacts::default()
    };
    let delivered = Delivered {
        spiffe_id: "spiffe://example.org/web".to_owned(),
        serial: "01".to_owned(),
        bundle: vec![100_000_000],
        ..Delivered::default()
    };
    let seen = VolumeSeen { target: TargetSeen::Mounted(ROOT), pod: Ok(true), delivered: Some(Ok(delivered)) };
    let answers = |place: &str| BTreeMap::from([(place.to_owned(), Answer::Driver("csi.x".to_owned()))]);
    let object = CsiDriverSeen { ephemeral: true, pod_info: true, ..CsiDriverSeen::default() };
    let csi_drivers = BTreeMap::from([("csi.x".to_owned(), Ok(Some(object)))]);
    Facts {
        now: UNIX_EPOCH + Duration::from_secs(1_000),
        program: "1".to_owned(),
        admin_socket: "/admin.sock".to_owned(),
        driver: Ok(DriverFacts {
            version: "1".to_owned(),
            names: vec![name],
            pods_dir: "/pods".to_owned(),
            pods_reach_host: Some(true),
            data_root: Some("/root".to_owned()),
            data_survives: true,
            volumes: BTreeMap::from([("v".to_owned(), volume)]),
            ..DriverFacts::default()
        }),
        csi_sockets: answers("csi.x"),
        registration_paths: answers("csi.x"),
        registrations: answers("/registry/csi.x-reg.sock"),
        agent: None,
        data: Some(Ok(DataSeen { is_tmpfs: true, bytes: 100, inodes: 100, ..DataSeen::default() })),
        volumes: BTreeMap::from([("v".to_owned(), seen)]),
        left_over: Ok(Vec::new()),
        kernel: KernelSeen { inotify: None, descriptors: Some(Ok((10, 1_000))) },
        cluster: Reach::Seen(ClusterSeen { ahead: Some(2), csi_drivers, ..ClusterSeen::default() }),
    }
}

/// The ids of what is found once the facts are changed like that.
fn ids(change: impl FnOnce(&mut Facts)) -> Vec<&'static str> {
    let mut facts = healthy();
    change(&mut facts);
    Report::of(&facts).findings.into_iter().map(|finding| finding.id).collect()
}

fn driver(facts: &mut Facts) -> &mut DriverFacts {
    facts.driver.as_mut().expect("it answers")
}

fn volume(facts: &mut Facts) -> &mut VolumeFacts {
    driver(facts).volumes.get_mut("v").expect("the volume exists")
}

fn data(facts: &mut Facts) -> &mut DataSeen {
    facts.data.as_mut().expect("there is a data root").as_mut().expect("it was looked at")
}

#[test]
fn every_id_is_unique_and_reads_as_an_anchor() {
    let mut ids = BTreeSet::new();
    for check in checks() {
        assert!(ids.insert(check.id), "{} is a duplicate", check.id);
        assert!(check.id.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{}", check.id);
        assert!(check.title.ends_with('.') && check.explanation.ends_with('.'), "{}", check.id);
        assert_eq!(super::check(check.id).map(|found| found.id), Some(check.id));
    }
    let used: BTreeSet<_> = checks().map(|check| check.category).collect();
    assert_eq!(used, Category::ALL.into_iter().collect(), "no category is without checks");
}

#[test]
fn a_healthy_node_has_no_findings_and_nothing_unchecked() {
    assert_eq!(Report::of(&healthy()), Report::default());
}

#[test]
fn each_fact_that_is_wrong_is_found() {
    assert_eq!(ids(|facts| data(facts).swaps = true), ["data-may-be-swapped"]);
    assert_eq!(ids(|facts| data(facts).used = 85), ["data-nearly-full"]);
    assert!(ids(|facts| data(facts).used = 84).is_empty());
    assert_eq!(ids(|facts| driver(facts).busy = 2), ["volumes-busy"]);
    assert_eq!(ids(|facts| driver(facts).data_survives = false), ["data-ends-with-container"]);
    assert_eq!(ids(|facts| driver(facts).pods_reach_host = Some(false)), ["pods-folder-not-shared"]);
    assert_eq!(ids(|facts| volume(facts).identity = None), ["identity-missing"]);
    assert_eq!(
        ids(|facts| driver(facts).local_ca = Some(super::facts::LocalCaFacts { trouble: Some("x".to_owned()) })),
        ["local-ca-not-loaded"]
    );
    assert_eq!(
        ids(|facts| driver(facts).roots = Some(super::facts::RootsFacts { nodes: 2, trouble: Some("x".to_owned()) })),
        ["roots-not-shared"]
    );
    let sockets = BTreeMap::from([("/agent.sock".to_owned(), false)]);
    let dead = AgentSeen::Directory { ids: vec![ROOT], sockets, closed: Vec::new(), dangling: Vec::new() };
    let agent = super::facts::AgentFacts { heals: true, ..super::facts::AgentFacts::default() };
    let of_agent = |facts: &mut Facts| {
        driver(facts).agent = Some(agent);
        facts.agent = Some(dead);
    };
    assert_eq!(ids(of_agent), ["agent-socket-dead"]);
}

#[test]
fn an_identity_is_overdue_only_after_its_spread_and_some_attempts() {
    let at = |seconds| ids(|facts| facts.now = UNIX_EPOCH + Duration::from_secs(seconds));
    for (seconds, expected) in [
        (0, &[][..]),
        (2_640, &[]),
        (2_940, &[]),
        (2_941, &["identity-overdue"]),
        (3_599, &["identity-overdue"]),
        (3_600, &["identity-expired"]),
    ] {
        assert_eq!(at(seconds), expected, "{seconds}");
    }
}

#[test]
fn unknown_facts_are_reported_as_not_checked() {
    let mut facts = healthy();
    driver(&mut facts).pods_reach_host = None;
    facts.data = Some(Err("no permission".to_owned()));
    facts.csi_sockets = BTreeMap::from([("csi.x".to_owned(), Answer::Unknown("no permission".to_owned()))]);
    facts.cluster = Reach::NotPossible("no kubeconfig".to_owned());
    let report = Report::of(&facts);
    assert_eq!((report.findings.len(), report.not_checked.len()), (0, 4), "{report:?}");
}

#[test]
fn a_walk_ends_at_the_first_fault_and_ignores_other_pods() {
    let mut facts = healthy();
    let mut other = volume(&mut facts).clone();
    (other.pod, other.identity) = (Some("shop/api".to_owned()), None);
    driver(&mut facts).volumes.insert("w".to_owned(), other);
    let walk = |facts: &Facts, pod: &str| walk(facts.clone(), pod);
    assert!(walk(&facts, "shop/web").iter().all(|step| step.findings.is_empty()));
    assert_eq!(walk(&facts, "shop/api").last().map(|step| step.findings[0].id), Some("identity-missing"));
    driver(&mut facts).names[0].registered = false;
    let steps = walk(&facts, "shop/web");
    assert_eq!((steps.len(), steps[1].findings[0].id), (2, "not-registered"));
}

#[test]
fn sources_and_volumes_that_a_pod_does_not_use_do_not_stop_its_walk() {
    let mut facts = healthy();
    let of_local_ca = VolumeFacts { plan: "local-ca:files".to_owned(), ..volume(&mut facts).clone() };
    let driver = driver(&mut facts);
    driver.names[0].plans = ["local-ca:files", "cert-manager:files", "broker:files"].map(str::to_owned).to_vec();
    driver.volumes = BTreeMap::from([("v".to_owned(), of_local_ca)]);
    driver.cert_manager = Some(CertManagerFacts { up: false, ..CertManagerFacts::default() });
    driver.broker = Some(BrokerFacts { up: false, ..BrokerFacts::default() });
    driver.unread = vec!["another".to_owned()];
    assert_eq!(Report::of(&facts).findings.len(), 3);
    let steps = walk(facts, "shop/web");
    assert!(steps.len() == 7 && steps.iter().all(|step| step.findings.is_empty()), "{steps:?}");
}

#[test]
fn a_volume_that_is_not_published_stops_the_walk_with_the_last_reason() {
    let mut facts = healthy();
    volume(&mut facts).phase = "intended".to_owned();
    let stop = |facts: &Facts, pod: &str| {
        let last = walk(facts.clone(), pod).pop().unwrap();
        (last.findings[0].id, last.findings[0].cause.clone())
    };
    let unknown = "the kubelet's last request has not succeeded".to_owned();
    assert_eq!(stop(&facts, "shop/web"), ("volume-not-published", unknown));
    let failed = |about: &str| EventFacts {
        about: about.to_owned(),
        what: "not published".to_owned(),
        why: Some("no room".to_owned()),
        ..EventFacts::default()
    };
    driver(&mut facts).recent = vec![failed("shop/web"), failed("shop/new")];
    assert_eq!(stop(&facts, "shop/web"), ("volume-not-published", "not published: no room".to_owned()));
    assert_eq!(stop(&facts, "shop/new"), ("pod-without-volume", "not published: no room".to_owned()));
    volume(&mut facts).waiting = Some("the agent's answer (it is away)".to_owned());
    assert_eq!(stop(&facts, "shop/web").0, "agent-not-answering");
}

#[test]
fn a_step_that_was_not_checked_is_not_certain() {
    let mut facts = healthy();
    facts.cluster = Reach::NotPossible("no kubeconfig".to_owned());
    let steps = walk(facts, "shop/web");
    let uncertain: Vec<_> = steps.iter().filter(|step| !step.not_checked.is_empty()).map(|step| &*step.what).collect();
    assert_eq!(uncertain, ["the API server has what the driver needs"]);
}

#[test]
fn the_horizon_is_the_first_and_the_middle_end() {
    let now = UNIX_EPOCH + Duration::from_secs(100);
    let of =
        |ends: &[i64]| outage_horizon(ends.iter().copied(), now).map(|(first, half)| (first.as_secs(), half.as_secs()));
    assert_eq!(of(&[]), None);
    assert_eq!(of(&[400]), Some((300, 300)));
    assert_eq!(of(&[50, 200, 300, 400]), Some((0, 100)));
    assert_eq!(of(&[i64::MIN, i64::MAX]), Some((0, 0)));
}

#[test]
fn words_of_commands_are_one_word() {
    assert_eq!(word("shop/web-0"), "shop/web-0");
    assert_eq!(word("a b'; rm -rf /"), r"'a b'\''; rm -rf /'");
    assert_eq!(word(""), "''");
}

#[test]
fn a_message_ends_with_the_id_of_its_finding_however_long_it_is() {
    let full = Some(crate::finding!("data-nearly-full"));
    assert_eq!(leading_to(full, "it is full", 100), "it is full [data-nearly-full]");
    assert_eq!(leading_to(None, "it is full", 100), "it is full");
    assert_eq!(leading_to(None, "it is full", 5), "it is");
    let long = leading_to(full, &"\u{fc}".repeat(100), 100);
    assert!(long.len() <= 100 && long.ends_with("\u{fc} [data-nearly-full]"), "{long}");
}

#[test]
fn what_a_volume_waits_for_has_its_finding() {
    for (waiting, id) in [
        ("CertificateRequest shop/a, which has not been approved or denied yet", "request-not-approved"),
        ("CertificateRequest shop/a, which is approved and waits for its issuer", "request-not-issued"),
        ("a registration entry that matches the pod: there is none yet", "no-registration-entry"),
        ("the agent's answer (it is away)", "agent-not-answering"),
        ("the driver's own identity (it is away)", "agent-not-answering"),
        ("another agent: this one does not support the driver's call (x)", "agent-not-answering"),
        ("the agent's answer (a valid identity; the last one was refused: x)", "identity-refused"),
        ("the agent to allow it (x)", "request-failed"),
        ("the next attempt in 9 s, because CertificateRequest a for b was denied: x", "request-failed"),
        ("its turn", "volume-waiting"),
    ] {
        assert_eq!(of_waiting(waiting).id, id, "{waiting}");
    }
}
