//! A certificate for people. It may come from a pod.

use std::fmt::Write;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use serde::Serialize;
use svid_csi_core::unix_time::{at, rfc3339};
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

use crate::telemetry::report::one_line;

/// How many characters a line of PEM has.
const PEM_LINE: usize = 64;

/// The fields of a certificate.
#[derive(Debug, Serialize)]
pub(super) struct CertificateFields {
    pub(super) subject: String,
    pub(super) issuer: String,
    /// Lower-case hexadecimal, two digits per byte.
    pub(super) serial: String,
    pub(super) not_before: String,
    pub(super) not_after: String,
    /// The SHA-256 of the whole certificate, as `openssl x509 -fingerprint` prints it.
    pub(super) sha256: String,
}

impl CertificateFields {
    pub(super) fn of(der: &CertificateDer<'_>) -> Result<Self, String> {
        let malformed = |_| "one of its certificates is malformed".to_owned();
        let (_, certificate) = X509Certificate::from_der(der).map_err(malformed)?;
        let validity = certificate.validity();
        Ok(Self {
            subject: one_line(&certificate.subject().to_string()),
            issuer: one_line(&certificate.issuer().to_string()),
            serial: hexadecimal(&certificate.serial.to_bytes_be(), "", false),
            not_before: time(validity.not_before),
            not_after: time(validity.not_after),
            sha256: hexadecimal(digest::digest(&digest::SHA256, der).as_ref(), ":", true),
        })
    }
}

fn time(time: ASN1Time) -> String {
    at(time.timestamp()).map_or_else(|| format!("{} s since 1970", time.timestamp()), rfc3339)
}

fn hexadecimal(bytes: &[u8], between: &str, is_upper: bool) -> String {
    let digits: Vec<_> =
        bytes.iter().map(|byte| if is_upper { format!("{byte:02X}") } else { format!("{byte:02x}") }).collect();
    digits.join(between)
}

/// The certificate as PEM.
pub(super) fn pem(der: &CertificateDer<'_>) -> String {
    let encoded = STANDARD.encode(der);
    let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(PEM_LINE));
        let _ = writeln!(text, "{line}");
        rest = after;
    }
    text + "-----END CERTIFICATE-----\n"
}
