//! The standard extensions of a certificate.

use x509_parser::certificate::X509Certificate;

/// The contents of the object identifier 2.5.29, without the last number.
pub(super) const STANDARD: [u8; 2] = [0x55, 0x1d];

/// The value of the extension `2.5.29.number`; no extension appears twice.
pub(super) fn extension<'a>(certificate: &X509Certificate<'a>, number: u8) -> Option<&'a [u8]> {
    let oid = [STANDARD[0], STANDARD[1], number];
    certificate.iter_extensions().find(|extension| extension.oid.as_bytes() == oid).map(|extension| extension.value)
}
