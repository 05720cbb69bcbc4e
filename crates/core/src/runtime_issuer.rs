//! The issuer that a ConfigMap names at runtime, instead of the one in the flags.

use std::collections::BTreeMap;
use std::fmt;

use crate::cert_request::IssuerRef;

const NAME: &str = "issuer-name";
const KIND: &str = "issuer-kind";
const GROUP: &str = "issuer-group";

/// Which ConfigMap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigMapPlace {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for ConfigMapPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Why a ConfigMap does not name an issuer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the ConfigMap {place} names no issuer: it lacks a value for {}; it needs {NAME}, {KIND} and {GROUP}", .missing.join(" and "))]
pub struct IncompleteIssuer {
    /// Which ConfigMap.
    pub place: ConfigMapPlace,
    /// The keys without a value.
    pub missing: Vec<&'static str>,
}

/// Reads the issuer. As with the predecessor, all three keys must be there and have a value: while a ConfigMap is
/// written key by key, it must not briefly name an issuer of the default kind.
///
/// # Errors
/// [`IncompleteIssuer`], with all missing keys.
pub fn read(place: &ConfigMapPlace, data: &BTreeMap<String, String>) -> Result<IssuerRef, IncompleteIssuer> {
    let value = |key: &str| data.get(key).filter(|value| !value.is_empty());
    let (Some(name), Some(kind), Some(group)) = (value(NAME), value(KIND), value(GROUP)) else {
        let missing = [NAME, KIND, GROUP].into_iter().filter(|key| value(key).is_none()).collect();
        return Err(IncompleteIssuer { place: place.clone(), missing });
    };
    Ok(IssuerRef { name: name.clone(), kind: kind.clone(), group: group.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys_of(pairs: &[(&str, &str)]) -> Result<[String; 3], String> {
        let place = ConfigMapPlace { namespace: "cert-manager".to_owned(), name: "issuance".to_owned() };
        let data = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let IssuerRef { name, kind, group } = read(&place, &data).map_err(|error| error.to_string())?;
        Ok([name, kind, group])
    }

    #[test]
    fn all_three_keys_make_an_issuer() {
        let all = [(NAME, "ca"), (KIND, "Issuer"), (GROUP, "example.org"), ("other", "x")];
        assert_eq!(keys_of(&all), Ok(["ca", "Issuer", "example.org"].map(str::to_owned)));
    }

    #[test]
    fn every_key_without_a_value_is_named() {
        let needs = "it needs issuer-name, issuer-kind and issuer-group";
        for (data, lacks) in [
            (&[(NAME, "ca"), (KIND, "Issuer")][..], "issuer-group"),
            (&[(NAME, ""), (KIND, "Issuer"), (GROUP, "example.org")], "issuer-name"),
            (&[(GROUP, "example.org")], "issuer-name and issuer-kind"),
            (&[], "issuer-name and issuer-kind and issuer-group"),
        ] {
            let expected =
                format!("the ConfigMap cert-manager/issuance names no issuer: it lacks a value for {lacks}; {needs}");
            assert_eq!(keys_of(data), Err(expected));
        }
    }
}
