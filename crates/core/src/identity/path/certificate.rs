//! The parts of a certificate that the validation of a path uses.

use std::time::SystemTime;

use rustls_pki_types::CertificateDer;
use x509_parser::x509::X509Version;

use super::constraints::Constraints;
use super::extension::{STANDARD, extension};
use super::fault::PathFault;
use super::names::Name;
use super::policies::Policies;
use super::signature::Signed;
use crate::der::{OBJECT_IDENTIFIER, Reader, SEQUENCE, only};
use crate::identity::leaf;
use crate::identity::rejection::{Place, Rejection};
use crate::identity::validity::Validity;

/// The extensions that are processed here, and that of revocation lists: key usage, alternative names, basic and name
/// constraints, distribution points, policies, their mappings and constraints, extended key usage.
const KNOWN: [u8; 10] = [15, 17, 19, 30, 31, 32, 33, 36, 37, 54];

/// A certificate, read as a whole.
#[derive(Debug)]
pub(in crate::identity) struct Certificate<'a> {
    pub(super) subject: &'a [u8],
    pub(super) issuer: &'a [u8],
    pub(super) public_key: &'a [u8],
    pub(super) validity: Validity,
    /// The alternative names, and the parts of the subject that count as names.
    pub(super) names: Vec<Name<'a>>,
    pub(super) constraints: Constraints<'a>,
    pub(super) policies: Policies<'a>,
    /// The maximum number of CA certificates between this one and a leaf.
    pub(super) path_len: Option<usize>,
    pub(super) authority_key_id: Option<&'a [u8]>,
    pub(super) subject_key_id: Option<&'a [u8]>,
    may_sign: bool,
    is_version_3: bool,
    has_unknown_critical_extension: bool,
    usages: Option<Vec<&'a [u8]>>,
    signed: Signed<'a>,
}

impl<'a> Certificate<'a> {
    /// Reads a certificate. Its usages are not checked.
    ///
    /// # Errors
    /// [`Rejection::Unreadable`].
    pub(in crate::identity) fn read(der: &'a CertificateDer<'_>, place: Place) -> Result<Self, Rejection> {
        let certificate = leaf::parse(der, place)?;
        let malformed = |part: &'static str| move || leaf::unreadable(place, format!("its {part} malformed"));
        certificate.extensions_map().map_err(|error| leaf::unreadable(place, error))?;
        let usage = certificate.key_usage().map_err(|error| leaf::unreadable(place, error))?;
        let may_sign = usage.is_none_or(|usage| usage.value.key_cert_sign());
        let constraints = certificate.basic_constraints().map_err(|error| leaf::unreadable(place, error))?;
        let path_len = constraints.and_then(|constraints| constraints.value.path_len_constraint);
        let is_unknown = |oid: &[u8]| !matches!(oid, [a, b, last] if [*a, *b] == STANDARD && KNOWN.contains(last));
        Ok(Self {
            subject: certificate.tbs_certificate.subject.as_raw(),
            issuer: certificate.tbs_certificate.issuer.as_raw(),
            public_key: certificate.tbs_certificate.subject_pki.raw,
            validity: leaf::validity(&certificate, place)?,
            names: Name::all(&certificate).ok_or_else(malformed("alternative names or subject are"))?,
            constraints: Constraints::read(&certificate).ok_or_else(malformed("name constraints are"))?,
            policies: Policies::read(&certificate).ok_or_else(malformed("policies are"))?,
            path_len: path_len.map(|len| usize::try_from(len).unwrap_or(usize::MAX)),
            authority_key_id: extension(&certificate, 35).and_then(key_id_of_authority),
            subject_key_id: extension(&certificate, 14).and_then(|value| only(value, crate::der::OCTET_STRING)),
            may_sign: may_sign && leaf::is_ca(&certificate, place)?,
            is_version_3: certificate.version() == X509Version::V3,
            has_unknown_critical_extension: certificate
                .iter_extensions()
                .any(|one| one.critical && is_unknown(one.oid.as_bytes())),
            usages: extension(&certificate, 37)
                .map(usages)
                .map(|read| read.ok_or_else(malformed("extended key usage is")))
                .transpose()?,
            signed: Signed::read(der).ok_or_else(malformed("signature is"))?,
        })
    }

    /// X509-SVID, section 3.2: `cA` and, with a key usage, `keyCertSign`.
    pub(in crate::identity) fn check_ca(&self, place: Place) -> Result<(), Rejection> {
        if self.may_sign { Ok(()) } else { Err(Rejection::NotACa { place }) }
    }

    pub(in crate::identity) fn is_over(&self, at: SystemTime) -> bool {
        at > self.validity.not_after
    }

    /// The checks that need no other certificate, except those of time and position.
    pub(super) fn check_form(&self) -> Result<(), PathFault> {
        if !self.is_version_3 {
            return Err(PathFault::Version);
        }
        if self.has_unknown_critical_extension { Err(PathFault::CriticalExtension) } else { Ok(()) }
    }

    /// As an issuer it may sign, for clients and servers both; no extended key usage at all allows everything (RFC 5280,
    /// section 4.2.1.12).
    pub(super) fn check_issuer(&self) -> Result<(), PathFault> {
        // The contents of the object identifiers 1.3.6.1.5.5.7.3.1, 1.3.6.1.5.5.7.3.2 and 2.5.29.37.0.
        const SERVER: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
        const CLIENT: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];
        const ANY: &[u8] = &[0x55, 0x1d, 0x25, 0];
        if !self.may_sign {
            return Err(PathFault::NotACa);
        }
        let Some(usages) = &self.usages else { return Ok(()) };
        let allows = |usage| usages.contains(&usage) || usages.contains(&ANY);
        if allows(SERVER) && allows(CLIENT) { Ok(()) } else { Err(PathFault::Usage) }
    }

    pub(super) fn verify_by(&self, issuer: &Certificate<'_>) -> Result<(), PathFault> {
        self.signed.verify(issuer.public_key)
    }

    pub(super) fn is_self_issued(&self) -> bool {
        self.subject == self.issuer
    }

    pub(super) fn is_same_authority(&self, other: &Certificate<'_>) -> bool {
        self.subject == other.subject && self.public_key == other.public_key
    }
}

fn usages(value: &[u8]) -> Option<Vec<&[u8]>> {
    let mut list = Reader::new(only(value, SEQUENCE)?);
    let mut usages = vec![list.read(OBJECT_IDENTIFIER)?];
    while list.left() > 0 {
        usages.push(list.read(OBJECT_IDENTIFIER)?);
    }
    Some(usages)
}

/// If issuers of one name have several keys, this names the right one; only the order of attempts depends on it.
fn key_id_of_authority(value: &[u8]) -> Option<&[u8]> {
    Reader::new(only(value, SEQUENCE)?).read(0x80)
}
