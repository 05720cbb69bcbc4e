//! JWK sets and bundle documents, as go-spiffe reads them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::LazyLock;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use svid_csi_core::bundle_document::BundleDocument;
use svid_csi_core::jwt::JwtBundle;

use super::{Comparison, Question, Reason, Rolls, Verdict};
use crate::forge::Authority;
use crate::jwt::forge::TestKey;

pub(super) const REASONS: &[Reason] =
    &[IGNORED_KEYS, UNREAD_CERTIFICATES, KEY_TYPES, DOCUMENT_NUMBERS, NO_KEYS, SAME_KEY_ID];
const IGNORED_KEYS: Reason = "IgnoredKeys";
const UNREAD_CERTIFICATES: Reason = "UnreadCertificates";
const KEY_TYPES: Reason = "KeyTypes";
const NO_KEYS: Reason = "NoKeys";
const SAME_KEY_ID: Reason = "SameKeyId";
const DOCUMENT_NUMBERS: Reason = "DocumentNumbers";

/// A text, and what is unusual about it.
#[derive(Debug)]
struct Document {
    text: String,
    notes: Vec<&'static str>,
}

static KEYS: LazyLock<Vec<Value>> =
    LazyLock::new(|| ["ES256", "ES384", "ES512", "RS256"].map(|alg| TestKey::new(alg).jwk).into());

static ANCHORS: LazyLock<Vec<Vec<u8>>> =
    LazyLock::new(|| (0..3).map(|_| Authority::root(|_| {}).certificate.to_vec()).collect());

fn change(rolls: &mut Rolls, jwk: &mut Value, notes: &mut Vec<&'static str>) {
    let changes: [(&'static str, &'static str, Value); 22] = [
        ("kid", "kid", Value::Null),
        ("kid", "kid", json!("")),
        ("kid", "kid", json!(1)),
        ("kid", "kid", json!("\u{e9}")),
        ("type", "kty", json!("oct")),
        ("type", "kty", json!("OKP")),
        ("type", "kty", json!("XYZ")),
        ("type", "kty", Value::Null),
        ("type", "kty", json!(1)),
        ("curve", "crv", json!("P-192")),
        ("curve", "crv", json!("secp256k1")),
        ("curve", "crv", Value::Null),
        ("curve", "crv", json!("P-384")),
        ("number", "x", json!("AA")),
        ("number", "n", json!("AA")),
        ("number", "e", json!("AQ==")),
        ("number", "y", json!("####")),
        ("number", "x", Value::Null),
        ("alg", "alg", json!("ES256")),
        ("alg", "alg", json!("none")),
        ("use", "use", json!("sig")),
        ("other", "key_ops", json!(["verify"])),
    ];
    let (note, member, value) = changes[rolls.below(changes.len())].clone();
    let members = jwk.as_object_mut().expect("an object");
    match value {
        Value::Null => drop(members.remove(member)),
        value => drop(members.insert(member.to_owned(), value)),
    }
    notes.push(note);
}

fn jwt_key(rolls: &mut Rolls, at: usize, notes: &mut Vec<&'static str>) -> Value {
    let mut jwk = KEYS[rolls.below(KEYS.len())].clone();
    jwk["kid"] = if rolls.one_in(30) {
        notes.push("same kid");
        json!("k")
    } else {
        json!(format!("k{at}"))
    };
    if rolls.one_in(6) {
        change(rolls, &mut jwk, notes);
    }
    jwk
}

fn keys(rolls: &mut Rolls) -> Document {
    let mut notes = Vec::new();
    let all: Vec<Value> = (0..rolls.mostly(1, 2, &[0, 2, 3])).map(|at| jwt_key(rolls, at, &mut notes)).collect();
    let mut text = json!({"keys": all}).to_string();
    if rolls.one_in(20) {
        text = rolls
            .pick(&[
                "{}",
                "[]",
                "{\"keys\":null}",
                "{\"keys\":{}}",
                "{\"keys\":[null]}",
                "{\"keys\":[1]}",
                "null",
                "",
                "{\"keys\":[]}x",
                "{\"KEYS\":[]}",
                "{\"keys\":[],\"keys\":[]}",
            ])
            .to_owned();
        notes.push("form");
    }
    Document { text, notes }
}

fn document(rolls: &mut Rolls) -> Document {
    let mut notes = Vec::new();
    let mut all: Vec<Value> = Vec::new();
    for at in 0..rolls.mostly(1, 3, &[0, 2]) {
        let mut jwk = jwt_key(rolls, at, &mut notes);
        jwk["use"] = rolls.mostly("jwt-svid", 10, &["sig", "", "wit-svid", "JWT-SVID"]).into();
        all.push(jwk);
    }
    for _ in 0..rolls.mostly(1, 3, &[0, 2]) {
        let der = &ANCHORS[rolls.below(ANCHORS.len())];
        let jwk = BundleDocument {
            anchors: vec![der.clone().into()],
            jwt: JwtBundle::default(),
            sequence: None,
            refresh_hint: None,
        };
        let written: Value = serde_json::from_slice(&jwk.to_json()).expect("JSON");
        let mut jwk = written["keys"][0].clone();
        if rolls.one_in(8) {
            let text = STANDARD.encode(der);
            let odd = [
                json!([]),
                Value::Null,
                json!([text, text]),
                json!(["####"]),
                json!(["AAAA"]),
                json!(text),
                json!([1]),
            ];
            jwk["x5c"] = odd[rolls.below(odd.len())].clone();
            notes.push("x5c");
        }
        if rolls.one_in(20) {
            change(rolls, &mut jwk, &mut notes);
        }
        all.push(jwk);
    }
    let mut whole = json!({"keys": all});
    for name in ["spiffe_sequence", "spiffe_refresh_hint"] {
        let values = [
            json!(1),
            json!(0),
            json!(u64::MAX),
            json!(-1),
            json!(1.5),
            json!("1"),
            Value::Null,
            json!(9_000_000_000_u64),
            json!(1e3),
        ];
        if rolls.one_in(2) {
            let at = rolls.mostly(0, 4, &[0, 1, 2, 3, 4, 5, 6, 7, 8]);
            whole[name] = values[at].clone();
            if at > 1 {
                notes.push("number of the document");
            }
        }
    }
    Document { text: whole.to_string(), notes }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("memory");
        text
    })
}

fn sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// The keys with their thumbprints (RFC 7638), in order.
fn listed(bundle: &JwtBundle) -> Vec<String> {
    let set: Value = serde_json::from_slice(&bundle.to_jwks()).expect("JSON");
    let one = |jwk: &Value| {
        let members =
            ["crv", "e", "kty", "n", "x", "y"].iter().filter_map(|name| Some((*name, jwk.get(name)?.clone())));
        let canonical = serde_json::to_string(&members.collect::<BTreeMap<_, _>>()).expect("JSON");
        format!("{}:{}", jwk["kid"], sha256(canonical.as_bytes()))
    };
    let mut all: Vec<String> = set["keys"].as_array().expect("a list").iter().map(one).collect();
    all.sort();
    all
}

/// Compares what is read; what explains a difference must be noted.
fn compare(document: &Document, ours: Result<String, String>, theirs: &str) -> Verdict {
    let has = |among: &[&str]| document.notes.iter().any(|note| among.contains(note));
    match (&ours, theirs.starts_with("no ")) {
        (Ok(ours), false) if ours == theirs => Verdict::Accepted,
        (Err(_), true) => Verdict::Refused,
        (Ok(_), _) if has(&["number"]) => Verdict::Explained(IGNORED_KEYS),
        (Ok(_), true) if has(&["kid", "type", "curve"]) => Verdict::Explained(IGNORED_KEYS),
        (Ok(_), _) if has(&["x5c"]) => Verdict::Explained(UNREAD_CERTIFICATES),
        (Ok(_), false) if has(&["type", "alg", "use"]) => Verdict::Explained(KEY_TYPES),
        (Err(why), false) if has(&["same kid", "kid"]) && why.contains("same key ID") => {
            Verdict::Explained(SAME_KEY_ID)
        }
        (Err(_), false) if has(&["form"]) && theirs.is_empty() => Verdict::Explained(NO_KEYS),
        _ if has(&["number of the document"]) => Verdict::Explained(DOCUMENT_NUMBERS),
        _ => Verdict::Different(format!("{ours:?}, and there {theirs:?}")),
    }
}

#[test]
#[ignore = "needs Go: just oracles"]
fn jwk_sets_are_those_of_go_spiffe() {
    let encode = |document: &Document| document.text.clone().into_bytes();
    let compare = |document: &Document, theirs: &str| {
        let ours = JwtBundle::read(document.text.as_bytes()).map(|bundle| listed(&bundle).join(" "));
        compare(document, ours.map_err(|error| error.to_string()), theirs)
    };
    let (name, question) = ("JWK sets", Question::JwtBundle);
    Comparison { name, question, make: keys, encode, compare, cost: 1 }.run();
}

#[test]
#[ignore = "needs Go: just oracles"]
fn bundle_documents_are_those_of_go_spiffe() {
    let encode = |document: &Document| document.text.clone().into_bytes();
    let compare = |document: &Document, theirs: &str| {
        let ours = BundleDocument::read(document.text.as_bytes()).map(|read| {
            let mut all = listed(&read.jwt);
            let anchors: Vec<String> = read.anchors.iter().map(|der| sha256(der)).collect();
            let is_first = |at: &usize| !anchors[..*at].contains(&anchors[*at]);
            all.extend((0..anchors.len()).filter(is_first).map(|at| anchors[at].clone()));
            all.extend(read.sequence.map(|sequence| format!("sequence {sequence}")));
            all.extend(read.refresh_hint.map(|hint| format!("hint {}", hint.as_secs())));
            all.join(" ")
        });
        compare(document, ours.map_err(|error| error.to_string()), theirs)
    };
    let (name, question) = ("bundle documents", Question::BundleDocument);
    Comparison { name, question, make: document, encode, compare, cost: 1 }.run();
}
