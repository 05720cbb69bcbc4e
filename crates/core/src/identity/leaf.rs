//! The rules for a leaf certificate (X509-SVID, sections 2 to 4).

use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::OID_X509_EXT_BASIC_CONSTRAINTS;

use super::form;
use super::rejection::{KeyUsageProblem, Place, Rejection};
use super::validity::Validity;
use crate::spiffe_id::SpiffeId;
use crate::unix_time;

/// The parts of a valid leaf certificate that are used here.
pub(super) struct Leaf {
    pub(super) id: SpiffeId,
    pub(super) validity: Validity,
    pub(super) serial: String,
    pub(super) public_key: Vec<u8>,
}

/// Reads a leaf and checks every rule that needs only the certificate itself.
pub(super) fn read(der: &CertificateDer<'_>) -> Result<Leaf, Rejection> {
    let certificate = parse(der, Place::Leaf)?;
    let id = spiffe_id(&certificate)?;
    check_key_usage(&certificate)?;
    check_extended_key_usage(&certificate)?;
    if is_ca(&certificate, Place::Leaf)? {
        return Err(Rejection::LeafIsCa);
    }
    Ok(Leaf {
        id,
        validity: validity(&certificate, Place::Leaf)?,
        serial: serial(&certificate),
        public_key: certificate.public_key().raw.to_vec(),
    })
}

/// Reads any certificate.
pub(super) fn parse<'a>(der: &'a CertificateDer<'_>, place: Place) -> Result<X509Certificate<'a>, Rejection> {
    match x509_parser::parse_x509_certificate(der) {
        Ok(([], certificate)) => match form::malformed_part(der) {
            Some(part) => Err(unreadable(place, format!("its {part} malformed"))),
            None => Ok(certificate),
        },
        Ok(_) => Err(unreadable(place, "more bytes follow the certificate")),
        Err(error) => Err(unreadable(place, error)),
    }
}

pub(super) fn validity(certificate: &X509Certificate<'_>, place: Place) -> Result<Validity, Rejection> {
    let read = |time: x509_parser::time::ASN1Time| {
        unix_time::at(time.timestamp()).ok_or_else(|| unreadable(place, "its validity is out of range"))
    };
    let validity = certificate.validity();
    Ok(Validity { not_before: read(validity.not_before)?, not_after: read(validity.not_after)? })
}

/// Whether the basic constraints mark a CA. The parser's own `is_ca` treats constraints that it cannot read as missing.
pub(super) fn is_ca(certificate: &X509Certificate<'_>, place: Place) -> Result<bool, Rejection> {
    let extension =
        certificate.get_extension_unique(&OID_X509_EXT_BASIC_CONSTRAINTS).map_err(|error| unreadable(place, error))?;
    match extension.map(|extension| extension.parsed_extension()) {
        None => Ok(false),
        Some(ParsedExtension::BasicConstraints(constraints)) => Ok(constraints.ca),
        Some(_) => Err(unreadable(place, "its basic constraints are malformed")),
    }
}

/// Whether a certificate may sign others. One that cannot be read may not.
pub(crate) fn is_authority(der: &CertificateDer<'_>) -> bool {
    parse(der, Place::Leaf).and_then(|certificate| is_ca(&certificate, Place::Leaf)).unwrap_or_default()
}

pub(super) fn unreadable(place: Place, reason: impl ToString) -> Rejection {
    Rejection::Unreadable { place, reason: reason.to_string() }
}

fn spiffe_id(leaf: &X509Certificate<'_>) -> Result<SpiffeId, Rejection> {
    let names = leaf.subject_alternative_name().map_err(|error| unreadable(Place::Leaf, error))?;
    let Some(names) = names else { return Err(Rejection::UriNames { found: 0 }) };
    let mut uris = Vec::new();
    for name in &names.value.general_names {
        match name {
            GeneralName::URI(uri) => uris.push(*uri),
            GeneralName::Invalid(..) => {
                return Err(unreadable(Place::Leaf, "one of its alternative names is malformed"));
            }
            _ => {}
        }
    }
    let [uri] = uris[..] else { return Err(Rejection::UriNames { found: uris.len() }) };
    let id = SpiffeId::parse(uri).map_err(|problem| Rejection::NotASpiffeId { problem })?;
    if id.path().is_empty() {
        return Err(Rejection::IdWithoutPath { id });
    }
    if leaf.subject().iter().next().is_none() && !names.critical {
        return Err(Rejection::NamesNotCritical);
    }
    Ok(id)
}

fn check_key_usage(leaf: &X509Certificate<'_>) -> Result<(), Rejection> {
    let usage = leaf.key_usage().map_err(|error| unreadable(Place::Leaf, error))?;
    let problem = match usage {
        None => KeyUsageProblem::Missing,
        Some(usage) if !usage.critical => KeyUsageProblem::NotCritical,
        Some(usage) if !usage.value.digital_signature() => KeyUsageProblem::NoDigitalSignature,
        Some(usage) if usage.value.key_cert_sign() => KeyUsageProblem::CertSign,
        Some(usage) if usage.value.crl_sign() => KeyUsageProblem::CrlSign,
        Some(_) => return Ok(()),
    };
    Err(Rejection::KeyUsage { problem })
}

fn check_extended_key_usage(leaf: &X509Certificate<'_>) -> Result<(), Rejection> {
    let usage = leaf.extended_key_usage().map_err(|error| unreadable(Place::Leaf, error))?;
    match usage.map(|usage| (usage.value.client_auth, usage.value.server_auth)) {
        None | Some((true, true)) => Ok(()),
        Some((false, _)) => Err(Rejection::ExtendedKeyUsage { missing: "client" }),
        Some((true, false)) => Err(Rejection::ExtendedKeyUsage { missing: "server" }),
    }
}

fn serial(certificate: &X509Certificate<'_>) -> String {
    let bytes = certificate.raw_serial();
    // DER puts a zero byte before a positive number whose first bit is set.
    let bytes = match bytes {
        [0, rest @ ..] if !rest.is_empty() => rest,
        _ => bytes,
    };
    super::hex(bytes)
}
