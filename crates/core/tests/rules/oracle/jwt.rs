//! JWT-SVIDs, as go-spiffe validates them.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use serde_json::json;
use svid_csi_core::jwt::{JwtBundle, JwtBundles, JwtRejection, ValidatedJwt, validate};
use svid_csi_core::spiffe_id::TrustDomain;

use super::{Comparison, Question, Reason, Rolls, Verdict, record};
use crate::forge::ID;
use crate::jwt::forge::{AUDIENCE, TestKey, encode, seconds};

pub(super) const REASONS: &[Reason] =
    &[LEEWAY, OTHER_HEADERS, NO_PATH, DUPLICATES, NULL, NOT_UTF8, TIMES, WHITE_SPACE, OTHER_CLAIMS];
const LEEWAY: Reason = "Leeway";
const OTHER_HEADERS: Reason = "OtherHeaders";
const NO_PATH: Reason = "SubjectWithoutPath";
const DUPLICATES: Reason = "Duplicates";
const NULL: Reason = "Null";
const NOT_UTF8: Reason = "NotUtf8";
const TIMES: Reason = "Times";
const WHITE_SPACE: Reason = "WhiteSpace";
const OTHER_CLAIMS: Reason = "OtherClaims";

static KEYS: LazyLock<Vec<TestKey>> =
    LazyLock::new(|| ["ES256", "ES384", "ES512", "RS256", "PS384"].map(TestKey::new).into());

/// All keys of example.org.
static JWKS: LazyLock<String> = LazyLock::new(|| {
    let named = KEYS.iter().map(|key| {
        let mut jwk = key.jwk.clone();
        jwk["kid"] = key.alg.into();
        jwk
    });
    json!({"keys": named.collect::<Vec<_>>()}).to_string()
});

static BUNDLES: LazyLock<JwtBundles> = LazyLock::new(|| {
    let bundle = JwtBundle::read(JWKS.as_bytes()).expect("a bundle");
    BTreeMap::from([(TrustDomain::parse("example.org").expect("a name"), Arc::new(bundle))])
});

/// The time of all comparisons: go-spiffe has no other than the present.
#[allow(clippy::disallowed_methods, reason = "the library reads the clock itself")]
static NOW: LazyLock<SystemTime> =
    LazyLock::new(|| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds(SystemTime::now())));

#[derive(Debug)]
struct Input {
    header: String,
    payload: Vec<u8>,
    token: String,
}

/// An object with its members in order, some of them twice.
fn object(rolls: &mut Rolls, members: &[(&str, String)]) -> String {
    let mut written: Vec<String> = members
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("\"{name}\":{value}"))
        .collect();
    match rolls.roll(40) {
        1 if !written.is_empty() => written.extend_from_within(..1),
        2 => written.reverse(),
        3 => written.push("\"x\":{\"y\":[1,null,\"\\u0041\"]}".to_owned()),
        _ => {}
    }
    format!("{{{}}}", written.join(rolls.mostly(",", 40, &[" , ", ",\n", ",,", ""])))
}

fn header(rolls: &mut Rolls, alg: &str) -> String {
    let quoted = |text: &str| format!("\"{text}\"");
    let usual = quoted(alg);
    let algorithm = rolls
        .mostly(
            &*usual,
            12,
            &[
                "\"none\"",
                "\"HS256\"",
                "\"es256\"",
                "null",
                "1",
                "\"\"",
                "",
                "\"ES256\"",
                "\"RS256\"",
                "\"PS256\"",
                "\"EdDSA\"",
            ],
        )
        .to_owned();
    let key = rolls.mostly(&*usual, 12, &["\"\"", "null", "1", "", "\"other\"", "\"ES256\"", "\"RS256\""]).to_owned();
    let kind = rolls
        .mostly("\"JWT\"", 6, &["\"JOSE\"", "", "\"jwt\"", "\"at+jwt\"", "null", "1", "\"\"", "[\"JWT\"]"])
        .to_owned();
    let other = rolls.mostly(
        ("cty", ""),
        12,
        &[
            ("crit", "[\"exp\"]"),
            ("crit", "[]"),
            ("crit", "[\"b64\"]"),
            ("b64", "false"),
            ("cty", "\"JWT\""),
            ("jku", "\"https://a\""),
            ("nonce", "\"a\""),
            ("zip", "\"DEF\""),
            ("jwk", "{}"),
            ("jwk", "null"),
            ("x5c", "[]"),
            ("ALG", "\"none\""),
            ("Kid", "\"a\""),
            ("x5t", "\"a\""),
        ],
    );
    object(rolls, &[("alg", algorithm), ("kid", key), ("typ", kind), (other.0, other.1.to_owned())])
}

/// JSON texts, of which the empty one leaves the claim out.
const ODD_SUBJECTS: [&str; 11] = [
    "",
    "null",
    "1",
    "\"\"",
    "\"spiffe://example.org\"",
    "\"spiffe://other.org/a\"",
    "\"spiffe://example.org/a/\"",
    "\"SPIFFE://example.org/a\"",
    "[\"spiffe://example.org/a\"]",
    "\"spiffe:\\/\\/example.org\\/a\"",
    "\"spiffe://example.org/\\ud800\"",
];
const ODD_AUDIENCES: [&str; 12] =
    ["", "null", "1", "\"\"", "[]", "[null]", "\"other\"", "[\"other\"]", "[1]", "{}", "[[]]", "[\"a\",null]"];
const ODD_TIMES: [&str; 17] = [
    "",
    "null",
    "\"1\"",
    "-1",
    "0",
    "1e10",
    "2.5e9",
    "1e400",
    "253402300799",
    "253402300800",
    "1e30",
    "-1e30",
    "true",
    "9223372036854775808",
    "4102444800.75",
    "-0",
    "1E3",
];
const OTHER_MEMBERS: [(&str, &str); 9] = [
    ("EXP", "1"),
    ("Sub", "\"a\""),
    ("jti", "1"),
    ("jti", "\"a\""),
    ("iss", "1"),
    ("iss", "\"a\""),
    ("x", "1"),
    ("aud", "\"other\""),
    ("exp", "1"),
];

fn payload(rolls: &mut Rolls) -> String {
    let (id, us) = (format!("\"{ID}\""), format!("\"{AUDIENCE}\""));
    let subject = rolls.mostly(&*id, 10, &ODD_SUBJECTS).to_owned();
    let two = format!("[\"other\",{us}]");
    let usual = rolls.mostly(&*us, 8, &[&*two]);
    let audience = rolls.mostly(usual, 5, &ODD_AUDIENCES).to_owned();
    let mut time = |usual: Option<i64>, sides: u64| {
        let now = i64::try_from(seconds(*NOW)).expect("a time");
        let usual = usual.map(|ahead| (now + ahead).to_string()).unwrap_or_default();
        let offsets = [-3600, -30, 30, 300, 3600].map(|ahead| (now + ahead).to_string());
        let others: Vec<&str> = offsets.iter().map(String::as_str).chain(ODD_TIMES).collect();
        rolls.mostly(&*usual, sides, &others).to_owned()
    };
    let (end, issued, from) = (time(Some(300), 4), time(Some(-10), 6), time(None, 6));
    let (name, value) = rolls.mostly(("x", ""), 10, &OTHER_MEMBERS);
    let times = [("exp", end), ("iat", issued), ("nbf", from)];
    object(rolls, &[&[("sub", subject), ("aud", audience)], &times[..], &[(name, value.to_owned())]].concat())
}

fn make(rolls: &mut Rolls) -> Input {
    // Few are signed with RSA, which takes long.
    let key = &KEYS[rolls.mostly(0, 6, &[0, 1, 2, 3, 4])];
    let (header, mut payload) = (header(rolls, key.alg), payload(rolls).into_bytes());
    if rolls.one_in(12) {
        rolls.edit(&mut payload);
    }
    let message = format!("{}.{}", encode(&header), encode(&payload));
    let mut token = if rolls.one_in(30) { KEYS[1].sign(&message) } else { key.sign(&message) };
    match rolls.roll(24) {
        1 => token.push('='),
        2 => token.push('.'),
        3 => token = token.replace('.', ".."),
        4 => token = token.rsplit_once('.').map(|(message, _)| format!("{message}.")).unwrap_or_default(),
        5 | 6 => {
            let mut bytes = token.into_bytes();
            rolls.edit(&mut bytes);
            token = String::from_utf8_lossy(&bytes).into_owned();
        }
        7 => token = token.replace('_', "/").replace('-', "+"),
        8 => token = token.replacen('.', "\n.", 1),
        9 => token += rolls.pick(&["\n", " ", "A", "\0"]),
        _ => {}
    }
    Input { header, payload, token }
}

fn shown(jwt: &ValidatedJwt) -> String {
    let end = jwt.claims["exp"].as_f64().expect("a time");
    format!("{} {} {}", jwt.id, end as i64, jwt.claims["aud"])
}

fn compare(input: &Input, theirs: &str) -> Verdict {
    let ours = validate(&input.token, AUDIENCE, &BUNDLES, *NOW);
    let payload = String::from_utf8_lossy(&input.payload);
    let (is_accepted, has_null) =
        (!theirs.starts_with("no "), payload.contains("null") || input.header.contains("null"));
    let reason = match (&ours, is_accepted) {
        (Ok(jwt), true) if shown(jwt) == theirs => return Verdict::Accepted,
        (Err(_), false) => return Verdict::Refused,
        (Ok(_), false) if theirs.contains("unable to") && is_ambiguous(&input.header, &payload) => Some(DUPLICATES),
        (Ok(jwt), false) if theirs.contains("cannot unmarshal") && has_odd_claim(jwt) => Some(OTHER_CLAIMS),
        (Err(JwtRejection::NotCompact), true) if input.token.contains(char::is_whitespace) => Some(WHITE_SPACE),
        (Err(JwtRejection::Expired { .. }), true) => Some(LEEWAY),
        (Err(JwtRejection::SubjectWithoutPath { .. }), true) => Some(NO_PATH),
        (Err(_), true) if std::str::from_utf8(&input.payload).is_err() || payload.contains("\\ud") => Some(NOT_UTF8),
        (Err(JwtRejection::Header { .. }), true) if !has_null => Some(OTHER_HEADERS),
        (Err(JwtRejection::Claim { claim: "exp" | "iat" | "nbf", .. }), true) if !has_null => Some(TIMES),
        (Err(JwtRejection::Claim { .. } | JwtRejection::Header { .. }), true) if has_null => Some(NULL),
        _ => None,
    };
    let ours = ours.as_ref().map(shown).map_err(ToString::to_string);
    reason.map_or_else(|| Verdict::Different(format!("{ours:?}, and there {theirs:?}")), Verdict::Explained)
}

/// Whether a claim that JWT-SVIDs do not use is of another type than RFC 7519 has it.
fn has_odd_claim(jwt: &ValidatedJwt) -> bool {
    ["iss", "jti"].iter().any(|claim| jwt.claims.get(*claim).is_some_and(|value| !value.is_string()))
}

/// Whether a member occurs twice.
fn is_ambiguous(header: &str, payload: &str) -> bool {
    let twice = |text: &str, name: &str| text.matches(&format!("\"{name}\":")).count() > 1;
    ["alg", "kid", "typ", "x"].iter().any(|name| twice(header, name))
        || ["sub", "aud", "exp", "iat", "nbf", "jti", "iss", "x"].iter().any(|name| twice(payload, name))
}

#[test]
#[ignore = "needs Go: just oracles"]
fn tokens_are_those_of_go_spiffe() {
    let encode = |input: &Input| record([input.token.as_bytes(), AUDIENCE.as_bytes(), JWKS.as_bytes()]);
    let (name, question) = ("JWT-SVIDs", Question::Jwt);
    Comparison { name, question, make, encode, compare, cost: 1 }.run();
}
