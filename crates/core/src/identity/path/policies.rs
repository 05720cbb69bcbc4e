//! Certificate policies (RFC 5280, section 6.1, as RFC 9618 has simplified it): whether a path has a policy if one of
//! its CAs requires one.
//!
//! No particular policy is required here, so neither the policy nor the mappings that led to it matter: only the last
//! level of the graph of valid policies is kept.

use std::collections::BTreeSet;

use x509_parser::certificate::X509Certificate;

use super::Certificate;
use super::extension::extension;
use crate::der::{INTEGER, OBJECT_IDENTIFIER, Reader, SEQUENCE, only};

const ANY: &[u8] = &[0x55, 0x1d, 0x20, 0];

/// The tags `[0]` and `[1]`, used instead of an integer's tag.
const IMPLICIT: [u8; 2] = [0x80, 0x81];

/// The policies in a certificate, named by the contents of their object identifiers.
#[derive(Debug, Default)]
pub(super) struct Policies<'a> {
    valid: Vec<&'a [u8]>,
    /// The issuer's policy, and the subject's equivalent.
    mappings: Vec<(&'a [u8], &'a [u8])>,
    require_explicit: Option<usize>,
    inhibit_mapping: Option<usize>,
    inhibit_any: Option<usize>,
}

impl<'a> Policies<'a> {
    /// Reads the four extensions (RFC 5280, sections 4.2.1.4, 4.2.1.5, 4.2.1.11 and 4.2.1.14).
    pub(super) fn read(certificate: &X509Certificate<'a>) -> Option<Self> {
        let mut policies = Self::default();
        if let Some(value) = extension(certificate, 32) {
            let mut list = Reader::new(only(value, SEQUENCE)?);
            while list.left() > 0 {
                policies.valid.push(Reader::new(list.read(SEQUENCE)?).read(OBJECT_IDENTIFIER)?);
            }
        }
        if let Some(value) = extension(certificate, 33) {
            let mut list = Reader::new(only(value, SEQUENCE)?);
            while list.left() > 0 {
                let mut mapping = Reader::new(list.read(SEQUENCE)?);
                policies.mappings.push((mapping.read(OBJECT_IDENTIFIER)?, mapping.read(OBJECT_IDENTIFIER)?));
                mapping.end()?;
            }
        }
        if let Some(value) = extension(certificate, 36) {
            let mut constraints = Reader::new(only(value, SEQUENCE)?);
            let numbers = IMPLICIT.map(|tag| constraints.read_optional(tag).and_then(optional_number));
            [policies.require_explicit, policies.inhibit_mapping] = [numbers[0]?, numbers[1]?];
            constraints.end()?;
        }
        if let Some(value) = extension(certificate, 54) {
            policies.inhibit_any = Some(number(only(value, INTEGER)?)?);
        }
        Some(policies)
    }
}

/// A number of certificates; all numbers that are too large for any path are equivalent.
fn number(integer: &[u8]) -> Option<usize> {
    let positive = integer.first().is_some_and(|first| *first < 0x80);
    let value = integer.iter().try_fold(0usize, |value, byte| Some(value.checked_mul(256)? + usize::from(*byte)));
    positive.then(|| value.unwrap_or(usize::MAX))
}

fn optional_number(integer: Option<&[u8]>) -> Option<Option<usize>> {
    integer.map_or(Some(None), |integer| number(integer).map(Some))
}

/// The number of certificates that may still be passed before a rule applies.
#[derive(Debug, Clone, Copy)]
struct Left(usize);

impl Left {
    fn limit(&mut self, most: Option<usize>) {
        self.0 = self.0.min(most.unwrap_or(usize::MAX));
    }

    fn pass(&mut self) {
        self.0 = self.0.saturating_sub(1);
    }
}

/// Whether a path, from the leaf up to and without its anchor, has a valid policy if it needs one.
pub(super) fn are_valid(path: &[&Certificate<'_>]) -> bool {
    let mut valid = BTreeSet::from([ANY]);
    let [mut explicit, mut mapping, mut any] = [Left(path.len() + 1); 3];
    for (below, certificate) in path.iter().enumerate().rev() {
        let Policies { valid: listed, mappings, require_explicit, inhibit_mapping, inhibit_any } =
            &certificate.policies;
        let is_leaf = below == 0;
        valid = narrowed(&valid, listed, any.0 > 0 || (!is_leaf && certificate.is_self_issued()));
        if is_leaf {
            explicit.pass();
            explicit.limit(require_explicit.filter(|most| *most == 0));
            break;
        }
        if mappings.iter().any(|(from, to)| *from == ANY || *to == ANY) {
            return false;
        }
        valid = mapped(valid, mappings, mapping.0 > 0);
        if !certificate.is_self_issued() {
            [&mut explicit, &mut mapping, &mut any].into_iter().for_each(Left::pass);
        }
        explicit.limit(*require_explicit);
        mapping.limit(*inhibit_mapping);
        any.limit(*inhibit_any);
    }
    explicit.0 > 0 || !valid.is_empty()
}

/// Section 6.1.3 (d) and (e): which policies of the issuer remain valid.
fn narrowed<'a>(valid: &BTreeSet<&'a [u8]>, listed: &[&'a [u8]], any_counts: bool) -> BTreeSet<&'a [u8]> {
    if any_counts && listed.contains(&ANY) {
        let more = listed.iter().filter(|_| valid.contains(ANY));
        return valid.iter().chain(more).copied().collect();
    }
    let is_valid = |policy: &&[u8]| valid.contains(policy) || valid.contains(ANY);
    listed.iter().filter(|policy| **policy != ANY).filter(|policy| is_valid(policy)).copied().collect()
}

/// Section 6.1.4 (b): the names of the policies below.
fn mapped<'a>(valid: BTreeSet<&'a [u8]>, mappings: &[(&'a [u8], &'a [u8])], may_map: bool) -> BTreeSet<&'a [u8]> {
    let had_any = valid.contains(ANY);
    let renamed = |policy: &&[u8]| mappings.iter().any(|(from, _)| from == policy);
    let to = mappings.iter().filter(|(from, _)| may_map && (had_any || valid.contains(from))).map(|(_, to)| *to);
    let to: Vec<_> = to.collect();
    valid.into_iter().filter(|policy| !renamed(policy)).chain(to).collect()
}
