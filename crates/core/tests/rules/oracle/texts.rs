//! SPIFFE IDs, trust domains, durations and the kubelet's tokens, as Go reads them.

use std::collections::BTreeMap;

use svid_csi_core::go_duration;
use svid_csi_core::pod_token::{self, PodToken};
use svid_csi_core::spiffe_id::{MAX_ID_BYTES, MAX_TRUST_DOMAIN_BYTES, SpiffeId, TrustDomain};
use svid_csi_core::unix_time;

use super::{Comparison, Question, Reason, Rolls, Verdict};

pub(super) const REASONS: &[Reason] =
    &[LENGTH, WHOLE_ID, SIGN, FOLDED_NAME, REPLACED_TEXT, TIME_FORMS, NUMBER_RANGE, REPEATED];
const LENGTH: Reason = "Length";
const WHOLE_ID: Reason = "WholeId";
const SIGN: Reason = "Sign";
const FOLDED_NAME: Reason = "FoldedName";
const REPLACED_TEXT: Reason = "ReplacedText";
const REPEATED: Reason = "RepeatedName";
const NUMBER_RANGE: Reason = "NumberRange";
const TIME_FORMS: Reason = "TokenTimes";

/// Compares what is read; a text that one refuses must be refused by the other.
fn same(ours: Result<String, String>, theirs: &str) -> Verdict {
    match (ours, theirs.starts_with("no ")) {
        (Ok(ours), false) if ours == theirs => Verdict::Accepted,
        (Err(_), true) => Verdict::Refused,
        (ours, _) => Verdict::Different(format!("{ours:?}, and there {theirs:?}")),
    }
}

fn name(rolls: &mut Rolls) -> String {
    match rolls.roll(8) {
        0 => "example.org".to_owned(),
        1 => "a".repeat(250 + rolls.below(8)),
        2 => String::new(),
        _ => (0..1 + rolls.below(12)).map(|_| letter(rolls, "azAZ09._-")).collect(),
    }
}

fn letter(rolls: &mut Rolls, usual: &str) -> char {
    let usual: Vec<char> = usual.chars().collect();
    match rolls.roll(60) {
        0 => rolls.pick(&['\u{e9}', '\u{130}', '\u{212a}', '\u{1f600}', '\u{0}', '\u{7f}', '\u{ff0f}', '\u{2028}']),
        1 => char::from(rolls.roll(128) as u8),
        _ => rolls.pick(&usual),
    }
}

fn spiffe_id(rolls: &mut Rolls) -> String {
    let mut text =
        rolls.mostly("spiffe://", 12, &["SPIFFE://", "spiffe:/", "spiffe:", "https://", "", "spiffe:///"]).to_owned();
    text += &name(rolls);
    for _ in 0..rolls.below(5) {
        text.push('/');
        match rolls.roll(14) {
            0 => text += rolls.pick(&[".", "..", "", "...", "%2e", "%41", "a%", "~", "a:b", "a@b"]),
            1 if rolls.one_in(4) => text += &"a".repeat((MAX_ID_BYTES + 3).saturating_sub(text.len() + rolls.below(6))),
            _ => (0..1 + rolls.below(6)).for_each(|_| text.push(letter(rolls, "abXY12.-_"))),
        }
    }
    text += rolls.mostly("", 20, &["/", "?a=b", "#a", ":80", " ", "\n", "\0", "//"]);
    edited(rolls, text, 3)
}

/// One edit of the bytes, once in so many times; what is no longer text is replaced.
fn edited(rolls: &mut Rolls, text: String, sides: u64) -> String {
    let mut bytes = text.into_bytes();
    if rolls.one_in(sides) {
        rolls.edit(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
#[ignore = "needs Go: just oracles"]
fn spiffe_ids_are_those_of_go_spiffe() {
    let compare = |text: &String, theirs: &str| {
        let ours = SpiffeId::parse(text).map(|id| format!("{} {}", id.trust_domain(), id.path()));
        let is_long =
            text.len() > MAX_ID_BYTES || text.get(9..).unwrap_or_default().split('/').next().is_some_and(is_long_name);
        match same(ours.map_err(|error| error.to_string()), theirs) {
            Verdict::Different(_) if is_long && SpiffeId::parse(text).is_err() => Verdict::Explained(LENGTH),
            other => other,
        }
    };
    let (make, encode) = (spiffe_id as fn(&mut Rolls) -> _, |text: &String| text.clone().into_bytes());
    let (name, question) = ("SPIFFE IDs", Question::SpiffeId);
    Comparison { name, question, make, encode, compare, cost: 1 }.run();
}

fn is_long_name(name: &str) -> bool {
    name.len() > MAX_TRUST_DOMAIN_BYTES
}

#[test]
#[ignore = "needs Go: just oracles"]
fn trust_domains_are_those_of_go_spiffe() {
    let make = |rolls: &mut Rolls| {
        let text = if rolls.one_in(4) { spiffe_id(rolls) } else { name(rolls) };
        edited(rolls, text, 3)
    };
    let compare = |text: &String, theirs: &str| {
        let ours = TrustDomain::parse(text);
        match same(ours.clone().map(|name| name.to_string()).map_err(|error| error.to_string()), theirs) {
            Verdict::Different(_) if ours.is_err() && is_long_name(text) => Verdict::Explained(LENGTH),
            Verdict::Different(_) if ours.is_err() && text.starts_with("spiffe://") => Verdict::Explained(WHOLE_ID),
            other => other,
        }
    };
    let (name, question) = ("trust domains", Question::TrustDomain);
    let encode = |text: &String| text.clone().into_bytes();
    Comparison { name, question, make, encode, compare, cost: 1 }.run();
}

fn duration(rolls: &mut Rolls) -> String {
    let mut text = rolls.mostly("", 12, &["-", "+", " ", "--"]).to_owned();
    for _ in 0..rolls.mostly(1, 3, &[0, 2, 3, 8]) {
        for _ in 0..rolls.mostly(1, 2, &[0, 2, 5, 16, 19, 25]) {
            text.push(letter(rolls, "0123456789"));
        }
        if rolls.one_in(3) {
            text.push('.');
            (0..rolls.mostly(1, 2, &[0, 3, 9, 18, 19, 25])).for_each(|_| text.push(letter(rolls, "0123456789")));
        }
        text += rolls.pick(&["h", "m", "s", "ms", "us", "\u{b5}s", "\u{3bc}s", "ns", "d", "", "S"]);
    }
    edited(rolls, text, 8)
}

#[test]
#[ignore = "needs Go: just oracles"]
fn durations_are_those_of_go() {
    let compare = |text: &String, theirs: &str| {
        let ours = go_duration::parse(text).map(|duration| duration.as_nanos().to_string());
        match same(ours.clone(), theirs) {
            Verdict::Different(_) if ours.is_err() && text.starts_with(['-', '+']) => Verdict::Explained(SIGN),
            other => other,
        }
    };
    let encode = |text: &String| text.clone().into_bytes();
    let (name, question) = ("durations", Question::Duration);
    Comparison { name, question, make: duration, encode, compare, cost: 1 }.run();
}

fn time(rolls: &mut Rolls) -> String {
    let [month, day] = [rolls.mostly(1, 3, &[2, 12, 0, 13]), rolls.mostly(1, 3, &[0, 28, 29, 30, 31, 32])];
    let year = rolls.mostly(2026, 4, &[2024, 2100, 1969, 1, 0, 9999]);
    let [hour, minute, second] = [23, 59, 59].map(|last| rolls.mostly(last / 2, 6, &[0, last, last + 1]));
    let [date, zone] = [
        rolls.mostly("T", 20, &["t", " ", ""]),
        rolls.mostly("Z", 4, &["z", "+01:00", "-23:59", "+24:00", "+0100", "", "-00:00"]),
    ];
    let fraction = rolls.mostly("", 6, &[".5", ".123456789", ".", ",5", ".1234567891"]);
    let text = format!("{year:04}-{month:02}-{day:02}{date}{hour:02}:{minute:02}:{second:02}{fraction}{zone}");
    edited(rolls, text, 10)
}

fn pod_tokens(rolls: &mut Rolls) -> String {
    let token = |rolls: &mut Rolls| {
        let text = rolls.mostly("\"aGk\"", 12, &["\"\"", "null", "1", "\"a\\u0000\"", "\"\\ud800\"", "[]"]);
        let name = rolls.mostly("token", 16, &["Token", "TOKEN", "tokens"]);
        let expires = rolls.mostly("expirationTimestamp", 16, &["expirationtimestamp", "x"]);
        let until = rolls.mostly(None, 16, &[Some("null"), Some("1"), Some("\"\"")]);
        let until = until.map_or_else(|| format!("{:?}", time(rolls)), str::to_owned);
        let other = rolls.mostly("", 12, &[",\"x\":[1]", ",\"token\":\"b\"", ",", ",\"x\":1e999"]);
        format!("{{\"{name}\":{text},\"{expires}\":{until}{other}}}")
    };
    let mut all: Vec<String> = Vec::new();
    // Two with the same name would be two answers to one question.
    let (first, audiences) = (rolls.below(5), ["vault", "", "d\\u0062", "https://a.b", "\u{e9}"]);
    for at in 0..rolls.mostly(1, 4, &[0, 2, 3]) {
        let audience = audiences[(first + at) % audiences.len()];
        let value = if rolls.one_in(16) { rolls.pick(&["null", "[]", "\"a\"", "{}"]).to_owned() } else { token(rolls) };
        all.push(format!("\"{audience}\":{value}"));
    }
    let text = format!("{{{}}}", all.join(rolls.mostly(",", 20, &[" , ", ",,", ";"])));
    edited(rolls, text, 6)
}

fn shown(tokens: BTreeMap<String, PodToken>) -> String {
    let mut all: Vec<String> = tokens
        .into_iter()
        .map(|(audience, token)| {
            format!("{audience}={} until {}", token.token.expose(), unix_time::seconds(token.expiration))
        })
        .collect();
    all.sort();
    all.join(", ")
}

#[test]
#[ignore = "needs Go: just oracles"]
fn tokens_of_the_kubelet_are_those_of_go() {
    let compare = |text: &String, theirs: &str| {
        let ours = pod_token::parse(text).map(shown).map_err(|error| error.to_string());
        // Go also reads a name in other cases than its own.
        let folded =
            |name: &str| text.to_lowercase().matches(&name.to_lowercase()).count() > text.matches(name).count();
        let is_folded = folded("\"token\"") || folded("\"expirationTimestamp\"");
        match same(ours, theirs) {
            Verdict::Different(_) if is_folded => Verdict::Explained(FOLDED_NAME),
            Verdict::Different(why) if theirs.contains("parsing time") || why.contains("is not a time") => {
                Verdict::Explained(TIME_FORMS)
            }
            Verdict::Different(_) if text.contains(",\"token\":\"b\"") => Verdict::Explained(REPEATED),
            Verdict::Different(_) if text.contains("1e999") => Verdict::Explained(NUMBER_RANGE),
            Verdict::Different(_) if text.contains("\\ud") => Verdict::Explained(REPLACED_TEXT),
            other => other,
        }
    };
    let encode = |text: &String| text.clone().into_bytes();
    let (name, question) = ("tokens of the kubelet", Question::PodTokens);
    Comparison { name, question, make: pod_tokens, encode, compare, cost: 1 }.run();
}
