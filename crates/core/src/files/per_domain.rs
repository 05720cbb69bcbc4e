//! Files that are named after a trust domain.

use aws_lc_rs::digest;

use super::extras::PerDomain;
use super::layout::SPIFFE_BUNDLE_SUFFIX;
use super::{FileName, MAX_NAME_BYTES};
use crate::identity::hex;
use crate::spiffe_id::TrustDomain;

/// The text before and after the name of the trust domain.
type Around = (&'static str, &'static str);

impl PerDomain {
    const fn around(self) -> Around {
        match self {
            PerDomain::Federated => ("federated.", ".pem"),
            PerDomain::Every => ("", SPIFFE_BUNDLE_SUFFIX),
        }
    }

    /// Whether a file of that name could be the bundle of a trust domain.
    pub(super) fn could_name(self, name: &FileName) -> bool {
        let (before, after) = self.around();
        let rest = name.as_str().strip_prefix(before);
        rest.and_then(|rest| rest.strip_suffix(after)).is_some_and(|trust_domain| !trust_domain.is_empty())
    }

    /// The file of a trust domain's bundle. The name of a long trust domain is cut, and ends with a part of its SHA-256
    /// instead.
    pub(super) fn name(self, trust_domain: &TrustDomain) -> FileName {
        let (before, after) = self.around();
        let most = MAX_NAME_BYTES - before.len() - after.len();
        let name = trust_domain.as_str();
        let middle = if name.len() <= most {
            name.to_owned()
        } else {
            let digest = digest::digest(&digest::SHA256, name.as_bytes());
            // Not a character of trust domains, so that no other one has this name.
            format!("{}~{}", &name[..most - 33], hex(&digest.as_ref()[..16]))
        };
        // The characters of trust domains leave one name that no file can have: one that begins with `..`.
        let name = format!("{before}{middle}{after}");
        let hidden = || FileName::parse(&format!("~{}", &name[1..])).expect("it has no slash and fits");
        FileName::parse(&name).unwrap_or_else(|_| hidden())
    }
}

/// The file of a federated trust domain's bundle: `federated.<trust domain>.pem`.
pub fn federated_name(trust_domain: &TrustDomain) -> FileName {
    PerDomain::Federated.name(trust_domain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_trust_domain_is_in_the_name() {
        let name = |per_domain: PerDomain, name: &str| per_domain.name(&TrustDomain::parse(name).unwrap());
        assert_eq!(name(PerDomain::Federated, "example.org").as_str(), "federated.example.org.pem");
        assert_eq!(name(PerDomain::Every, "example.org").as_str(), "example.org.spiffe-trust-bundle.x509.pem");
        assert_eq!(name(PerDomain::Every, "..a").as_str(), "~.a.spiffe-trust-bundle.x509.pem", "not the driver's own");
    }

    proptest! {
        #[test]
        fn every_trust_domain_has_a_file_of_its_own(
            a in "[a-z0-9._-]{1,255}",
            b in "[a-z]{220,255}",
            c in "[a-z]{220,255}",
            every in any::<bool>(),
        ) {
            let per_domain = if every { PerDomain::Every } else { PerDomain::Federated };
            let [a, b, c] = [a, b, c].map(|name| TrustDomain::parse(&name).expect("a name"));
            for trust_domain in [&a, &b, &c] {
                let name = per_domain.name(trust_domain);
                prop_assert!(per_domain.could_name(&name) && name.as_str().len() <= MAX_NAME_BYTES);
            }
            prop_assert_eq!(per_domain.name(&b) == per_domain.name(&c), b == c);
        }
    }
}
