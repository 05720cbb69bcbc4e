//! Reading and writing PEM (RFC 7468) without leaving copies of keys in memory.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::pem::{PemObject, SectionKind};
use zeroize::Zeroizing;

/// RFC 7468, section 2: lines of 64 characters, which is 48 bytes of DER.
const BYTES_PER_LINE: usize = 48;

/// The types of blocks that are written and read here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Block {
    Certificate,
    CertificateRequest,
    PrivateKey,
}

impl Block {
    const fn label(self) -> &'static str {
        match self {
            Block::Certificate => "CERTIFICATE",
            Block::CertificateRequest => "CERTIFICATE REQUEST",
            Block::PrivateKey => "PRIVATE KEY",
        }
    }

    const fn kind(self) -> SectionKind {
        match self {
            Block::Certificate => SectionKind::Certificate,
            Block::CertificateRequest => SectionKind::Csr,
            Block::PrivateKey => SectionKind::PrivateKey,
        }
    }
}

/// Writes the blocks in order, in one allocation of the exact size, because growing would leave copies behind.
pub(crate) fn encode<'a>(block: Block, blocks: impl Iterator<Item = &'a [u8]> + Clone) -> Zeroizing<String> {
    let label = block.label();
    let size = blocks.clone().map(|der| encoded_len(label, der.len())).sum();
    let mut text = Zeroizing::new(String::with_capacity(size));
    for der in blocks {
        for part in ["-----BEGIN ", label, "-----\n"] {
            text.push_str(part);
        }
        for bytes in der.chunks(BYTES_PER_LINE) {
            push_line(&mut text, bytes);
        }
        for part in ["-----END ", label, "-----\n"] {
            text.push_str(part);
        }
    }
    text
}

fn push_line(text: &mut String, bytes: &[u8]) {
    let mut line = Zeroizing::new([0; 64]);
    // 48 bytes are exactly 64 characters of ASCII, so neither step can fail.
    let written = STANDARD.encode_slice(bytes, line.as_mut()).unwrap_or_default();
    text.push_str(std::str::from_utf8(&line[..written]).unwrap_or_default());
    text.push('\n');
}

fn encoded_len(label: &str, der_len: usize) -> usize {
    let frame = "-----BEGIN -----\n-----END -----\n".len() + 2 * label.len();
    frame + der_len.div_ceil(3) * 4 + der_len.div_ceil(BYTES_PER_LINE)
}

/// Why a text is not the one PEM block that was expected. Never contains any part of the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// No block, a broken one, or one of an unknown kind.
    #[error("it is not PEM text (a `-----BEGIN {expected}-----` block)")]
    NotPem {
        /// The label that was expected.
        expected: &'static str,
    },
    /// A block of another kind.
    #[error("its PEM block is not labelled `{expected}`")]
    Label {
        /// The label that was expected.
        expected: &'static str,
    },
    /// More than one block.
    #[error("it holds {found} PEM blocks instead of one")]
    Count {
        /// The number of blocks.
        found: usize,
    },
}

/// The forms of private keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyForm {
    Pkcs8,
    /// Of elliptic curves: RFC 5915.
    Sec1,
    /// Of RSA: RFC 8017.
    Pkcs1,
}

/// Reads a text that holds exactly one private key, in any of its forms. The text may also hold the parameters of a
/// curve.
pub(crate) fn decode_key(text: &str) -> Result<(KeyForm, Zeroizing<Vec<u8>>), PemError> {
    let expected = Block::PrivateKey.label();
    let mut blocks = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes()) {
        // The parser's own errors may quote the text that they could not read.
        let (kind, der) = section.map_err(|_| PemError::NotPem { expected })?;
        blocks.push((kind, Zeroizing::new(der)));
    }
    match (blocks.pop(), blocks.len()) {
        (None, _) => Err(PemError::NotPem { expected }),
        (Some(_), more @ 1..) => Err(PemError::Count { found: more + 1 }),
        (Some((SectionKind::PrivateKey, der)), 0) => Ok((KeyForm::Pkcs8, der)),
        (Some((SectionKind::EcPrivateKey, der)), 0) => Ok((KeyForm::Sec1, der)),
        (Some((SectionKind::RsaPrivateKey, der)), 0) => Ok((KeyForm::Pkcs1, der)),
        (Some(_), 0) => Err(PemError::Label { expected }),
    }
}

/// Reads a text that holds one or more blocks, all with that label, into DER.
///
/// Text around the blocks is skipped, because issuers put comments there.
pub(crate) fn decode_all(block: Block, text: &[u8]) -> Result<Vec<Vec<u8>>, PemError> {
    let expected = block.label();
    let mut all = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text) {
        match section {
            Ok((kind, der)) if kind == block.kind() => all.push(der),
            Ok(_) => return Err(PemError::Label { expected }),
            Err(_) => return Err(PemError::NotPem { expected }),
        }
    }
    if all.is_empty() { Err(PemError::NotPem { expected }) } else { Ok(all) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn reads_back_what_it_writes(der in proptest::collection::vec(any::<u8>(), 1..400)) {
            let text = encode(Block::PrivateKey, std::iter::once(der.as_slice()));
            prop_assert_eq!(text.capacity(), text.len(), "one allocation of the exact size");
            prop_assert!(text.lines().all(|line| line.len() <= 64));
            let (form, read) = decode_key(&text).expect("it is PEM");
            prop_assert_eq!((form, &*read), (KeyForm::Pkcs8, &der));
            let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
            prop_assert_eq!(STANDARD.decode(body).expect("it is base64"), der);
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let expected = "PRIVATE KEY";
        let one = encode(Block::PrivateKey, [b"abc".as_slice()].into_iter());
        let two = encode(Block::PrivateKey, [b"abc".as_slice(), b"def"].into_iter());
        let other = encode(Block::Certificate, [b"abc".as_slice()].into_iter());
        for (label, form) in
            [("PRIVATE", KeyForm::Pkcs8), ("EC PRIVATE", KeyForm::Sec1), ("RSA PRIVATE", KeyForm::Pkcs1)]
        {
            assert_eq!(decode_key(&one.replace("PRIVATE", label)).map(|(form, _)| form), Ok(form));
        }
        assert_eq!(decode_key(&two), Err(PemError::Count { found: 2 }));
        assert_eq!(decode_key(&other), Err(PemError::Label { expected }));
        for text in [
            "",
            "abc",
            "-----BEGIN PRIVATE KEY-----\nAAAA",
            "-----BEGIN PRIVATE KEY-----\n?\n-----END PRIVATE KEY-----",
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----",
        ] {
            assert_eq!(decode_key(text), Err(PemError::NotPem { expected }), "{text:?}");
        }
    }
}
