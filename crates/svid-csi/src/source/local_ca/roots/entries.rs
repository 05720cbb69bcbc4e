//! The entries of the other nodes, each with its last good text.

use std::collections::BTreeMap;

use svid_csi_core::ca::Authorities;
use svid_csi_core::spiffe_id::TrustDomain;
use tracing::error;

use crate::telemetry::report;
use crate::telemetry::reported::Reported;

/// The maximum number of nodes whose entries are read, this one included: about as many as fit into a ConfigMap.
const MOST: usize = 1000;

/// The entries of the other nodes.
#[derive(Debug)]
pub(super) struct Entries {
    own: String,
    trust_domain: TrustDomain,
    others: BTreeMap<String, Entry>,
    /// The number of entries that were not read.
    beyond: usize,
}

#[derive(Debug, Default)]
struct Entry {
    /// The last text that was seen.
    text: String,
    good: Option<Good>,
    /// Replaces `good` once it is stored.
    next: Option<Good>,
    trouble: Reported,
}

#[derive(Debug)]
struct Good {
    text: String,
    authorities: Authorities,
}

impl Entries {
    /// None yet.
    pub(super) fn new(own: &str, trust_domain: &TrustDomain) -> Self {
        Self { own: own.to_owned(), trust_domain: trust_domain.clone(), others: BTreeMap::new(), beyond: 0 }
    }

    /// Whether known entries are missing, and this node's as well. If it is unknown which there were, some may be missing.
    pub(super) fn are_swept_away(&self, entries: &BTreeMap<String, String>, is_unknown: bool) -> bool {
        let may_lack = || is_unknown || self.others.keys().any(|node| !entries.contains_key(node));
        !entries.contains_key(&self.own) && may_lack()
    }

    /// Takes the current entries, which are trusted once they are stored, see [`kept`](Self::kept). Broken ones keep
    /// their last good text, and are logged once. Returns whether the good ones have changed.
    pub(super) fn take(&mut self, entries: &BTreeMap<String, String>) -> bool {
        let mut changed = false;
        let mut beyond = 0;
        for (node, text) in entries.iter().filter(|(node, _)| **node != self.own) {
            if !self.others.contains_key(node) && self.others.len() + 1 >= MOST {
                beyond += 1;
                continue;
            }
            changed |= self.others.entry(node.clone()).or_default().take(node, text, &self.trust_domain);
        }
        if beyond > self.beyond {
            error!(entries = beyond, "too many nodes: only {MOST} nodes are trusted; pods on other nodes are not");
        }
        self.beyond = beyond;
        changed
    }

    /// Forgets nodes that no longer have an entry. Returns whether any of these was good.
    pub(super) fn keep_only(&mut self, entries: &BTreeMap<String, String>) -> bool {
        let count = |entries: &Self| entries.others.values().filter(|entry| entry.latest().is_some()).count();
        let before = count(self);
        self.others.retain(|node, _| entries.contains_key(node));
        count(self) != before
    }

    /// Records that the [`good_texts`](Self::good_texts) are stored, so that they are trusted.
    pub(super) fn kept(&mut self) {
        for entry in self.others.values_mut() {
            entry.good = entry.next.take().or(entry.good.take());
        }
    }

    /// Records that storing [`good_texts`](Self::good_texts) failed; keys that nodes have removed are nevertheless no
    /// longer trusted.
    pub(super) fn not_kept(&mut self) {
        for entry in self.others.values_mut() {
            if let (Some(good), Some(next)) = (&mut entry.good, &entry.next) {
                good.authorities.retain(&next.authorities);
            }
        }
    }

    /// The good and stored entries, by node.
    pub(super) fn good(&self) -> impl Iterator<Item = (&str, &Authorities)> + Clone {
        self.others.iter().filter_map(|(node, entry)| Some((node.as_str(), &entry.good.as_ref()?.authorities)))
    }

    /// The texts of the good ones, to be stored.
    pub(super) fn good_texts(&self) -> BTreeMap<String, String> {
        let good = self.others.iter().filter_map(|(node, entry)| Some((node, entry.latest()?)));
        good.map(|(node, good)| (node.clone(), good.text.clone())).collect()
    }

    /// The problem with the entries, if there is one.
    pub(super) fn trouble(&self) -> Option<String> {
        let broken = self.others.iter().filter_map(|(node, entry)| Some((node, entry.trouble.current()?)));
        let broken = broken.map(|(node, trouble)| format!("the entry {node} is broken: {trouble}"));
        let beyond = (self.beyond > 0).then(|| format!("{} entries exceed the limit of {MOST} nodes", self.beyond));
        let all: Vec<_> = beyond.into_iter().chain(broken.take(3)).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }
}

impl Entry {
    fn latest(&self) -> Option<&Good> {
        self.next.as_ref().or(self.good.as_ref())
    }

    fn take(&mut self, node: &str, text: &str, trust_domain: &TrustDomain) -> bool {
        if self.text == text {
            return false;
        }
        text.clone_into(&mut self.text);
        match Authorities::read(text.as_bytes(), trust_domain) {
            Ok(authorities) => {
                self.trouble.ends();
                let differs = self.latest().is_none_or(|good| good.authorities != authorities);
                self.next = Some(Good { text: text.to_owned(), authorities });
                differs
            }
            Err(error) => {
                let error = report::chain(&error);
                if self.trouble.is_new(error.clone()) {
                    let meanwhile = if self.latest().is_some() { "using its last good one" } else { "it is left out" };
                    error!(node, error, "a node's entry in the ConfigMap of --local-ca-roots is broken; {meanwhile}");
                }
                false
            }
        }
    }
}

#[cfg(test)]
mod tests;
