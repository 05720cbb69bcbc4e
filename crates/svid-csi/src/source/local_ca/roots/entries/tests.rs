use svid_csi_core::ca::CertificateAuthority;
use svid_csi_core::jwt::JwtAuthority;

use super::*;
use crate::host::clock;
use crate::telemetry::captured_log::CapturedLog;

fn trust_domain() -> TrustDomain {
    TrustDomain::parse("example.org").unwrap()
}

fn text() -> String {
    let hour = std::time::Duration::from_secs(3600);
    let ca = CertificateAuthority::create(&trust_domain(), clock::now(), hour).unwrap();
    let authorities = Authorities::of(&ca, &JwtAuthority::create(&trust_domain()).unwrap());
    String::from_utf8(authorities.to_json()).unwrap()
}

fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(node, text)| ((*node).to_owned(), (*text).to_owned())).collect()
}

fn nodes(entries: &Entries) -> Vec<String> {
    entries.good_texts().into_keys().collect()
}

#[test]
fn broken_entries_keep_the_last_good_ones_and_are_reported_once() {
    let log = CapturedLog::start();
    let mut entries = Entries::new("n1", &trust_domain());
    let (second, third) = (text(), text());
    assert!(entries.take(&map(&[("n1", "ignored"), ("n2", &second), ("n3", "{}"), ("n4", &third)])));
    assert_eq!((nodes(&entries), log.lines("it is left out").len()), (vec!["n2".to_owned(), "n4".to_owned()], 1));
    assert!(!entries.take(&map(&[("n2", "garbage"), ("n3", "{}"), ("n4", &third)])), "nothing good has changed");
    assert!(!entries.take(&map(&[("n2", "rubbish"), ("n3", "{}"), ("n4", &third)])));
    assert_eq!(entries.good_texts()["n2"], second, "the last good one");
    assert_eq!((log.lines("using its last good one").len(), log.lines("ERROR").len()), (1, 2), "the same trouble");
    let trouble = entries.trouble().unwrap();
    assert!(trouble.contains("the entry n2 is broken: ") && trouble.contains("n3"), "{trouble}");
    let fourth = text();
    assert!(entries.take(&map(&[("n2", &fourth), ("n3", "{}")])));
    assert!(entries.keep_only(&map(&[("n2", &fourth)])) && !entries.keep_only(&map(&[("n2", &fourth)])));
    assert_eq!((nodes(&entries), entries.trouble()), (vec!["n2".to_owned()], None));
}

#[test]
fn the_same_authorities_written_differently_are_not_a_change() {
    let mut entries = Entries::new("n1", &trust_domain());
    let text = text();
    assert!(entries.take(&map(&[("n2", &text)])));
    assert!(!entries.take(&map(&[("n2", &format!(" {text}"))])));
}

#[test]
fn nodes_over_the_limit_are_not_read_and_replace_no_other() {
    let log = CapturedLog::start();
    let mut entries = Entries::new("n1", &trust_domain());
    let text = text();
    let mut all: BTreeMap<_, _> = (0..MOST - 1).map(|node| (format!("n-{node}"), text.clone())).collect();
    assert!(entries.take(&all));
    assert_eq!((entries.good().count(), entries.good_texts().len()), (0, MOST - 1), "until they are kept");
    entries.kept();
    assert_eq!(entries.good().count(), MOST - 1);
    all.insert("a".to_owned(), text.clone());
    assert!(!entries.take(&all) && !entries.take(&all));
    assert_eq!(log.lines("only 1000 nodes are trusted").len(), 1);
    assert!(entries.trouble().unwrap().contains("1 entries exceed the limit of 1000"));
    assert!(all.remove("n-7").is_some() && entries.keep_only(&all) && entries.take(&all), "there is a place now");
    assert!(entries.good_texts().contains_key("a") && entries.trouble().is_none());
}
