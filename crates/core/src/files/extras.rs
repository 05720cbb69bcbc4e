//! The files of a volume other than certificate, key and bundle.

use serde::{Deserialize, Serialize};

use super::{FileName, FileNames, SameName, credentials};
use crate::jwt::Audiences;
use crate::pkcs12::Alias;

/// The file of the JWT bundles, if tokens are requested and no other name is.
pub const JWT_BUNDLE_NAME: &str = "jwt_bundles.json";

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
    /// Key and chain in one PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential_bundle: Option<FileName>,
    /// The hints of all SVIDs. With it, each SVID but the first has a credential bundle with its number in front of the name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hints: Option<FileName>,
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
    /// The SPIFFE bundle map.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bundle_map: Option<FileName>,
    /// Which trust domains have a bundle in a file that is named after them.
    #[serde(skip_serializing_if = "PerDomain::is_usual")]
    pub per_domain: PerDomain,
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
    /// `separate`: each is in a file of its own, see [`PerDomain`], and in the bundle map.
    #[default]
    Separate,
    /// `map`: they are in the bundle map only.
    Map,
    /// `merged`: they are in the bundle, which then no longer shows the trust domain that each CA may vouch for.
    Merged,
    /// `none`: they are left out.
    None,
}

/// Which trust domains have a bundle in a file that is named after them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PerDomain {
    /// Federated ones, in `federated.<trust domain>.pem`.
    #[default]
    Federated,
    /// The pod's own too, in `<trust domain>.spiffe-trust-bundle.x509.pem` (SPIFFE Filesystem Delivery, section 2.2).
    Every,
}

impl PerDomain {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_usual(&self) -> bool {
        *self == PerDomain::Federated
    }
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

    /// Whether any of the files continues the one that it replaces.
    pub fn continue_earlier(&self) -> bool {
        self.need_jwt() || self.bundle_map.is_some()
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
        self.named().count() + usize::from(self.per_domain == PerDomain::Every)
    }

    /// Whether a file of that name could be one of those whose names and number depend on the identity.
    fn could_name(&self, name: &FileName) -> bool {
        self.per_domain.could_name(name) || credentials::is_numbered(self, name)
    }

    fn named(&self) -> impl Iterator<Item = (&'static str, &FileName)> {
        let tokens = self.tokens.iter().enumerate().map(|(index, token)| {
            let what = if index == 0 { "JWT-SVID" } else { "next JWT-SVID" };
            (what, &token.name)
        });
        let others = [
            ("JWT bundle", &self.jwt_bundle),
            ("combined certificate and key", &self.combined),
            ("credential bundle", &self.credential_bundle),
            ("list of hints", &self.hints),
            ("key store", &self.key_store),
            ("trust store", &self.trust_store),
            ("SPIFFE bundle document", &self.bundle_json),
            ("SPIFFE bundle map", &self.bundle_map),
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

/// The names that could be those of the bundle of a trust domain, or of a further SVID.
pub fn reserved_names<'a>(names: &'a FileNames, extras: &'a Extras) -> impl Iterator<Item = &'a FileName> {
    let may_come = extras.federated == Federated::Separate || extras.per_domain == PerDomain::Every;
    let all = names.named().chain(extras.named()).map(|(_, name)| name);
    all.filter(move |name| may_come && extras.could_name(name))
}

/// Whether a volume may show a file of that name.
pub fn shows(names: &FileNames, extras: &Extras, name: &str) -> bool {
    names.named().chain(extras.named()).any(|(_, known)| known.as_str() == name)
        || FileName::parse(name).is_ok_and(|name| extras.could_name(&name))
}

/// The default name of the file of the token with that number.
pub fn token_name(index: usize) -> FileName {
    FileName::parse(&format!("jwt_svid_{index}.token")).expect("a plain file name")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> FileName {
        FileName::parse(name).expect("a name")
    }

    fn names() -> FileNames {
        FileNames { cert: Some(name("tls.crt")), key: Some(name("tls.key")), bundle: Some(name("ca.crt")) }
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
        let of_svids = Extras {
            credential_bundle: Some(name("c.pem")),
            hints: Some(name("hints.json")),
            per_domain: PerDomain::Every,
            ..Extras::default()
        };
        for (combined, count) in
            [("1.c.pem", 1), ("x.spiffe-trust-bundle.x509.pem", 1), ("01.c.pem", 0), ("0.c.pem", 0)]
        {
            let extras = Extras { combined: Some(name(combined)), ..of_svids.clone() };
            assert_eq!(reserved_names(&names(), &extras).count(), count, "{combined}");
            assert_eq!(shows(&names(), &of_svids, combined), count == 1, "{combined}");
        }
    }

    #[test]
    fn is_recorded_briefly() {
        let json = serde_json::to_string(&Extras::default()).expect("JSON");
        assert_eq!(json, r#"{"federated":"separate","intermediates":"with-cert"}"#);
        assert_eq!(serde_json::from_str::<Extras>("{}").expect("extras"), Extras::default());
    }
}
