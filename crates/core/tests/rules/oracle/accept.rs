//! X509-SVIDs with chain and bundle, as go-spiffe and Go's verifier judge them.

mod certificate;
mod extensions;

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls_pki_types::CertificateDer;
use svid_csi_core::identity::{Candidate, Expected, KeyUsageProblem, PrivateKey, Rejection, accept};
use svid_csi_core::spiffe_id::{SpiffeId, SpiffeIdError};

use self::certificate::{Key, Shape};
use super::{Comparison, Question, Reason, Rolls, Verdict, record};
use crate::forge::now;

pub(super) const REASONS: &[Reason] = &[
    KEY_USAGE,
    EXTENDED_KEY_USAGE,
    NAMES,
    CLOCK,
    NO_KEY_USAGE,
    SERIAL,
    MALFORMED,
    VERSION,
    TWO_NAMES,
    FRAGMENT,
    UPPER_CASE,
    NO_BITS,
    NAME_TYPES,
    URI_SYNTAX,
];
const KEY_USAGE: Reason = "CriticalKeyUsage";
const EXTENDED_KEY_USAGE: Reason = "BothUsages";
const NAMES: Reason = "CriticalNames";
const CLOCK: Reason = "ClockSkew";
const NO_KEY_USAGE: Reason = "NoKeyUsage";
const SERIAL: Reason = "NegativeSerial";
const MALFORMED: Reason = "Malformed";
const VERSION: Reason = "Version";
const TWO_NAMES: Reason = "ConstructedName";
const FRAGMENT: Reason = "EmptyFragment";
const UPPER_CASE: Reason = "UpperCase";
const NO_BITS: Reason = "NoBits";
const NAME_TYPES: Reason = "NameTypes";
const URI_SYNTAX: Reason = "UriSyntax";

struct Input {
    /// How each certificate was made, the leaf first.
    shapes: Vec<Shape>,
    chain: Vec<CertificateDer<'static>>,
    bundle: Vec<CertificateDer<'static>>,
    key: Key,
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.shapes).finish()
    }
}

/// The question about a chain.
pub(crate) fn chains(candidate: &Candidate, at: SystemTime) -> Vec<u8> {
    let bundle = candidate.bundle.as_deref().unwrap_or_default();
    question(candidate.key.der(), &candidate.chain, bundle, at)
}

fn question(key: &[u8], chain: &[CertificateDer<'_>], bundle: &[CertificateDer<'_>], at: SystemTime) -> Vec<u8> {
    let seconds = at.duration_since(UNIX_EPOCH).expect("after 1970").as_secs().to_be_bytes();
    let length = u32::try_from(chain.len()).expect("a short chain").to_be_bytes();
    let certificates = chain.iter().chain(bundle).map(AsRef::as_ref);
    record([&seconds[..], key, &length].into_iter().chain(certificates))
}

fn make(rolls: &mut Rolls) -> Input {
    let (root, leaf_key) = (Key::of(0), Key::of(9));
    let anchor = Shape::authority(rolls, 0, &root);
    let mut bundle = vec![anchor.signed_by(&root)];
    let (mut issuer, mut chain, mut shapes) = (root, Vec::new(), vec![anchor]);
    for level in 1..=rolls.mostly(1, 2, &[0, 2]) {
        let key = Key::of(level);
        let shape = Shape::authority(rolls, level, &key);
        if !rolls.one_in(40) {
            chain.insert(0, shape.signed_by(&issuer));
        }
        shapes.insert(0, shape);
        issuer = key;
    }
    let leaf = Shape::leaf(rolls, shapes[0].subject.clone(), &leaf_key);
    chain.insert(0, leaf.signed_by(&issuer));
    shapes.insert(0, leaf);
    match rolls.roll(30) {
        1 => bundle = vec![Shape::authority(rolls, 7, &Key::of(7)).signed_by(&Key::of(7))],
        2 => bundle.push(Shape::authority(rolls, 7, &Key::of(7)).signed_by(&Key::of(7))),
        3 => chain.push(bundle[0].clone()),
        4 => chain.rotate_left(1),
        _ => {}
    }
    let key = if rolls.one_in(60) { Key::of(8) } else { leaf_key };
    Input { shapes, chain, bundle, key }
}

const ID: &str = certificate::ID;

fn ours(input: &Input) -> Result<String, Rejection> {
    let key = PrivateKey::from_pkcs8_der(&input.key.pkcs8).expect("a key");
    let candidate = Candidate { chain: input.chain.clone(), key, bundle: Some(input.bundle.clone()) };
    let expected = Expected { id: SpiffeId::parse(ID).expect("an ID"), now: now() };
    accept(candidate, &expected).map(|identity| identity.id().to_string())
}

fn compare(input: &Input, theirs: &str) -> Verdict {
    let ours = ours(input);
    let has = |note: &str| input.shapes.iter().any(|shape| shape.has(note));
    let reason = match (&ours, theirs == ID) {
        (Ok(_), true) => return Verdict::Accepted,
        (Err(_), false) => return Verdict::Refused,
        (Ok(_), false) => match theirs {
            _ if theirs.contains("is before") && is_early(input) => Some(CLOCK),
            _ if theirs.contains("must have 'keyCertSign'") && has("no usage") => Some(NO_KEY_USAGE),
            _ if theirs.contains("unsupported string type") => Some(NAME_TYPES),
            _ if theirs.contains("cannot parse URI") => Some(URI_SYNTAX),
            _ if theirs.contains("negative serial number") => Some(SERIAL),
            _ => None,
        },
        (Err(rejection), true) => match rejection {
            Rejection::KeyUsage { problem: KeyUsageProblem::NotCritical } => Some(KEY_USAGE),
            Rejection::ExtendedKeyUsage { .. } => Some(EXTENDED_KEY_USAGE),
            Rejection::NamesNotCritical => Some(NAMES),
            Rejection::Unreadable { .. } => Some(MALFORMED),
            Rejection::Untrusted { reason } if reason.contains("not of X.509 version 3") => Some(VERSION),
            Rejection::Untrusted { .. } | Rejection::NotACa { .. } if has("version") => Some(VERSION),
            Rejection::Untrusted { .. } | Rejection::NotACa { .. } if has("usage [03, 01, 00") => Some(NO_BITS),
            Rejection::UriNames { found: 2 } if has("name [a6") || has("edited") => Some(TWO_NAMES),
            Rejection::NotASpiffeId { .. } if has("name [73") || has("edited") => Some(FRAGMENT),
            Rejection::NotASpiffeId { problem: SpiffeIdError::Scheme } => Some(UPPER_CASE),
            _ => None,
        },
    };
    let ours = ours.map_err(|rejection| rejection.to_string());
    reason.map_or_else(|| Verdict::Different(format!("{ours:?}, and there {theirs:?}")), Verdict::Explained)
}

/// Whether the leaf is valid only in a moment.
fn is_early(input: &Input) -> bool {
    let ahead = Duration::from_secs(60);
    input.shapes[0].not_before > 0 && input.shapes[0].not_before <= ahead.as_secs() as i64
}

#[test]
#[ignore = "needs Go: just oracles"]
fn identities_are_those_of_go_spiffe() {
    let encode = |input: &Input| question(&input.key.pkcs8, &input.chain, &input.bundle, now());
    let (name, question) = ("X509-SVIDs", Question::X509Svid);
    Comparison { name, question, make, encode, compare, cost: 1 }.run();
}
