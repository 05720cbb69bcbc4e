//! Chains under CAs of every kind, made from a seed, and what OpenSSL and Go say to them: `just paths`.
//!
//! Where one of them differs, a rule of RFC 5280 says why (docs/spiffe-conformance.md); such chains are told by what is in them.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::UNIX_EPOCH;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, SanType};
use svid_csi_core::identity::{Candidate, leads_to};

use super::{DNS, INHIBIT_ANY, MAPPINGS, POLICIES, POLICY_CONSTRAINTS, URI, constrain, policy};
use crate::forge::{Authority, HOUR, der, extension, now, uri, valid};

const EMAIL: u8 = 0x81;
const IP: u8 = 0x87;
const HOSTS: [&str; 6] = ["example.org", ".example.org", "sub.example.org", "other.org", ".org", "EXAMPLE.ORG"];
const TRUST_DOMAINS: [&str; 4] = ["example.org", "example.org", "sub.example.org", "other.org"];
const DNS_NAMES: [&str; 4] = ["example.org", "a.example.org", "*.example.org", "other.org"];
const MAILBOXES: [&str; 3] = ["a@example.org", "a@sub.example.org", "b@other.org"];
const BLOCKS: [[u8; 8]; 3] = [[10, 0, 0, 0, 255, 0, 0, 0], [10, 1, 0, 0, 255, 255, 0, 0], [0; 8]];

/// Numbers that look random (SplitMix64), the same ones for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }

    fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }

    fn pick<T: Copy>(&mut self, among: &[T]) -> T {
        among[self.roll(among.len() as u64) as usize]
    }
}

/// What is known to be judged by different rules.
#[derive(Default)]
struct Differs {
    /// Go takes a host without a dot for all hosts below it (RFC 5280, section 4.2.1.10: it is one host).
    host: bool,
    /// OpenSSL does not take `anyExtendedKeyUsage` of a CA for those of TLS (section 4.2.1.12: it is for any).
    any_usage: bool,
    /// OpenSSL looks at policies only where it is asked to (section 6.1 does always).
    policy: bool,
    /// OpenSSL does not take a wildcard for the names that it stands for, which an excluded subtree may be one of.
    wildcard: bool,
}

struct Made {
    candidate: Candidate,
    differs: Differs,
}

fn made(seed: u64) -> Made {
    let (mut dice, mut differs) = (Dice(seed), Differs::default());
    let depth = dice.roll(4);
    let mut chain = Vec::new();
    let root = Authority::root(|params| shape_ca(params, &mut dice, &mut differs, 0));
    let mut bundle = vec![root.certificate.clone()];
    let mut last = root;
    for level in 1..=depth {
        let decoy = last.intermediate(|params| shape_ca(params, &mut dice, &mut Differs::default(), level));
        let next = last.intermediate(|params| shape_ca(params, &mut dice, &mut differs, level));
        if dice.one_in(4) {
            chain.push(decoy.certificate);
        }
        if !dice.one_in(40) {
            chain.push(next.certificate.clone());
        }
        last = next;
    }
    if dice.one_in(20) {
        bundle[0] = Authority::root(|_| {}).certificate;
    }
    let mut candidate = last.leaf(|params| shape_leaf(params, &mut dice));
    candidate.chain.extend(chain);
    candidate.bundle = Some(bundle);
    Made { candidate, differs }
}

fn shape_leaf(params: &mut CertificateParams, dice: &mut Dice) {
    params.use_authority_key_identifier_extension = true;
    params.subject_alt_names = vec![uri(&format!("spiffe://{}/a", dice.pick(&TRUST_DOMAINS)))];
    if dice.one_in(3) {
        params.subject_alt_names.push(SanType::DnsName(dice.pick(&DNS_NAMES).try_into().expect("ASCII")));
    }
    if dice.one_in(4) {
        params.subject_alt_names.push(SanType::Rfc822Name(dice.pick(&MAILBOXES).try_into().expect("ASCII")));
    }
    if dice.one_in(4) {
        let address = dice.pick(&["10.1.2.3", "10.2.0.1", "11.0.0.1", "::1"]);
        params.subject_alt_names.push(SanType::IpAddress(address.parse().expect("an address")));
    }
    shape_policies(params, dice);
    if dice.one_in(40) {
        params.custom_extensions.push(extension(&[1, 2, 3], true, &[5, 0]));
    }
}

fn shape_ca(params: &mut CertificateParams, dice: &mut Dice, differs: &mut Differs, level: u64) {
    // OpenSSL tries one certificate of each name, which it finds by this.
    params.use_authority_key_identifier_extension = true;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, format!("level {level}"));
    params.subject_alt_names = match dice.roll(3) {
        0 => vec![uri(&format!("spiffe://{}", dice.pick(&TRUST_DOMAINS)))],
        _ => Vec::new(),
    };
    if dice.one_in(4) {
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(dice.roll(4) as u8));
    }
    if dice.one_in(3) {
        let lists: [Vec<(u8, Vec<u8>)>; 2] = [0; 2].map(|_| (0..dice.roll(4)).map(|_| subtree(dice)).collect());
        differs.host |= lists.iter().flatten().any(|(form, host)| [URI, EMAIL].contains(form) && host[0] != b'.');
        differs.wildcard |= lists[1].iter().any(|(form, _)| *form == DNS);
        let lists =
            lists.each_ref().map(|list| list.iter().map(|(form, value)| (*form, &value[..])).collect::<Vec<_>>());
        if lists.iter().any(|list| !list.is_empty()) {
            constrain(params, &lists[0], &lists[1]);
        }
    }
    match dice.roll(20) {
        0 => params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth],
        1 => {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]
        }
        2 => {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any];
            differs.any_usage = true;
        }
        3 => params.custom_extensions.push(extension(&[1, 2, 3], true, &[5, 0])),
        4 => valid(params, now() - 2 * HOUR, now() - HOUR),
        5 => valid(params, now() + HOUR, now() + 2 * HOUR),
        6 => params.key_usages = vec![rcgen::KeyUsagePurpose::CrlSign],
        7 => params.is_ca = IsCa::ExplicitNoCa,
        8 => params.key_usages.clear(),
        _ => {}
    }
    shape_policies(params, dice);
    if dice.one_in(6) {
        let tag = dice.pick(&[0x80, 0x81]);
        let skip = [dice.roll(3) as u8];
        let value = der(0x30, &[&der(tag, &[&skip])]);
        params.custom_extensions.push(extension(POLICY_CONSTRAINTS, true, &value));
        differs.policy = true;
    }
    if dice.one_in(8) {
        let mapping = der(0x30, &[&policy(dice.roll(3) as u8), &policy(dice.roll(3) as u8)]);
        params.custom_extensions.push(extension(MAPPINGS, true, &der(0x30, &[&mapping])));
    }
    if dice.one_in(8) {
        params.custom_extensions.push(extension(INHIBIT_ANY, true, &[2, 1, dice.roll(3) as u8]));
    }
}

fn shape_policies(params: &mut CertificateParams, dice: &mut Dice) {
    let any = der(6, &[&[0x55, 0x1d, 0x20, 0]]);
    let mut list: Vec<_> = (0..3u8).filter(|_| dice.one_in(3)).map(|last| der(0x30, &[&policy(last)])).collect();
    if dice.one_in(4) {
        list.push(der(0x30, &[&any]));
    }
    if !list.is_empty() {
        let list: Vec<&[u8]> = list.iter().map(Vec::as_slice).collect();
        params.custom_extensions.push(extension(POLICIES, dice.one_in(2), &der(0x30, &list)));
    }
}

fn subtree(dice: &mut Dice) -> (u8, Vec<u8>) {
    match dice.roll(6) {
        0..=2 => (URI, dice.pick(&HOSTS).into()),
        3 => (DNS, dice.pick(&HOSTS).into()),
        4 => (EMAIL, if dice.one_in(2) { dice.pick(&MAILBOXES).into() } else { dice.pick(&HOSTS).into() }),
        _ => (IP, dice.pick(&BLOCKS).to_vec()),
    }
}

/// The path alone: that every certificate of a chain must be a CA is a rule of our own.
fn ours(candidate: &Candidate) -> Result<(), String> {
    let bundle = candidate.bundle.as_deref().expect("a bundle");
    leads_to(&candidate.chain, bundle, now()).map_err(|rejection| rejection.to_string())
}

fn number(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).ok().map_or(usual, |text| text.parse().expect("a number"))
}

fn seconds() -> u64 {
    now().duration_since(UNIX_EPOCH).expect("a time").as_secs()
}

/// How many were compared, were taken by both, and differ for a reason that is known.
#[derive(Default, Debug)]
struct Score {
    compared: u64,
    taken: u64,
    explained: u64,
}

impl Score {
    fn count(&mut self, seed: u64, ours: Result<(), String>, theirs: &str, may_differ: bool) {
        self.compared += 1;
        self.taken += u64::from(ours.is_ok() && theirs == "ok");
        if ours.is_ok() != (theirs == "ok") {
            self.explained += 1;
            assert!(may_differ, "seed {seed}: {ours:?}, and the other says {theirs}");
        }
    }

    /// Chains that are refused by everybody would prove nothing.
    fn is_worth_it(&self) {
        writeln!(std::io::stdout(), "{self:?}").expect("it can be shown");
        assert!(self.taken * 10 > self.compared && self.explained * 5 < self.compared, "{self:?}");
    }
}

#[test]
#[ignore = "needs Go: just paths"]
fn go_judges_chains_alike() {
    let tool = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/cluster/tools/gopath");
    let mut go = Command::new("go");
    let go = go.args(["run", "."]).current_dir(tool);
    let mut go = go.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("go runs");
    let (mut input, mut answers) =
        (go.stdin.take().expect("a pipe"), BufReader::new(go.stdout.take().expect("one")).lines());
    let (from, mut score) = (number("SVID_CSI_SEED", 0), Score::default());
    for seed in from..from + number("SVID_CSI_CHAINS", 10_000) {
        let made = made(seed);
        let encoded = |all: &[rustls_pki_types::CertificateDer<'_>]| -> Vec<String> {
            all.iter().map(|der| STANDARD.encode(der)).collect()
        };
        let bundle = encoded(made.candidate.bundle.as_deref().expect("a bundle"));
        let question = serde_json::json!({"chain": encoded(&made.candidate.chain), "bundle": bundle, "at": seconds()});
        writeln!(input, "{question}").expect("it listens");
        let answer = answers.next().expect("an answer").expect("text");
        let may_differ = made.differs.host;
        score.count(seed, ours(&made.candidate), &answer, may_differ);
    }
    drop(input);
    assert!(go.wait().expect("it ends").success());
    score.is_worth_it();
}

fn pem(all: &[rustls_pki_types::CertificateDer<'_>]) -> String {
    svid_csi_core::identity::to_pem(all)
}

/// What OpenSSL says, for clients and servers.
fn openssl(folder: &Path, candidate: &Candidate) -> String {
    let write = |name: &str, text: String| {
        let mut file = File::create(folder.join(name)).expect("a file");
        file.write_all(text.as_bytes()).expect("room");
    };
    write("leaf", pem(&candidate.chain[..1]));
    write("chain", pem(&candidate.chain[1..]));
    write("bundle", pem(candidate.bundle.as_deref().expect("a bundle")));
    for purpose in ["sslserver", "sslclient"] {
        let at = seconds().to_string();
        let mut command = Command::new("openssl");
        command.current_dir(folder).args(["verify", "-no-CApath", "-no-CAstore", "-CAfile", "bundle"]);
        if candidate.chain.len() > 1 {
            command.args(["-untrusted", "chain"]);
        }
        let output = command.args(["-purpose", purpose, "-attime", &at, "leaf"]).output().expect("openssl runs");
        if !output.status.success() {
            return String::from_utf8_lossy(&output.stderr).replace('\n', " ");
        }
    }
    "ok".to_owned()
}

#[test]
#[ignore = "needs the openssl command"]
fn openssl_judges_chains_alike() {
    let folder = tempfile::tempdir().expect("a folder");
    let (from, mut score) = (number("SVID_CSI_SEED", 0), Score::default());
    for seed in from..from + number("SVID_CSI_CHAINS", 10_000) / 20 {
        let made = made(seed);
        let answer = openssl(folder.path(), &made.candidate);
        let may_differ = made.differs.any_usage || made.differs.policy || made.differs.wildcard;
        score.count(seed, ours(&made.candidate), &answer, may_differ);
    }
    score.is_worth_it();
}
