//! Hierarchies of CAs, generated from a seed.

use std::collections::BTreeSet;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose,
    SanType,
};
use svid_csi_core::identity::Candidate;

use super::reasons::Reason;
use crate::forge::{Authority, HOUR, der, extension, now, uri, valid};
use crate::oracle::Rolls;
use crate::path::{DNS, INHIBIT_ANY, MAPPINGS, POLICIES, POLICY_CONSTRAINTS, URI, constrain, policy};

const EMAIL: u8 = 0x81;
const IP: u8 = 0x87;
const DIRECTORY: u8 = 0xa4;
const HOSTS: [&str; 6] = ["example.org", ".example.org", "sub.example.org", "other.org", ".org", "EXAMPLE.ORG"];
const TRUST_DOMAINS: [&str; 4] = ["example.org", "example.org", "sub.example.org", "other.org"];
const DNS_NAMES: [&str; 4] = ["example.org", "*.example.org", "*.example.org", "other.org"];
const COMMON_NAMES: [&str; 3] = ["a.example.org", "other.org", "web"];
const DIRECTORY_NAMES: [&str; 4] = ["level 1", "level 2", "web", "nothing"];
const MAILBOXES: [&str; 3] = ["a@example.org", "a@sub.example.org", "b@other.org"];
const BLOCKS: [[u8; 8]; 3] = [[10, 0, 0, 0, 255, 0, 0, 0], [10, 1, 0, 0, 255, 255, 0, 0], [0; 8]];

/// A chain and its bundle.
pub(super) struct Made {
    pub(super) candidate: Candidate,
    /// The parts that other programs read by their own rules.
    pub(super) traits: BTreeSet<Reason>,
}

/// The chain of that seed. In the points of `as_they_read`, it is written so that our reading is the same as theirs.
pub(super) fn made(seed: u64, as_they_read: &[Reason]) -> Made {
    let mut maker = Maker { dice: Rolls::of(seed), as_they_read, traits: BTreeSet::new() };
    let depth = maker.dice.roll(4);
    let mut chain = Vec::new();
    let root = Authority::root(|params| maker.shape_ca(params, 0));
    let mut bundle = vec![root.certificate.clone()];
    let mut last = root;
    for level in 1..=depth {
        let decoy = last.intermediate(|params| maker.shape_ca(params, level));
        let next = last.intermediate(|params| maker.shape_ca(params, level));
        if maker.dice.one_in(4) {
            chain.push(decoy.certificate);
        }
        if !maker.dice.one_in(40) {
            chain.push(next.certificate.clone());
        }
        last = next;
    }
    if maker.dice.one_in(20) {
        bundle[0] = Authority::root(|_| {}).certificate;
    }
    let mut candidate = last.leaf(|params| maker.shape_leaf(params));
    candidate.chain.extend(chain);
    candidate.bundle = Some(bundle);
    Made { candidate, traits: maker.traits }
}

struct Maker<'a> {
    dice: Rolls,
    as_they_read: &'a [Reason],
    traits: BTreeSet<Reason>,
}

impl Maker<'_> {
    /// Notes that another program reads this by its own rule, and returns whether to write it as that rule reads it.
    fn is_read_as_they_do(&mut self, reason: Reason) -> bool {
        self.traits.insert(reason);
        self.as_they_read.contains(&reason)
    }

    fn shape_leaf(&mut self, params: &mut CertificateParams) {
        params.use_authority_key_identifier_extension = true;
        params.subject_alt_names = vec![uri(&format!("spiffe://{}/a", self.dice.pick(&TRUST_DOMAINS)))];
        if self.dice.one_in(2) {
            let mut name = self.dice.pick(&DNS_NAMES).to_owned();
            if name.starts_with('*') && self.is_read_as_they_do(Reason::Wildcard) {
                name = name.replace('*', "any");
            }
            params.subject_alt_names.push(SanType::DnsName(name.try_into().expect("ASCII")));
        }
        if self.dice.one_in(4) {
            params.subject_alt_names.push(SanType::Rfc822Name(self.dice.pick(&MAILBOXES).try_into().expect("ASCII")));
        }
        if self.dice.one_in(4) {
            let address = self.dice.pick(&["10.1.2.3", "10.2.0.1", "11.0.0.1", "::1"]);
            params.subject_alt_names.push(SanType::IpAddress(address.parse().expect("an address")));
        }
        if self.dice.one_in(3) {
            let name = self.dice.pick(&COMMON_NAMES);
            params.distinguished_name.push(DnType::CommonName, name);
            let has_dns_name = params.subject_alt_names.iter().any(|name| matches!(name, SanType::DnsName(_)));
            if name.contains('.') && !has_dns_name && self.is_read_as_they_do(Reason::CommonName) {
                params.subject_alt_names.push(SanType::DnsName(name.try_into().expect("ASCII")));
            }
        }
        self.shape_policies(params);
        if self.dice.one_in(40) {
            params.custom_extensions.push(extension(&[1, 2, 3], true, &[5, 0]));
        }
    }

    fn shape_ca(&mut self, params: &mut CertificateParams, level: u64) {
        // OpenSSL tries one certificate of each name, which it finds by this identifier.
        params.use_authority_key_identifier_extension = true;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("level {level}"));
        params.subject_alt_names = match self.dice.roll(3) {
            0 => vec![uri(&format!("spiffe://{}", self.dice.pick(&TRUST_DOMAINS)))],
            _ => Vec::new(),
        };
        if self.dice.one_in(4) {
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(self.dice.roll(4) as u8));
        }
        if self.dice.one_in(3) {
            let lists = [(); 2].map(|()| (0..self.dice.roll(4)).flat_map(|_| self.subtrees()).collect::<Vec<_>>());
            let has_directory = lists.iter().flatten().any(|(form, _)| *form == DIRECTORY);
            if has_directory && self.is_read_as_they_do(Reason::DirectoryNames) {
                params.custom_extensions.push(extension(&[1, 2, 4], true, &[5, 0]));
            }
            let lists =
                lists.each_ref().map(|list| list.iter().map(|(form, value)| (*form, &value[..])).collect::<Vec<_>>());
            if lists.iter().any(|list| !list.is_empty()) {
                constrain(params, &lists[0], &lists[1]);
            }
        }
        match self.dice.roll(20) {
            0 => params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth],
            1 => {
                params.extended_key_usages =
                    vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]
            }
            2 => {
                let is_none = self.is_read_as_they_do(Reason::AnyUsage);
                let usage = if is_none { ExtendedKeyUsagePurpose::CodeSigning } else { ExtendedKeyUsagePurpose::Any };
                params.extended_key_usages = vec![usage];
            }
            3 => params.custom_extensions.push(extension(&[1, 2, 3], true, &[5, 0])),
            4 => valid(params, now() - 2 * HOUR, now() - HOUR),
            5 => valid(params, now() + HOUR, now() + 2 * HOUR),
            6 => params.key_usages = vec![KeyUsagePurpose::CrlSign],
            7 => params.is_ca = IsCa::ExplicitNoCa,
            8 => params.key_usages.clear(),
            _ => {}
        }
        self.shape_policies(params);
        if self.dice.one_in(6) {
            let tag = self.dice.pick(&[0x80, 0x81]);
            let skip = [self.dice.roll(3) as u8];
            let value = der(0x30, &[&der(tag, &[&skip])]);
            if !self.is_read_as_they_do(Reason::RequiredPolicy) {
                params.custom_extensions.push(extension(POLICY_CONSTRAINTS, true, &value));
            }
        }
        if self.dice.one_in(8) {
            let mapping = der(0x30, &[&policy(self.dice.roll(3) as u8), &policy(self.dice.roll(3) as u8)]);
            params.custom_extensions.push(extension(MAPPINGS, true, &der(0x30, &[&mapping])));
        }
        if self.dice.one_in(8) {
            params.custom_extensions.push(extension(INHIBIT_ANY, true, &[2, 1, self.dice.roll(3) as u8]));
        }
    }

    fn subtrees(&mut self) -> Vec<(u8, Vec<u8>)> {
        let (form, base) = subtree(&mut self.dice);
        let is_host = [URI, EMAIL].contains(&form) && base[0] != b'.' && !base.contains(&b'@');
        if is_host && self.is_read_as_they_do(Reason::HostsBelow) {
            let below = [b".", &base[..]].concat();
            return vec![(form, base), (form, below)];
        }
        vec![(form, base)]
    }

    fn shape_policies(&mut self, params: &mut CertificateParams) {
        let any = der(6, &[&[0x55, 0x1d, 0x20, 0]]);
        let mut list: Vec<_> =
            (0..3u8).filter(|_| self.dice.one_in(3)).map(|last| der(0x30, &[&policy(last)])).collect();
        if self.dice.one_in(4) {
            list.push(der(0x30, &[&any]));
        }
        if !list.is_empty() {
            let list: Vec<&[u8]> = list.iter().map(Vec::as_slice).collect();
            params.custom_extensions.push(extension(POLICIES, self.dice.one_in(2), &der(0x30, &list)));
        }
    }
}

fn subtree(dice: &mut Rolls) -> (u8, Vec<u8>) {
    match dice.roll(9) {
        0..=2 => (URI, dice.pick(&HOSTS).into()),
        3..=5 => (DNS, dice.pick(&HOSTS).into()),
        6 => (EMAIL, if dice.one_in(2) { dice.pick(&MAILBOXES).into() } else { dice.pick(&HOSTS).into() }),
        7 => (DIRECTORY, directory_name(dice.pick(&DIRECTORY_NAMES))),
        _ => (IP, dice.pick(&BLOCKS).to_vec()),
    }
}

fn directory_name(common_name: &str) -> Vec<u8> {
    let attribute = der(0x30, &[&der(6, &[&[0x55, 4, 3]]), &der(0x0c, &[common_name.as_bytes()])]);
    der(0x30, &[&der(0x31, &[&attribute])])
}
