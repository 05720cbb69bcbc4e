//! The content of the page, and what no pod can add to it.

mod browser;
mod node;

use std::collections::BTreeSet;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;
use svid_csi_core::findings::facts::{EventFacts, VolumeFacts};
use svid_csi_core::findings::volume_state::VolumeState;
use svid_csi_core::findings::{Finding, checks};

use super::*;

/// Texts that would do harm as HTML or as a script, or that would look like other texts.
const HOSTILE: [&str; 6] = [
    "</script><script>document.title='taken'</script>",
    "<img src=x onerror=\"document.title='taken'\">",
    "<!--<script>",
    "\"'`&quot;{{js}}{{data}}",
    "shop/\u{202e}bew\u{200f}\u{feff}",
    "a\u{2028}b\u{2029}c\nd\u{0}e\x1b[31m",
];

/// A driver in which every text is that one.
fn hostile(text: &str) -> DriverFacts {
    let volume = VolumeFacts {
        plan: text.to_owned(),
        phase: "intended".to_owned(),
        pod: Some(text.to_owned()),
        spiffe_id: Some(text.to_owned()),
        waiting: Some(text.to_owned()),
        ..VolumeFacts::default()
    };
    let event = EventFacts {
        about: text.to_owned(),
        what: text.to_owned(),
        why: Some(text.to_owned()),
        ..EventFacts::default()
    };
    let mut driver = node::with_volumes(3, UNIX_EPOCH);
    driver.version = text.to_owned();
    driver.node = text.to_owned();
    driver.volumes.insert(text.to_owned(), volume);
    driver.recent.push(event);
    driver
}

fn findings(text: &str) -> Report {
    let finding = |check: &svid_csi_core::findings::Check| Finding {
        id: check.id,
        severity: check.severity,
        category: check.category,
        about: text.to_owned(),
        cause: text.to_owned(),
        fix: text.to_owned(),
    };
    Report { findings: checks().map(finding).collect(), not_checked: Vec::new() }
}

fn between<'a>(html: &'a str, begin: &str, end: &str) -> &'a str {
    let (_, rest) = html.split_once(begin).unwrap();
    rest.split_once(end).unwrap().0
}

fn data(html: &str) -> Value {
    serde_json::from_str(between(html, "id=\"data\">", "</script>")).unwrap()
}

#[test]
fn hostile_texts_stay_text() {
    let harmless = html(&hostile("web"), Some(&findings("web")), UNIX_EPOCH);
    for text in HOSTILE {
        let page = html(&hostile(text), Some(&findings(text)), UNIX_EPOCH);
        assert_eq!(page.matches('<').count(), harmless.matches('<').count(), "{text}");
        let is_ours = |c: char| c.is_ascii_graphic() || "\n …".contains(c);
        assert_eq!(page.chars().find(|c| !is_ours(*c)), None, "{text}");
        let data = data(&page);
        let volumes = data["volumes"].as_array().unwrap();
        assert!(volumes.iter().any(|volume| volume["pod"] == crate::telemetry::report::one_line(text)), "{data}");
        assert_eq!(data["findings"].as_array().unwrap().len(), checks().count());
    }
    let marks = inert("<>&\u{2028}\u{2029}\"");
    assert_eq!(marks, "\\u003c\\u003e\\u0026\\u2028\\u2029\"");
}

#[test]
fn only_the_own_script_and_style_are_allowed() {
    let page = html(&DriverFacts::default(), None, UNIX_EPOCH);
    let policy = between(&page, "http-equiv=\"Content-Security-Policy\" content=\"", "\">");
    let hash = |text: &str| STANDARD.encode(digest(&SHA256, text.as_bytes()));
    let (css, js) = (between(&page, "<style>", "</style>"), between(&page, "</script>\n<script>", "</script>"));
    assert_eq!((css, js), (CSS, JS));
    let allowed: BTreeSet<_> = policy.split("; ").collect();
    let expected = [
        "default-src 'none'",
        &format!("script-src 'sha256-{}'", hash(js)),
        &format!("style-src 'sha256-{}'", hash(css)),
        "base-uri 'none'",
        "form-action 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ];
    assert_eq!(allowed, BTreeSet::from(expected));
    let response = response(page.clone()).into_response();
    let header = response.headers()["content-security-policy"].to_str().unwrap();
    assert_eq!(header, format!("{policy}; frame-ancestors 'none'"));
}

#[test]
fn nothing_is_loaded_and_the_page_is_small() {
    let page = html(&DriverFacts::default(), None, UNIX_EPOCH);
    assert!(page.len() < 30_000, "{} bytes", page.len());
    for reference in ["http:", "https:", "src=", "href=", "url(", "@import", "innerHTML", "eval(", " style=", "{{"] {
        assert!(!page.contains(reference), "{reference}");
    }
}

#[test]
fn the_states_of_volumes_have_colours_and_marks() {
    for state in VolumeState::ALL {
        assert!(CSS.contains(&format!(".{}", state.name())), "{state:?}");
        let is_marked = CSS.contains(&format!(".mark.{}::before", state.name()));
        assert_eq!(is_marked, state != VolumeState::Ok, "{state:?}: all others differ from the plain mark");
    }
}

#[test]
fn many_findings_of_one_check_are_counted() {
    let one = findings("shop/web").findings.swap_remove(0);
    let report = Report { findings: vec![one; 60], not_checked: Vec::new() };
    let now = UNIX_EPOCH + Duration::from_secs(1_000);
    let shown = data(&html(&node::with_volumes(10, now), Some(&report), now));
    let group = &shown["findings"][0];
    assert_eq!((group["found"].as_array().unwrap().len(), group["more"].as_u64()), (50, Some(10)));
    assert_eq!((shown["made"].as_i64(), shown["volumes"].as_array().unwrap().len()), (Some(1_000), 10));
    assert!(data(&html(&DriverFacts::default(), None, now))["findings"].is_null());
}
