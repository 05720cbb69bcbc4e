//! A CA certificate that is trusted.

use std::time::SystemTime;

use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::error::X509Error;
use x509_parser::extensions::GeneralName;

/// A CA certificate that is trusted until it expires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Anchor {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) not_after: SystemTime,
}

pub(super) fn uri_names<'a>(certificate: &'a X509Certificate<'_>) -> Result<Vec<&'a str>, X509Error> {
    let names = certificate.subject_alternative_name()?;
    let names = names.into_iter().flat_map(|names| &names.value.general_names);
    Ok(names.filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None }).collect())
}
