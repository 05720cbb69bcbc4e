//! Name constraints (RFC 5280, section 4.2.1.10): which names may appear in certificates below a CA.

use x509_parser::certificate::X509Certificate;

use super::extension::extension;
use super::fault::PathFault;
use super::names::{Incomparable, Name};
use crate::der::{Reader, SEQUENCE, only};
use crate::quoted::Quoted;

/// The constraints of one CA.
#[derive(Debug, Default)]
pub(super) struct Constraints<'a> {
    permitted: Vec<Name<'a>>,
    excluded: Vec<Name<'a>>,
}

impl<'a> Constraints<'a> {
    /// Reads the extension, if there is one; it applies whether critical or not.
    pub(super) fn read(certificate: &X509Certificate<'a>) -> Option<Self> {
        let Some(value) = extension(certificate, 30) else { return Some(Self::default()) };
        let mut lists = Reader::new(only(value, SEQUENCE)?);
        let permitted = lists.read_optional(0xa0)?.map_or(Some(Vec::new()), subtrees)?;
        let excluded = lists.read_optional(0xa1)?.map_or(Some(Vec::new()), subtrees)?;
        lists.end()?;
        (!permitted.is_empty() || !excluded.is_empty()).then_some(Self { permitted, excluded })
    }

    /// How many comparisons a name costs.
    pub(super) fn len(&self) -> usize {
        self.permitted.len() + self.excluded.len()
    }

    /// Checks a name of a certificate below the CA.
    pub(super) fn check(&self, name: &Name<'_>) -> Result<(), PathFault> {
        let shown = || Quoted::new(name.value);
        let incomparable = |Incomparable| PathFault::Incomparable { name: shown() };
        for excluded in self.excluded.iter().filter(|excluded| excluded.form == name.form) {
            if name.is_within(excluded).map_err(incomparable)? || name.is_wildcard_over(excluded) {
                return Err(PathFault::Excluded { name: shown() });
            }
        }
        let mut permitted = self.permitted.iter().filter(|permitted| permitted.form == name.form).peekable();
        if permitted.peek().is_none() {
            return Ok(());
        }
        for permitted in permitted {
            if name.is_within(permitted).map_err(incomparable)? {
                return Ok(());
            }
        }
        Err(PathFault::NotPermitted { name: shown() })
    }
}

/// A list of `GeneralSubtree`s, each without minimum and maximum, which no certificate may have.
fn subtrees(list: &[u8]) -> Option<Vec<Name<'_>>> {
    let (mut list, mut bases) = (Reader::new(list), Vec::new());
    while list.left() > 0 {
        let mut subtree = Reader::new(list.read(SEQUENCE)?);
        bases.push(Name::of(subtree.element()?));
        subtree.end()?;
    }
    Some(bases).filter(|bases| bases.iter().all(Name::is_constraint))
}
