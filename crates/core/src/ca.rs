//! The embedded CA of the source `local-ca`: for demonstrations, single nodes and tests.

mod anchor;
mod authorities;
mod load;

use std::fmt;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use self::anchor::Anchor;
pub use self::authorities::{Authorities, AuthoritiesError, MAX_DOCUMENT_BYTES, Union, UnionError};
pub use self::load::LoadError;
use crate::identity::{CLOCK_SKEW, KeyError, PrivateKey, Validity};
use crate::pem_text::{self, Block};
pub use crate::request::SvidRequest;
use crate::signer::Signer;
use crate::spiffe_id::{SpiffeId, TrustDomain};
use crate::unix_time;

const COMMON_NAME: &str = "svid-csi local CA";

/// The maximum time a certificate is backdated, for peers whose clock is behind.
const BACKDATE: Duration = Duration::from_secs(60);

/// A certificate is backdated by at most this part of its lifetime, a tenth. With 60 s, two thirds of the lifetime of a
/// certificate of 30 s would be over at once.
const BACKDATE_SHARE: u32 = 10;

/// A CA of one trust domain: a certificate, with the path-less SPIFFE ID of the trust domain (X509-SVID, section 3.2) if
/// it was created here, its key, and the certificates that lead from it to a root.
pub struct CertificateAuthority {
    trust_domain: TrustDomain,
    certificate: CertificateDer<'static>,
    /// Its own certificate and those that lead to the roots, without these; empty if it is a root.
    intermediates: Vec<CertificateDer<'static>>,
    roots: Vec<Anchor>,
    key: PrivateKey,
    /// When it and a chain from it to a root are valid.
    validity: Validity,
    issuer: Issuer<'static, Signer>,
}

/// Why no certificate was issued.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// No key could be generated, or it could not be used.
    #[error("the CA has no usable key")]
    Key(#[source] KeyError),
    /// The serial number is zero (RFC 5280, section 4.1.2.2).
    #[error("the serial number is zero")]
    ZeroSerial,
    /// Under one second, or beyond the year 9999.
    #[error("a lifetime of {} s cannot be written into a certificate", .lifetime.as_secs())]
    Lifetime {
        /// The requested lifetime.
        lifetime: Duration,
    },
    /// The CA, or one above it, is not valid yet.
    #[error("the CA certificate, or one above it, is valid only from {}; check the clock of this node", unix_time::rfc3339(*.not_before))]
    NotYetValid {
        /// When it becomes valid.
        not_before: SystemTime,
    },
    /// The CA, or one above it, has expired.
    #[error("the CA certificate, or one above it, expired at {}: replace the CA's files, or remove them to create a new CA", unix_time::rfc3339(*.not_after))]
    Expired {
        /// When it expired.
        not_after: SystemTime,
    },
    /// Not an ID this CA may sign for.
    #[error("{id} is not a workload of the CA's trust domain {trust_domain}")]
    ForeignId {
        /// The requested ID.
        id: SpiffeId,
        /// The CA's trust domain.
        trust_domain: TrustDomain,
    },
    /// The certificate could not be built, or the public key is not one.
    #[error("the certificate could not be built")]
    Build(#[source] rcgen::Error),
}

impl CertificateAuthority {
    /// Generates a new key and a self-signed certificate for it, valid from a minute before `now` until `lifetime` after.
    ///
    /// # Errors
    /// If no key can be generated, or the lifetime cannot be encoded.
    pub fn create(trust_domain: &TrustDomain, now: SystemTime, lifetime: Duration) -> Result<Self, CaError> {
        let key = PrivateKey::generate_p256().map_err(CaError::Key)?;
        let signer = Signer::new(&key).map_err(CaError::Key)?;
        let mut params = params(&trust_domain.id(), validity(now, lifetime)?)?;
        params.distinguished_name.push(DnType::CommonName, COMMON_NAME);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&signer).map_err(CaError::Build)?.into();
        let validity = Validity { not_before: params.not_before.into(), not_after: params.not_after.into() };
        let issuer = issuer(&certificate, signer).map_err(CaError::Build)?;
        let roots = vec![Anchor { certificate: certificate.clone(), not_after: validity.not_after }];
        let trust_domain = trust_domain.clone();
        Ok(Self { trust_domain, certificate, intermediates: Vec::new(), roots, key, validity, issuer })
    }

    /// Loads a CA that was [created](Self::create) earlier, or by other means: the text may hold further certificates,
    /// up to one or several roots. Without a root, the CA's own certificate is the trust bundle. It need not be valid now,
    /// see [`check_validity`](Self::check_validity).
    ///
    /// # Errors
    /// The fault, and its fix.
    pub fn load(
        certificate_pem: &str,
        key_pem: &str,
        trust_domain: &TrustDomain,
        now: SystemTime,
    ) -> Result<Self, LoadError> {
        load::load(certificate_pem, key_pem, trust_domain, now)
    }

    /// Signs an X509-SVID: empty subject, the ID as the only name (critical, RFC 5280, section 4.1.2.6), for
    /// `digitalSignature`, clients and servers.
    ///
    /// It is valid for the requested lifetime, but not longer than the CA; backdated by a minute or a tenth of the
    /// lifetime, whichever is less. `serial` must be random and not zero.
    ///
    /// # Errors
    /// If the ID is not a workload of the CA's trust domain, the CA is not valid now, or the request cannot be fulfilled.
    pub fn sign(
        &self,
        request: &SvidRequest,
        now: SystemTime,
        serial: [u8; 16],
    ) -> Result<CertificateDer<'static>, CaError> {
        self.check(request, now)?;
        if serial == [0; 16] {
            return Err(CaError::ZeroSerial);
        }
        let Validity { not_before, not_after } = validity(now, request.lifetime)?;
        let validity = Validity {
            not_before: not_before.max(self.validity.not_before),
            not_after: not_after.min(self.validity.not_after),
        };
        let mut params = params(&request.id, validity)?;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let public_key = SubjectPublicKeyInfo::from_der(&request.public_key).map_err(CaError::Build)?;
        let leaf = params.signed_by(&public_key, &self.issuer).map_err(CaError::Build)?;
        // A copy of the exact size: the encoder's buffer has space for three certificates, and one is kept for every
        // pod.
        Ok(leaf.der().to_vec().into())
    }

    fn check(&self, request: &SvidRequest, now: SystemTime) -> Result<(), CaError> {
        let SvidRequest { id, .. } = request;
        if *id.trust_domain() != self.trust_domain || id.path().is_empty() {
            return Err(CaError::ForeignId { id: id.clone(), trust_domain: self.trust_domain.clone() });
        }
        self.check_validity(now)
    }

    /// Checks that the CA is valid now; another clock may be [`CLOCK_SKEW`] ahead.
    ///
    /// # Errors
    /// [`CaError::NotYetValid`] or [`CaError::Expired`].
    pub fn check_validity(&self, now: SystemTime) -> Result<(), CaError> {
        let Validity { not_before, not_after } = self.validity;
        if now >= not_after {
            return Err(CaError::Expired { not_after });
        }
        match not_before.duration_since(now) {
            Ok(ahead) if ahead > CLOCK_SKEW => Err(CaError::NotYetValid { not_before }),
            _ => Ok(()),
        }
    }

    /// The certificate as one `CERTIFICATE` block.
    pub fn certificate_pem(&self) -> String {
        std::mem::take(&mut *pem_text::encode(Block::Certificate, std::iter::once(self.certificate.as_ref())))
    }

    /// The certificate, which is the trust bundle of everything the CA signs if it is a root.
    pub fn certificate_der(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The certificates sent after a leaf: those that lead from it to the roots, without the roots.
    pub fn intermediates(&self) -> &[CertificateDer<'static>] {
        &self.intermediates
    }

    /// The private key as one `PRIVATE KEY` block.
    pub fn key_pem(&self) -> Zeroizing<String> {
        self.key.to_pem()
    }

    /// When the CA's certificate is valid, and leads to a root.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// The trust domain the CA signs for.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }
}

/// Name and key identifier are read back from the certificate, so that leaves refer to exactly what is in it.
fn issuer(certificate: &CertificateDer<'_>, signer: Signer) -> Result<Issuer<'static, Signer>, rcgen::Error> {
    Issuer::from_ca_cert_der(certificate, signer)
}

/// From a little before now until the end of the lifetime.
fn validity(now: SystemTime, lifetime: Duration) -> Result<Validity, CaError> {
    let not_before = now.checked_sub(BACKDATE.min(lifetime / BACKDATE_SHARE));
    let not_after = now.checked_add(lifetime);
    match (not_before, not_after) {
        (Some(not_before), Some(not_after)) if lifetime >= Duration::from_secs(1) => {
            Ok(Validity { not_before, not_after })
        }
        _ => Err(CaError::Lifetime { lifetime }),
    }
}

/// The common parts of root and leaf: one name, no subject, whole seconds.
fn params(id: &SpiffeId, validity: Validity) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::default();
    let out_of_range = CaError::Lifetime { lifetime: validity.lifetime() };
    let (Some(not_before), Some(not_after)) =
        (unix_time::calendar(validity.not_before), unix_time::calendar(validity.not_after))
    else {
        return Err(out_of_range);
    };
    params.not_before = not_before;
    params.not_after = not_after;
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(id.as_str().try_into().map_err(CaError::Build)?)];
    Ok(params)
}

impl fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("CertificateAuthority");
        debug.field("trust_domain", &self.trust_domain.as_str());
        debug.field("validity", &format_args!("{}", self.validity)).finish_non_exhaustive()
    }
}
