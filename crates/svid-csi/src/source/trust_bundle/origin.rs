//! The origin of a trust bundle.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use svid_csi_core::runtime_issuer::ConfigMapPlace;

/// An origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BundleSource {
    /// A file on the node (`--source-ca-bundle`).
    File(PathBuf),
    /// A key of a ConfigMap (`--trust-bundle configmap:NAMESPACE/NAME/KEY`).
    ConfigMap {
        /// The ConfigMap.
        place: ConfigMapPlace,
        /// The key in it.
        key: String,
    },
    /// A ClusterTrustBundle (`--trust-bundle clustertrustbundle:NAME`).
    ClusterTrustBundle(String),
}

/// The text does not name an object for a trust bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} does not name a trust bundle; write configmap:NAMESPACE/NAME/KEY or clustertrustbundle:NAME")]
pub struct UnknownBundleSource(String);

impl FromStr for BundleSource {
    type Err = UnknownBundleSource;

    /// Reads `configmap:NAMESPACE/NAME/KEY` or `clustertrustbundle:NAME`. Files have a flag of their own.
    fn from_str(text: &str) -> Result<Self, UnknownBundleSource> {
        let unknown = || UnknownBundleSource(text.to_owned());
        let (kind, rest) = text.split_once(':').ok_or_else(unknown)?;
        let parts: Vec<String> = rest.split('/').map(str::to_owned).collect();
        if parts.iter().any(String::is_empty) {
            return Err(unknown());
        }
        match (kind, <[String; 3]>::try_from(parts)) {
            ("configmap", Ok([namespace, name, key])) => {
                Ok(Self::ConfigMap { place: ConfigMapPlace { namespace, name }, key })
            }
            ("clustertrustbundle", Err(parts)) if parts.len() == 1 => Ok(Self::ClusterTrustBundle(rest.to_owned())),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for BundleSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "the file {} (--source-ca-bundle)", path.display()),
            Self::ConfigMap { place, key } => write!(f, "the key {key} of the ConfigMap {place} (--trust-bundle)"),
            Self::ClusterTrustBundle(name) => write!(f, "the ClusterTrustBundle {name} (--trust-bundle)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_named_by_their_kind() {
        for (text, expected) in [
            ("configmap:shop/roots/ca.crt", "the key ca.crt of the ConfigMap shop/roots (--trust-bundle)"),
            ("clustertrustbundle:example.org:ca:v1", "the ClusterTrustBundle example.org:ca:v1 (--trust-bundle)"),
        ] {
            assert_eq!(text.parse::<BundleSource>().unwrap().to_string(), expected);
        }
        for text in [
            "",
            "roots",
            "/etc/ca.crt",
            "file:/etc/ca.crt",
            "configmap:",
            "configmap:roots",
            "configmap:shop/roots",
            "configmap:shop/roots/",
            "configmap:/roots/ca.crt",
            "configmap:shop/roots/ca.crt/x",
            "clustertrustbundle:",
            "clustertrustbundle:a/b",
            "clustertrustbundle:a/b/c",
            "ConfigMap:shop/roots/ca.crt",
        ] {
            let error = text.parse::<BundleSource>().expect_err(text).to_string();
            assert!(error.starts_with(&format!("{text:?} does not name a trust bundle; write configmap:")), "{error}");
        }
    }
}
