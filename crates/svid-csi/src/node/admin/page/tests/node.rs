//! A node with many volumes in all states.

use std::time::SystemTime;

use svid_csi_core::findings::facts::{
    BrokerFacts, CertManagerFacts, DriverFacts, EventFacts, Facts, IdentityFacts, NameFacts, RootsFacts, VolumeFacts,
};
use svid_csi_core::findings::{Category, Report};
use svid_csi_core::unix_time::seconds;

const APPS: [&str; 8] = ["cart", "checkout", "search", "payments", "ledger", "mail", "images", "gateway"];
const HOUR: i64 = 3_600;

pub(super) fn with_volumes(count: usize, now: SystemTime) -> DriverFacts {
    let now = seconds(now);
    DriverFacts {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node: "worker-7".to_owned(),
        names: vec![NameFacts {
            name: "csi.spiffe.io".to_owned(),
            registration_socket: Some("/registration/csi.spiffe.io-reg.sock".to_owned()),
            registered: true,
            ..NameFacts::default()
        }],
        pods_dir: "/var/lib/kubelet/pods".to_owned(),
        pods_reach_host: Some(true),
        broker: Some(BrokerFacts { endpoint: "unix:///run/spire/broker.sock".to_owned(), up: true }),
        cert_manager: Some(CertManagerFacts { up: false, ..CertManagerFacts::default() }),
        roots: Some(RootsFacts { nodes: 12, trouble: None }),
        volumes: (0..count).map(|at| (format!("csi-{at:08x}"), volume(at, count, now))).collect(),
        recent: recent(now),
        ..DriverFacts::default()
    }
}

/// The worst are few, as on a node that mostly works.
fn volume(at: usize, count: usize, now: i64) -> VolumeFacts {
    let app = APPS[at % APPS.len()];
    let namespace = ["shop", "bank", "media"][at % 3];
    let share = i64::try_from(at * 39 * 60 / count.max(1)).unwrap();
    let age = if at == 1 { HOUR + 300 } else { share };
    let mut volume = VolumeFacts {
        driver: "csi.spiffe.io".to_owned(),
        plan: ["broker:files", "cert-manager:files", "broker:workload-api"][at % 3].to_owned(),
        phase: "ready".to_owned(),
        pod: Some(format!("{namespace}/{app}-{:05x}-{:03x}", at * 7_919 % 0xfffff, at % 0xfff)),
        spiffe_id: Some(format!("spiffe://example.org/ns/{namespace}/sa/{app}")),
        identity: Some(IdentityFacts {
            serial: format!("{:032x}", 0x9e37_79b9_u128 * (at as u128 + 77) * 0x1_0000_0001_0000_0001),
            not_before: now - age,
            not_after: now - age + HOUR,
            renewal: now - age + HOUR * 2 / 3,
            untrusted: (at == 5).then(|| "the chain ends at another CA".to_owned()),
        }),
        connections: (at % 3 == 2).then_some(at % 4),
        ..VolumeFacts::default()
    };
    match at {
        1 => volume.failed = Some("the request was denied: no registration entry selects this pod".to_owned()),
        2 => (volume.identity, volume.withdrawn) = (None, true),
        3 | 7 => {
            (volume.identity, volume.phase) = (None, "intended".to_owned());
            volume.waiting = Some("the issuer Issuer/shop-ca is not ready".to_owned());
        }
        11 => volume.failed = Some("cannot reach the agent: connection refused".to_owned()),
        _ => {}
    }
    volume
}

fn recent(now: i64) -> Vec<EventFacts> {
    let event = |ago: i64, about: &str, what: &str, why: Option<&str>, times| EventFacts {
        at: now - ago,
        about: about.to_owned(),
        what: what.to_owned(),
        why: why.map(str::to_owned),
        times,
    };
    vec![
        event(4, "media/search-00c11-002", "issued", None, 1),
        event(9, "shop/cart-0a3f0-001", "issued", None, 1),
        event(41, "bank/checkout-01eef-001", "renewal failed", Some("no registration entry selects this pod"), 7),
        event(95, "media/search-03dde-002", "withdrawn", Some("the source withdrew the identity"), 1),
        event(130, "shop/payments-05ccd-003", "not issued", Some("the issuer Issuer/shop-ca is not ready"), 3),
    ]
}

/// What `svid-csi doctor` finds in the sources and the identities of a driver.
pub(super) fn report(driver: &DriverFacts, now: SystemTime) -> Report {
    let report = Report::of(&Facts::new(Ok(driver.clone()), now));
    report.only(&[Category::Source, Category::Identity])
}
