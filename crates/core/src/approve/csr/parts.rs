//! The parts of a CSR (RFC 2986, section 4).

use x509_parser::prelude::{FromDer, X509Name};

use crate::approve::fault::DerFault;
use crate::der::{INTEGER, Reader, SEQUENCE};
use crate::quoted::Quoted;

/// The tag `[0]` of the attributes.
const ATTRIBUTES: u8 = 0xa0;

const VERSION_1: &[u8] = &[0];

const NO_NAME: &[u8] = &[SEQUENCE, 0];

/// The parts. There is nothing between them, and everything but algorithm and signature is signed.
pub(super) struct Parts<'a> {
    /// The signed bytes.
    pub(super) signed: &'a [u8],
    /// The `SubjectPublicKeyInfo`, without tag and length.
    pub(super) public_key: &'a [u8],
    /// The attributes, without tag and length.
    pub(super) attributes: &'a [u8],
    /// The `AlgorithmIdentifier` of the signature, without tag and length.
    pub(super) algorithm: &'a [u8],
    pub(super) signature: &'a [u8],
    subject: &'a [u8],
}

impl<'a> Parts<'a> {
    pub(super) fn read(der: &'a [u8]) -> Result<Self, DerFault> {
        let malformed = |part| move || DerFault::Malformed { part };
        let mut reader = Reader::new(der);
        let request = reader.read(SEQUENCE).ok_or_else(malformed("the whole"))?;
        if reader.left() > 0 {
            return Err(DerFault::Trailing { bytes: reader.left() });
        }
        let mut request = Reader::new(request);
        let info = request.element().filter(|info| info.tag == SEQUENCE);
        let info = info.ok_or_else(malformed("the part that is signed"))?;
        let algorithm = request.read(SEQUENCE).ok_or_else(malformed("the signature algorithm"))?;
        let signature = request.read_bytes_of_bits().ok_or_else(malformed("the signature"))?;
        request.end().ok_or_else(malformed("what follows the signature"))?;

        let mut fields = Reader::new(info.content);
        let version = fields.read(INTEGER).filter(|version| *version == VERSION_1);
        version.ok_or_else(malformed("the version"))?;
        let subject = fields.element().filter(|subject| subject.tag == SEQUENCE);
        let subject = subject.ok_or_else(malformed("the subject"))?.whole;
        let public_key = fields.read(SEQUENCE).ok_or_else(malformed("the public key"))?;
        let attributes = fields.read(ATTRIBUTES).ok_or_else(malformed("the list of attributes"))?;
        fields.end().ok_or_else(malformed("what follows the attributes"))?;
        Ok(Self { signed: info.whole, public_key, attributes, algorithm, signature, subject })
    }

    /// The subject, unless it is empty.
    pub(super) fn subject_text(&self) -> Option<Quoted> {
        if self.subject == NO_NAME {
            return None;
        }
        let name = X509Name::from_der(self.subject).map(|(_, name)| name.to_string());
        Some(name.map_or_else(|_| Quoted::new(self.subject), Quoted::new))
    }
}
