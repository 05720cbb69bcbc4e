//! Why other programs reach another verdict on a chain. Each reason is a rule of RFC 5280, quoted in
//! docs/spiffe-conformance.md.

use std::collections::BTreeMap;
use std::io::Write;

use super::hierarchy::{Made, made as write};
use super::ours;

/// A rule that another program reads differently from the RFC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    /// Go: a host in a constraint on URIs or email addresses covers all hosts below it as well.
    HostsBelow,
    /// Go: constraints on directory names are not supported, so if they are critical the CA is refused.
    DirectoryNames,
    /// OpenSSL: the common name of a leaf without DNS names counts as one.
    CommonName,
    /// OpenSSL: `anyExtendedKeyUsage` of a CA does not cover TLS.
    AnyUsage,
    /// OpenSSL: policies count only if the caller asks for that.
    RequiredPolicy,
    /// OpenSSL: a wildcard is a name like any other, and does not cover other names.
    Wildcard,
}

/// All of them, by the program that reads them in this way.
pub(super) const OF_GO: &[Reason] = &[Reason::HostsBelow, Reason::DirectoryNames];
pub(super) const OF_OPENSSL: &[Reason] =
    &[Reason::CommonName, Reason::AnyUsage, Reason::RequiredPolicy, Reason::Wildcard];

impl Reason {
    /// Our words if we refuse a chain that the other accepts for this reason.
    fn our_words(self) -> Option<&'static str> {
        match self {
            Self::HostsBelow => Some("does not permit the name"),
            Self::RequiredPolicy => Some("requires a certificate policy"),
            Self::Wildcard => Some("excludes the name \"*."),
            Self::DirectoryNames | Self::CommonName | Self::AnyUsage => None,
        }
    }

    /// Their words if they refuse a chain that we accept.
    fn their_words(self) -> Option<&'static str> {
        match self {
            Self::HostsBelow => Some("is excluded by constraint"),
            Self::DirectoryNames => Some("unhandled critical extension"),
            Self::CommonName => Some("subtree violation"),
            Self::AnyUsage => Some("unsuitable certificate purpose"),
            Self::RequiredPolicy | Self::Wildcard => None,
        }
    }
}

/// How many chains were compared, how many both accepted, and which reasons explain the others.
#[derive(Debug)]
pub(super) struct Score {
    reasons: &'static [Reason],
    compared: u64,
    taken: u64,
    explained: BTreeMap<Vec<Reason>, u64>,
}

impl Score {
    /// With the reasons for which the other program may reach another verdict.
    pub(super) fn new(reasons: &'static [Reason]) -> Self {
        Self { reasons, compared: 0, taken: 0, explained: BTreeMap::new() }
    }

    /// Compares the verdicts on the chain of that seed. If they differ, reasons must explain it.
    pub(super) fn count(&mut self, seed: u64, made: &Made, theirs: &str) {
        const SHOWN: u64 = 3;
        let ours = ours(&made.candidate);
        self.compared += 1;
        self.taken += u64::from(ours.is_ok() && theirs == "ok");
        if ours.is_ok() == (theirs == "ok") {
            return;
        }
        let why = self.why(seed, made, &ours, theirs);
        let why = why.unwrap_or_else(|| panic!("seed {seed}: {ours:?}, and the other says {theirs}"));
        let times = self.explained.entry(why.clone()).or_default();
        *times += 1;
        if *times <= SHOWN {
            show(&format!("{why:?}, seed {seed}: {ours:?}, and the other says {theirs}"));
        }
    }

    /// The minimal set of reasons that explains it: with these rules read as the other program does, and all others as
    /// in the RFC, our verdict equals theirs. The program that refuses the chain must report one of them in its own
    /// words.
    fn why(&self, seed: u64, made: &Made, ours_as_it_stands: &Result<(), String>, theirs: &str) -> Option<Vec<Reason>> {
        let there: Vec<_> = self.reasons.iter().copied().filter(|reason| made.traits.contains(reason)).collect();
        let subset =
            |bits: u32| there.iter().enumerate().filter(move |(at, _)| bits >> at & 1 == 1).map(|(_, one)| *one);
        let mut subsets: Vec<Vec<_>> = (1..1u32 << there.len()).map(|bits| subset(bits).collect()).collect();
        subsets.sort_by_key(Vec::len);
        subsets.into_iter().find(|reasons| {
            let words = reasons.iter().filter_map(|reason| match ours_as_it_stands {
                Ok(()) => reason.their_words(),
                Err(_) => reason.our_words(),
            });
            let said = ours_as_it_stands.as_ref().err().map_or(theirs, String::as_str);
            let is_said = words.into_iter().any(|words| said.contains(words));
            let as_they_read = write(seed, reasons);
            is_said && ours(&as_they_read.candidate).is_ok() == (theirs == "ok")
        })
    }

    /// Chains that are all refused would prove nothing, and neither would a reason that never occurs.
    pub(super) fn is_worth_it(&self) {
        /// Among so many chains each reason occurs at least once.
        const ENOUGH: u64 = 1000;
        show(&format!("{self:?}"));
        let explained: u64 = self.explained.values().sum();
        assert!(self.taken * 10 > self.compared && explained * 5 < self.compared, "{self:?}");
        let occurs = |reason| self.explained.keys().any(|why| why == &[reason]);
        assert!(self.compared < ENOUGH || self.reasons.iter().all(|reason| occurs(*reason)), "{self:?}");
    }
}

#[test]
fn every_reason_is_documented_with_the_rule_that_explains_it() {
    let document = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/spiffe-conformance.md"));
    for reason in OF_GO.iter().chain(OF_OPENSSL) {
        assert!(document.contains(&format!("\n- `{reason:?}`, ")), "{reason:?}");
    }
}

fn show(line: &str) {
    writeln!(std::io::stdout(), "{line}").expect("it can be shown");
}
