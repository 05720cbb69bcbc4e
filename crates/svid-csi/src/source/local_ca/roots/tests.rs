//! The entries of other nodes, and a disk that cannot be written.

mod simulation;

use std::collections::BTreeMap;
use std::fs;

use svid_csi_core::ca::{Authorities, CertificateAuthority};
use svid_csi_core::identity::TrustBundle;
use svid_csi_core::jwt::JwtAuthority;
use svid_csi_core::spiffe_id::TrustDomain;
use tokio::time::timeout;

use super::*;
use crate::host::{clock, fsx};

const HOUR: Duration = Duration::from_secs(3600);

fn authorities(trust_domain: &TrustDomain) -> Authorities {
    let ca = CertificateAuthority::create(trust_domain, clock::now(), HOUR * 24).unwrap();
    Authorities::of(&ca, &JwtAuthority::create(trust_domain).unwrap())
}

/// The number of certificates in a trust bundle, if it is known.
fn certificates(bundle: &watch::Receiver<Option<Arc<TrustBundle>>>) -> usize {
    bundle.borrow().as_ref().map_or(0, |bundle| bundle.certificates().len())
}

fn there(entries: &[(&str, &Authorities)]) -> SharedMap {
    let text = |one: &Authorities| String::from_utf8(one.to_json()).unwrap();
    SharedMap::There(Arc::new(entries.iter().map(|(node, one)| ((*node).to_owned(), text(one))).collect()))
}

#[tokio::test(start_paused = true)]
async fn roots_that_cannot_be_saved_are_not_trusted_until_they_can() {
    let folder = tempfile::tempdir().unwrap();
    let trust_domain = TrustDomain::parse("example.org").unwrap();
    let [own, second, third] = [(); 3].map(|()| authorities(&trust_domain));
    let trusted = Arc::new(Trusted::new(own.clone(), &trust_domain).unwrap());
    let (bundle, jwt) = (trusted.bundle(), trusted.jwt_bundles());
    let roots = || certificates(&bundle);
    let kept = folder.path().join("roots.json");
    let troubles = Troubles::default();
    let (states, seen) = watch::channel(SharedMap::Unknown);
    let union = Union {
        entries: Entries::new("n1", &trust_domain),
        kept: Kept::new(kept.clone()),
        trusted,
        nodes: watch::Sender::new(1),
        troubles: troubles.clone(),
        is_unknown: false,
    };
    let mut run = Box::pin(union.run(seen));
    let mut runs_for_an_hour = async || assert!(timeout(HOUR, &mut run).await.is_err());

    states.send_replace(there(&[("n1", &own), ("n2", &second)]));
    runs_for_an_hour().await;
    assert_eq!((roots(), troubles.summary()), (2, None));

    let obstacle = folder.path().join(".roots.json.new");
    fs::create_dir_all(obstacle.join("x")).unwrap();
    states.send_replace(there(&[("n1", &own), ("n2", &second), ("n3", &third)]));
    runs_for_an_hour().await;
    assert_eq!(roots(), 2, "the next start would not know the third");
    assert!(troubles.summary().unwrap().contains("cannot be stored"), "{:?}", troubles.summary());

    states.send_replace(there(&[("n1", &own), ("n3", &third)]));
    runs_for_an_hour().await;
    assert_eq!(roots(), 1, "a full disk keeps nothing from being taken away");

    fs::remove_dir_all(&obstacle).unwrap();
    runs_for_an_hour().await;
    assert_eq!((roots(), troubles.summary()), (2, None));
    let in_file = || serde_json::from_slice::<BTreeMap<String, String>>(&fs::read(&kept).unwrap()).unwrap();
    assert_eq!(in_file().into_keys().collect::<Vec<_>>(), ["n3"]);

    fs::create_dir_all(obstacle.join("x")).unwrap();
    states.send_replace(there(&[("n1", &own), ("n3", &second)]));
    runs_for_an_hour().await;
    assert_eq!((roots(), jwt.borrow().values().map(|keys| keys.key_ids().count()).sum::<usize>()), (1, 1));

    states.send_replace(SharedMap::Absent);
    runs_for_an_hour().await;
    fs::remove_dir_all(&obstacle).unwrap();
    runs_for_an_hour().await;
    assert_eq!((roots(), in_file()["n3"].as_bytes()), (2, &*second.to_json()), "tried again without a ConfigMap");
}

#[tokio::test(start_paused = true)]
async fn a_config_map_deleted_while_entries_are_missing_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let trust_domain = TrustDomain::parse("example.org").unwrap();
    let [own, second] = [(); 2].map(|()| authorities(&trust_domain));
    let trusted = Arc::new(Trusted::new(own.clone(), &trust_domain).unwrap());
    let bundle = trusted.bundle();
    let (states, seen) = watch::channel(there(&[("n1", &own), ("n2", &second)]));
    let union = Union {
        entries: Entries::new("n1", &trust_domain),
        kept: Kept::new(folder.path().join("roots.json")),
        trusted,
        nodes: watch::Sender::new(1),
        troubles: Troubles::default(),
        is_unknown: false,
    };
    let mut run = Box::pin(union.run(seen));
    assert!(timeout(GRACE, &mut run).await.is_err());
    states.send_replace(there(&[]));
    assert!(timeout(GRACE / 2, &mut run).await.is_err());
    states.send_replace(SharedMap::Absent);
    assert!(timeout(HOUR, &mut run).await.is_err());
    states.send_replace(there(&[]));
    assert!(timeout(GRACE / 2, &mut run).await.is_err());
    assert_eq!(certificates(&bundle), 2, "the grace begins again");
    assert!(timeout(GRACE, &mut run).await.is_err());
    assert_eq!(certificates(&bundle), 1);
}

#[tokio::test(start_paused = true)]
async fn without_the_stored_roots_nothing_is_trusted_until_the_config_map_was_read() {
    let trust_domain = TrustDomain::parse("example.org").unwrap();
    let [own, second] = [(); 2].map(|()| authorities(&trust_domain));
    let broken = format!("{{\"n2\":{}}}", serde_json::Value::from("an entry"));
    for damaged in ["damaged", &broken] {
        let folder = tempfile::tempdir().unwrap();
        let kept = folder.path().join("roots.json");
        fsx::write_atomic(&kept, damaged.as_bytes(), 0o600).unwrap();
        let trusted = Arc::new(Trusted::new(own.clone(), &trust_domain).unwrap());
        let (bundle, jwt) = (trusted.bundle(), trusted.jwt_bundles());
        let (states, seen) = watch::channel(SharedMap::Unknown);
        let troubles = Troubles::default();
        let mut union = Union {
            entries: Entries::new("n1", &trust_domain),
            kept: Kept::new(kept),
            trusted,
            nodes: watch::Sender::new(1),
            troubles: troubles.clone(),
            is_unknown: false,
        };
        union.load_previous();
        let is_known = || bundle.borrow().is_some() || !jwt.borrow().is_empty();
        assert!(!is_known() && troubles.summary().unwrap().contains("cannot be read"), "{:?}", troubles.summary());
        let mut run = Box::pin(union.run(seen));
        states.send_replace(SharedMap::Absent);
        assert!(timeout(HOUR, &mut run).await.is_err());
        assert!(!is_known(), "a deleted ConfigMap does not say which nodes exist");
        states.send_replace(there(&[]));
        assert!(timeout(GRACE / 2, &mut run).await.is_err());
        assert!(!is_known(), "it was emptied or created again: the nodes are about to publish");
        states.send_replace(there(&[("n1", &own), ("n2", &second)]));
        assert!(timeout(GRACE, &mut run).await.is_err());
        assert_eq!((certificates(&bundle), jwt.borrow().is_empty(), troubles.summary()), (2, false, None));
    }
}
