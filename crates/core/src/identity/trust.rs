//! Whether a chain leads to the trust bundle (X509-SVID, section 5.1).

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{
    ALL_VERIFICATION_ALGS, EndEntityCert, Error, ExtendedKeyUsageValidator, KeyPurposeId, KeyPurposeIdIter, KeyUsage,
    RequiredEkuNotFoundContext, anchor_from_trusted_cert,
};
use x509_parser::certificate::X509Certificate;

use super::leaf;
use super::rejection::{Place, Rejection};

/// Checks the certificates after the leaf: each must be a CA.
pub(super) fn check_intermediates(chain: &[CertificateDer<'_>]) -> Result<(), Rejection> {
    for (index, der) in chain.iter().enumerate().skip(1) {
        let place = Place::Chain { position: index + 1, of: chain.len() };
        check_ca(&leaf::parse(der, place)?, place)?;
    }
    Ok(())
}

/// Checks the trust bundle and removes what is in it twice, keeping the order.
pub(crate) fn distinct_anchors(
    bundle: Vec<CertificateDer<'static>>,
) -> Result<Vec<CertificateDer<'static>>, Rejection> {
    for (index, der) in bundle.iter().enumerate() {
        let place = Place::Bundle { position: index + 1, of: bundle.len() };
        check_ca(&leaf::parse(der, place)?, place)?;
        anchor_from_trusted_cert(der).map_err(|error| leaf::unreadable(place, sentence(&error)))?;
    }
    let mut seen = HashSet::new();
    let is_new: Vec<bool> = bundle.iter().map(|der| seen.insert(der.as_ref())).collect();
    Ok(bundle.into_iter().zip(is_new).filter_map(|(der, is_new)| is_new.then_some(der)).collect())
}

/// X509-SVID, section 3.2: `cA` and, with a key usage, `keyCertSign`. The path validation does not look at the latter.
fn check_ca(certificate: &X509Certificate<'_>, place: Place) -> Result<(), Rejection> {
    let usage = certificate.key_usage().map_err(|error| leaf::unreadable(place, error))?;
    let may_sign = usage.is_none_or(|usage| usage.value.key_cert_sign());
    if leaf::is_ca(certificate, place)? && may_sign { Ok(()) } else { Err(Rejection::NotACa { place }) }
}

/// Verifies the chain, for clients and servers both, at the time `at`.
pub(super) fn verify(
    chain: &[CertificateDer<'_>],
    bundle: &[CertificateDer<'_>],
    at: SystemTime,
) -> Result<(), Rejection> {
    let (anchors, expired) = anchors(bundle, at)?;
    let [end, intermediates @ ..] = chain else { return Err(Rejection::EmptyChain) };
    let end = EndEntityCert::try_from(end).map_err(|error| leaf::unreadable(Place::Leaf, sentence(&error)))?;
    let since_1970 = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let time = UnixTime::since_unix_epoch(since_1970);
    let path = end.verify_for_usage(ALL_VERIFICATION_ALGS, &anchors, intermediates, time, ClientAndServer, None, None);
    path.map(|_| ()).map_err(|error| {
        let mut reason = sentence(&error);
        if expired > 0 {
            reason.push_str(&format!(" ({expired} of {} certificates in the bundle are expired)", bundle.len()));
        }
        Rejection::Untrusted { reason }
    })
}

/// The anchors that are valid at that time, and how many have expired. The path validation leaves this to its caller:
/// some peers do refuse an expired root, so an identity that hangs on one is as good as none.
fn anchors<'a>(bundle: &'a [CertificateDer<'_>], at: SystemTime) -> Result<(Vec<TrustAnchor<'a>>, usize), Rejection> {
    let mut valid = Vec::with_capacity(bundle.len());
    for (index, der) in bundle.iter().enumerate() {
        let place = Place::Bundle { position: index + 1, of: bundle.len() };
        let validity = leaf::validity(&leaf::parse(der, place)?, place)?;
        if at <= validity.not_after {
            valid.push(anchor_from_trusted_cert(der).map_err(|error| leaf::unreadable(place, sentence(&error)))?);
        }
    }
    let expired = bundle.len() - valid.len();
    Ok((valid, expired))
}

/// Asks every certificate of the path for both usages, in one pass; no extended key usage at all allows everything
/// (RFC 5280, section 4.2.1.12).
struct ClientAndServer;

impl ExtendedKeyUsageValidator for ClientAndServer {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), Error> {
        // The DER contents of the object identifiers 1.3.6.1.5.5.7.3.1, 1.3.6.1.5.5.7.3.2 and 2.5.29.37.0.
        const SERVER: KeyPurposeId<'_> = KeyPurposeId::new(&[0x2b, 6, 1, 5, 5, 7, 3, 1]);
        const CLIENT: KeyPurposeId<'_> = KeyPurposeId::new(&[0x2b, 6, 1, 5, 5, 7, 3, 2]);
        const ANY: KeyPurposeId<'_> = KeyPurposeId::new(&[0x55, 0x1d, 0x25, 0]);
        let purposes = purposes.collect::<Result<Vec<_>, _>>()?;
        let (server, client) = (purposes.contains(&SERVER), purposes.contains(&CLIENT));
        if purposes.is_empty() || purposes.contains(&ANY) || (server && client) {
            return Ok(());
        }
        let required = if server { KeyUsage::client_auth() } else { KeyUsage::server_auth() };
        let present = purposes.iter().map(KeyPurposeId::to_decoded_oid).collect();
        Err(Error::RequiredEkuNotFoundContext(RequiredEkuNotFoundContext { required, present }))
    }
}

/// The verifier's errors are names of variants; these are the ones a user meets, in words.
fn sentence(error: &Error) -> String {
    match error {
        Error::UnknownIssuer => "no valid certificate in the bundle has issued it".to_owned(),
        Error::InvalidSignatureForPublicKey => {
            "a signature is wrong (a CA of that name is in the bundle, but with another key)".to_owned()
        }
        Error::CertExpired { .. } => "an intermediate certificate has expired".to_owned(),
        Error::CertNotValidYet { .. } => "an intermediate certificate is not valid yet".to_owned(),
        Error::PathLenConstraintViolated => "it is longer than one of its CAs allows".to_owned(),
        Error::NameConstraintViolation => "a name constraint of one of its CAs forbids the names in it".to_owned(),
        Error::RequiredEkuNotFoundContext(_) => {
            "the extended key usage of an intermediate certificate does not allow both client and server authentication"
                .to_owned()
        }
        Error::UnsupportedCriticalExtension => "it has a critical extension that is not known here".to_owned(),
        Error::UnsupportedSignatureAlgorithmContext(_) | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
            "it is signed with an algorithm that is not supported".to_owned()
        }
        Error::UnsupportedCertVersion => "it is not an X.509 version 3 certificate".to_owned(),
        other => format!("{other:?}"),
    }
}
