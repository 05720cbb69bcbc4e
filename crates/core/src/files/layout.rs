//! Which files a volume holds, and how they are called: the conventions of the systems that applications are written for.

use std::fmt;
use std::str::FromStr;

use super::extras::{Extras, Federated, PerDomain};
use super::{FileName, FileNames};

/// The layout of a volume's files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Layout {
    /// `pem`: as csi-driver-spiffe and cert-manager name them; the operator may choose other names.
    #[default]
    Pem,
    /// `spiffe`: SPIFFE Filesystem Delivery.
    Spiffe,
    /// `pod-certificate`: a Kubernetes `podCertificate` volume with `credentialBundlePath`.
    PodCertificate,
    /// `gke`: managed workload identities of Google Kubernetes Engine.
    Gke,
    /// `spiffe-helper`: the names in the configuration that spiffe-helper documents.
    SpiffeHelper,
    /// `istio`: the certificates that an Istio proxy writes.
    Istio,
}

/// The contents of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The certificate, then its intermediate certificates.
    Chain,
    /// The private key, in PKCS#8.
    Key,
    /// The CA certificates of the pod's own trust domain.
    Bundle,
    /// The private key, then the certificate and its intermediate certificates.
    CredentialBundle,
    /// The CA certificates of a trust domain, one file for each.
    BundlePerDomain,
    /// The SPIFFE bundle map.
    BundleMap,
    /// The hint and the fingerprint of each SVID, each of which then has a credential bundle.
    Hints,
}

impl Format {
    /// The contents, in the words of the reference.
    pub fn holds(self) -> &'static str {
        match self {
            Format::Chain => "the certificate, then its intermediate certificates (PEM)",
            Format::Key => "the private key (PKCS#8, PEM)",
            Format::Bundle => "the CA certificates of the pod's own trust domain (PEM)",
            Format::CredentialBundle => {
                "the private key (PKCS#8), then the certificate and its intermediate certificates, without the trust anchor (PEM)"
            }
            Format::BundlePerDomain => {
                "the CA certificates of a trust domain, one file for each, its own included (PEM)"
            }
            Format::BundleMap => "the SPIFFE bundle map: the CA certificates of all trust domains (JSON)",
            Format::Hints => {
                "number, hint and fingerprint of each SVID (JSON); each SVID after the first has a credential bundle named `1.…`, `2.…`"
            }
        }
    }
}

/// A file of a layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayoutFile {
    /// Its name. If each trust domain has such a file, the name of the trust domain comes first.
    pub name: &'static str,
    /// The contents.
    pub format: Format,
}

/// A row of the table of layouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayoutRow {
    /// The layout.
    pub layout: Layout,
    /// Its name.
    pub name: &'static str,
    /// The system that these files come from.
    pub origin: &'static str,
    /// The files.
    pub files: &'static [LayoutFile],
    /// Where the bundles of federated trust domains go, unless the volume says otherwise.
    pub federated: Federated,
}

const fn file(name: &'static str, format: Format) -> LayoutFile {
    LayoutFile { name, format }
}

/// What follows the name of a trust domain in the name of its bundle (SPIFFE Filesystem Delivery, section 2.2).
pub(super) const SPIFFE_BUNDLE_SUFFIX: &str = ".spiffe-trust-bundle.x509.pem";

/// Every layout.
pub const LAYOUTS: [LayoutRow; 6] = [
    LayoutRow {
        layout: Layout::Pem,
        name: "pem",
        origin: "csi-driver-spiffe, cert-manager and Kubernetes' TLS Secrets",
        files: &[file("tls.crt", Format::Chain), file("tls.key", Format::Key), file("ca.crt", Format::Bundle)],
        federated: Federated::Separate,
    },
    LayoutRow {
        layout: Layout::Spiffe,
        name: "spiffe",
        origin: "SPIFFE Filesystem Delivery (a proposed standard), as spiffefs writes it",
        files: &[
            file("credential-bundle.private-key.x509.pem", Format::CredentialBundle),
            file(SPIFFE_BUNDLE_SUFFIX, Format::BundlePerDomain),
            file("hints.json", Format::Hints),
        ],
        federated: Federated::Separate,
    },
    LayoutRow {
        layout: Layout::PodCertificate,
        name: "pod-certificate",
        origin: "Kubernetes' `podCertificate` volumes with `credentialBundlePath`",
        files: &[file("credentialbundle.pem", Format::CredentialBundle), file("ca.crt", Format::Bundle)],
        federated: Federated::Separate,
    },
    LayoutRow {
        layout: Layout::Gke,
        name: "gke",
        origin: "managed workload identities of Google Kubernetes Engine",
        files: &[
            file("certificates.pem", Format::Chain),
            file("private_key.pem", Format::Key),
            file("ca_certificates.pem", Format::Bundle),
            file("trust_bundles.json", Format::BundleMap),
            file("credential-bundle.pem", Format::CredentialBundle),
        ],
        federated: Federated::Map,
    },
    LayoutRow {
        layout: Layout::SpiffeHelper,
        name: "spiffe-helper",
        origin: "spiffe-helper, with the names in its documentation",
        files: &[
            file("svid.pem", Format::Chain),
            file("svid_key.pem", Format::Key),
            file("svid_bundle.pem", Format::Bundle),
        ],
        federated: Federated::Separate,
    },
    LayoutRow {
        layout: Layout::Istio,
        name: "istio",
        origin: "Istio's proxies, with `OUTPUT_CERTS`",
        files: &[
            file("cert-chain.pem", Format::Chain),
            file("key.pem", Format::Key),
            file("root-cert.pem", Format::Bundle),
        ],
        federated: Federated::Separate,
    },
];

impl Layout {
    /// Its row of the table.
    pub fn row(self) -> &'static LayoutRow {
        LAYOUTS.iter().find(|row| row.layout == self).unwrap_or(&LAYOUTS[0])
    }

    /// The names of certificate, key and bundle.
    pub fn names(self) -> FileNames {
        FileNames {
            cert: self.name_of(Format::Chain),
            key: self.name_of(Format::Key),
            bundle: self.name_of(Format::Bundle),
        }
    }

    /// The further files.
    pub fn extras(self) -> Extras {
        let per_domain = self.file_of(Format::BundlePerDomain).map(|_| PerDomain::Every);
        Extras {
            credential_bundle: self.name_of(Format::CredentialBundle),
            bundle_map: self.name_of(Format::BundleMap),
            hints: self.name_of(Format::Hints),
            per_domain: per_domain.unwrap_or_default(),
            federated: self.row().federated,
            ..Extras::default()
        }
    }

    fn file_of(self, format: Format) -> Option<&'static LayoutFile> {
        self.row().files.iter().find(|file| file.format == format)
    }

    fn name_of(self, format: Format) -> Option<FileName> {
        self.file_of(format).map(|file| FileName::parse(file.name).expect("a plain file name"))
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row().name)
    }
}

impl FromStr for Layout {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = LAYOUTS.iter().find(|row| row.name == name).map(|row| row.layout);
        found.ok_or_else(|| format!("{name:?} is not a layout; use {}", LAYOUTS.map(|row| row.name).join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::{reserved_names, same_names};

    #[test]
    fn every_layout_is_in_the_table_once_and_by_its_name() {
        for row in LAYOUTS {
            assert_eq!(row.name.parse(), Ok(row.layout));
            assert_eq!((row.layout.to_string().as_str(), row.layout.row()), (row.name, &row));
            assert_eq!(LAYOUTS.iter().filter(|other| other.layout == row.layout).count(), 1);
        }
        assert_eq!(Layout::default().row(), &LAYOUTS[0]);
        let refused = "tls".parse::<Layout>().expect_err("there is none of that name");
        assert!(LAYOUTS.iter().all(|row| refused.contains(row.name)), "{refused}");
    }

    #[test]
    fn every_layout_holds_key_chain_and_bundle_in_files_of_their_own() {
        for LayoutRow { layout, name, files, .. } in LAYOUTS {
            let holds = |format| files.iter().filter(|file| file.format == format).count() == 1;
            assert!(holds(Format::CredentialBundle) || (holds(Format::Chain) && holds(Format::Key)), "{name}");
            assert!(holds(Format::Bundle) || holds(Format::BundlePerDomain), "{name}");
            assert!(!holds(Format::Hints) || holds(Format::CredentialBundle), "{name}");
            let (names, extras) = (layout.names(), layout.extras());
            assert_eq!(same_names(&names, &extras), [], "{name}");
            assert_eq!(reserved_names(&names, &extras).count(), 0, "{name}");
            assert_eq!(names.count() + extras.count(), files.len(), "{name}: each file is written");
            assert!(!matches!(extras.federated, Federated::Map) || extras.bundle_map.is_some(), "{name}");
        }
    }

    #[test]
    fn pem_is_what_there_was_before_there_were_layouts() {
        assert_eq!(Layout::Pem.extras(), Extras::default());
    }
}
