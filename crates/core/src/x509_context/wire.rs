//! Certificates in the form of the Workload API and the Broker API: concatenated DER.

use rustls_pki_types::CertificateDer;
use x509_parser::asn1_rs::{FromDer, Header};

/// The bytes are not whole certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes from offset {at} are not a DER certificate")]
pub struct ConcatenatedDer {
    /// The offset of the first bytes that are not a certificate.
    pub at: usize,
}

/// Splits the certificates, without parsing them.
///
/// # Errors
/// [`ConcatenatedDer`], if something else is between them or after them.
pub fn split(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, ConcatenatedDer> {
    const SEQUENCE: u8 = 0x30;
    let (mut certificates, mut rest) = (Vec::new(), bytes);
    while !rest.is_empty() {
        let wrong = ConcatenatedDer { at: bytes.len() - rest.len() };
        let (contents, header) = Header::from_der(rest).map_err(|_| wrong)?;
        let content = header.length().definite().ok().filter(|_| rest[0] == SEQUENCE);
        let length = content.and_then(|content| (rest.len() - contents.len()).checked_add(content));
        let length = length.filter(|length| *length <= rest.len()).ok_or(wrong)?;
        let (certificate, after) = rest.split_at(length);
        certificates.push(CertificateDer::from(certificate.to_vec()));
        rest = after;
    }
    Ok(certificates)
}

/// Concatenates certificates.
pub fn concatenate<'a>(certificates: impl IntoIterator<Item = &'a CertificateDer<'static>>) -> Vec<u8> {
    certificates.into_iter().flat_map(|certificate| certificate.iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_error_names_the_offset_of_the_first_bad_byte() {
        let two = [&[0x30, 1, 7][..], &[0x30, 0x81, 2, 1, 2]].concat();
        let lengths: Vec<usize> = split(&two).unwrap().iter().map(|der| der.len()).collect();
        assert_eq!(lengths, [3, 5]);
        assert_eq!(split(&[]).unwrap(), []);
        let tables: [(&[u8], usize); 5] =
            [(&[0x30], 0), (&[0x30, 2, 7], 0), (&[0x30, 0x80, 0, 0], 0), (&[0x30, 0, 0x31, 0], 2), (&[0x30, 0, 0], 2)];
        for (bytes, at) in tables {
            assert_eq!(split(bytes), Err(ConcatenatedDer { at }), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(certificates) = split(&bytes) {
                prop_assert_eq!(concatenate(&certificates), bytes);
            }
        }
    }
}
