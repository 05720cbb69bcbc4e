//! The files of a volume other than certificate, key and bundle.

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

use super::{FileName, FileNames, MAX_NAME_BYTES, SameName};
use crate::jwt::Audiences;
use crate::pkcs12::Alias;
use crate::spiffe_id::TrustDomain;

/// The file of the JWT bundles, if tokens are requested and no other name is.
pub const JWT_BUNDLE_NAME: &str = "jwt_bundles.json";

const FEDERATED_PREFIX: &str = "federated.";
const FEDERATED_SUFFIX: &str = ".pem";

/// The files of a volume other than certificate, key and bundle, and the content of the bundle.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Extras {
    /// One JWT-SVID each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<TokenFile>,
    /// The JWT bundles, as a JSON object: the JWK set in base64, by the name of the trust domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt_bundle: Option<FileName>,
    /// Chain and key in one PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub combined: Option<FileName>,
    /// Key and chain as PKCS#12.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_store: Option<FileName>,
    /// The name of the key in it.
    #[serde(skip_serializing_if = "Alias::is_usual")]
    pub alias: Alias,
    /// The trust bundle as PKCS#12.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust_store: Option<FileName>,
    /// Whether the PKCS#12 files have a password chosen by the pod, which is stored separately.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub own_password: bool,
    /// The SPIFFE bundle document.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bundle_json: Option<FileName>,
    /// Where the bundles of federated trust domains go.
    pub federated: Federated,
    /// Where intermediate certificates go.
    pub intermediates: Intermediates,
}

/// A file with a JWT-SVID.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenFile {
    /// The only audience of the token: with several, each recipient could use the token with the others.
    pub audience: Audiences,
    /// The name of the file.
    pub name: FileName,
}

/// Where the bundles of federated trust domains go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Federated {
    /// `separate`: each is in a file of its own, see [`federated_name`].
    #[default]
    Separate,
    /// `merged`: they are in the bundle, which then no longer shows the trust domain that each CA may vouch for.
    Merged,
    /// `none`: they are left out.
    None,
}

/// Where intermediate certificates go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Intermediates {
    /// `with-cert`: after the leaf, the order in which TLS sends them.
    #[default]
    WithCert,
    /// `with-bundle`: after the CA certificates, for software that accepts only one certificate.
    WithBundle,
}

impl Extras {
    /// Whether any of the files is obtained from the issuer as a JWT.
    pub fn need_jwt(&self) -> bool {
        !self.tokens.is_empty() || self.jwt_bundle.is_some() || self.bundle_json.is_some()
    }

    /// Whether any of the files has a password.
    pub fn need_password(&self) -> bool {
        self.key_store.is_some() || self.trust_store.is_some()
    }

    /// Whether that is the file of a token, or of the JWT bundles.
    pub(super) fn is_jwt(&self, name: &FileName) -> bool {
        self.jwt_bundle.as_ref() == Some(name) || self.tokens.iter().any(|token| token.name == *name)
    }

    /// The minimum number of files; each federated trust domain may add one.
    pub fn count(&self) -> usize {
        self.named().count()
    }

    fn named(&self) -> impl Iterator<Item = (&'static str, &FileName)> {
        let tokens = self.tokens.iter().enumerate().map(|(index, token)| {
            let what = if index == 0 { "JWT-SVID" } else { "next JWT-SVID" };
            (what, &token.name)
        });
        let others = [
            ("JWT bundle", &self.jwt_bundle),
            ("combined certificate and key", &self.combined),
            ("key store", &self.key_store),
            ("trust store", &self.trust_store),
            ("SPIFFE bundle document", &self.bundle_json),
        ];
        tokens.chain(others.into_iter().filter_map(|(what, name)| Some((what, name.as_ref()?))))
    }
}

/// The files of a volume that have the name of an earlier one.
pub fn same_names(names: &FileNames, extras: &Extras) -> Vec<SameName> {
    let mut seen: Vec<(&'static str, &FileName)> = Vec::new();
    let mut same = Vec::new();
    for (second, name) in names.named().chain(extras.named()) {
        match seen.iter().find(|(_, earlier)| *earlier == name) {
            Some((first, _)) => same.push(SameName { first, second, name: name.clone() }),
            None => seen.push((second, name)),
        }
    }
    same
}

/// The names that could be those of a federated bundle.
pub fn reserved_names<'a>(names: &'a FileNames, extras: &'a Extras) -> impl Iterator<Item = &'a FileName> {
    let separate = extras.federated == Federated::Separate;
    let all = names.named().chain(extras.named()).map(|(_, name)| name);
    all.filter(move |name| separate && is_federated_name(name))
}

/// Whether a volume may show a file of that name.
pub fn shows(names: &FileNames, extras: &Extras, name: &str) -> bool {
    names.named().chain(extras.named()).any(|(_, known)| known.as_str() == name)
        || FileName::parse(name).is_ok_and(|name| is_federated_name(&name))
}

fn is_federated_name(name: &FileName) -> bool {
    let rest = name.as_str().strip_prefix(FEDERATED_PREFIX);
    rest.and_then(|rest| rest.strip_suffix(FEDERATED_SUFFIX)).is_some_and(|trust_domain| !trust_domain.is_empty())
}

/// The file of a federated trust domain's bundle: `federated.<trust domain>.pem`. The name of a long trust domain is cut,
/// and ends with a part of its SHA-256 instead.
pub fn federated_name(trust_domain: &TrustDomain) -> FileName {
    const MOST: usize = MAX_NAME_BYTES - FEDERATED_PREFIX.len() - FEDERATED_SUFFIX.len();
    let name = trust_domain.as_str();
    let middle = if name.len() <= MOST {
        name.to_owned()
    } else {
        let digest = digest::digest(&digest::SHA256, name.as_bytes());
        // This character cannot be part of a trust domain, so that no other trust domain has this name.
        format!("{}~{}", &name[..MOST - 33], crate::identity::hex(&digest.as_ref()[..16]))
    };
    FileName::parse(&format!("{FEDERATED_PREFIX}{middle}{FEDERATED_SUFFIX}")).expect("it has no slash and fits")
}

/// The default name of the file of the token with that number.
pub fn token_name(index: usize) -> FileName {
    FileName::parse(&format!("jwt_svid_{index}.token")).expect("a plain file name")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(name: &str) -> FileName {
        FileName::parse(name).expect("a name")
    }

    fn names() -> FileNames {
        FileNames { cert: name("tls.crt"), key: name("tls.key"), bundle: Some(name("ca.crt")) }
    }

    fn token(file: &str) -> TokenFile {
        TokenFile { audience: Audiences::new(vec!["a".to_owned()]).expect("an audience"), name: name(file) }
    }

    #[test]
    fn every_pair_of_files_with_the_same_name_is_found() {
        let extras = Extras {
            tokens: vec![token("t"), token("t")],
            jwt_bundle: Some(name("ca.crt")),
            combined: Some(name("tls.key")),
            key_store: Some(name("store.p12")),
            trust_store: Some(name("store.p12")),
            bundle_json: Some(name("t")),
            ..Extras::default()
        };
        let found: Vec<_> = same_names(&names(), &extras).iter().map(ToString::to_string).collect();
        let text =
            |first, second, file| format!("the {first} and the {second} cannot both be in a file named `{file}`");
        let expected = [
            text("JWT-SVID", "next JWT-SVID", "t"),
            text("trust bundle", "JWT bundle", "ca.crt"),
            text("key", "combined certificate and key", "tls.key"),
            text("key store", "trust store", "store.p12"),
            text("JWT-SVID", "SPIFFE bundle document", "t"),
        ];
        assert_eq!(found, expected);
        assert_eq!(same_names(&names(), &Extras::default()), []);
    }

    #[test]
    fn names_of_federated_bundles_are_reserved() {
        let named = |combined: &str, federated| {
            let extras = Extras { combined: Some(name(combined)), federated, ..Extras::default() };
            reserved_names(&names(), &extras).count()
        };
        assert_eq!(named("federated.other.org.pem", Federated::Separate), 1);
        assert_eq!(named("federated.other.org.pem", Federated::None), 0);
        for free in ["federated.pem", "federated.a.crt", "my-federated.a.pem"] {
            assert_eq!(named(free, Federated::Separate), 0, "{free}");
        }
    }

    #[test]
    fn is_recorded_briefly() {
        let json = serde_json::to_string(&Extras::default()).expect("JSON");
        assert_eq!(json, r#"{"federated":"separate","intermediates":"with-cert"}"#);
        assert_eq!(serde_json::from_str::<Extras>("{}").expect("extras"), Extras::default());
    }

    proptest! {
        #[test]
        fn every_trust_domain_has_a_file_of_its_own(a in "[a-z0-9._-]{1,255}", b in "[a-z]{235,255}", c in "[a-z]{235,255}") {
            let [a, b, c] = [a, b, c].map(|name| TrustDomain::parse(&name).expect("a name"));
            for trust_domain in [&a, &b, &c] {
                let name = federated_name(trust_domain);
                prop_assert!(is_federated_name(&name) && name.as_str().len() <= MAX_NAME_BYTES);
            }
            prop_assert_eq!(federated_name(&b) == federated_name(&c), b == c);
        }
    }
}
