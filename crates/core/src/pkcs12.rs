//! PKCS#12 files (RFC 7292), which Java reads as key store and trust store.
//!
//! Keys and certificates are encrypted with AES-256 and a key derived by PBKDF2 (PBES2, RFC 8018), and the file is
//! authenticated with HMAC-SHA256. OpenSSL 3 and Java 17 write the same form; Java 8u301, Java 11.0.12 and OpenSSL 1.1
//! can read it. The encoder is our own because existing crates would add a second cryptographic library.

mod bag;
mod der;
mod pbe;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use self::bag::Bag;
use self::der::{Tag, tlv};
use crate::identity::PrivateKey;
use crate::secret::Secret;

/// The longest password, in bytes.
pub const MAX_PASSWORD_BYTES: usize = 256;

/// The longest alias, in bytes.
pub const MAX_ALIAS_BYTES: usize = 64;

/// The name of the key in a key store: 1 to [`MAX_ALIAS_BYTES`] printable ASCII characters without spaces. `svid`
/// unless another is requested: some clients expect a particular one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Alias(String);

/// A text is not an alias.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an alias has 1 to {MAX_ALIAS_BYTES} printable ASCII characters and no spaces")]
pub struct AliasError;

/// A password: 1 to [`MAX_PASSWORD_BYTES`] printable ASCII characters. Java accepts no others.
#[derive(Debug, Clone)]
pub struct Password(Secret);

/// Why a file or a password is invalid. Never contains any part of the password or the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Pkcs12Error {
    /// It is empty or too long.
    #[error("the password must have 1 to {MAX_PASSWORD_BYTES} characters")]
    PasswordLength,
    /// A character that Java would refuse.
    #[error(
        "the password must consist of printable ASCII characters, because Java accepts no others; does it end with a line break?"
    )]
    PasswordCharacter,
    /// No randomness, or a cipher that fails.
    #[error("the PKCS#12 file could not be encrypted")]
    Encrypt,
}

impl Alias {
    /// Reads an alias.
    ///
    /// # Errors
    /// [`AliasError`].
    pub fn parse(text: &str) -> Result<Self, AliasError> {
        let fits = (1..=MAX_ALIAS_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if fits { Ok(Self(text.to_owned())) } else { Err(AliasError) }
    }

    /// The alias.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Alias {
    fn default() -> Self {
        Self("svid".to_owned())
    }
}

impl TryFrom<String> for Alias {
    type Error = AliasError;

    fn try_from(text: String) -> Result<Self, AliasError> {
        Self::parse(&text)
    }
}

impl From<Alias> for String {
    fn from(alias: Alias) -> Self {
        alias.0
    }
}

impl Password {
    /// `changeit`, Java's well-known default for trust stores. It is not a secret and protects nothing: only the
    /// permissions of a file do.
    pub fn well_known() -> Self {
        Self(Secret::new("changeit".to_owned()))
    }

    /// Checks a password and takes ownership of it.
    ///
    /// # Errors
    /// [`Pkcs12Error::PasswordLength`] or [`Pkcs12Error::PasswordCharacter`].
    pub fn new(text: Secret) -> Result<Self, Pkcs12Error> {
        let bytes = text.expose().as_bytes();
        if !(1..=MAX_PASSWORD_BYTES).contains(&bytes.len()) {
            return Err(Pkcs12Error::PasswordLength);
        }
        if !bytes.iter().all(|byte| (b' '..=b'~').contains(byte)) {
            return Err(Pkcs12Error::PasswordCharacter);
        }
        Ok(Self(text))
    }

    /// The password. Keep it out of logs, errors, metrics, events and anything a pod can see.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

/// A key store: the key and its chain, the leaf first, under that name.
///
/// Salts are random, so no two files are the same.
///
/// # Errors
/// [`Pkcs12Error::Encrypt`].
pub fn key_store<'a>(
    key: &PrivateKey,
    chain: impl IntoIterator<Item = &'a [u8]>,
    alias: &Alias,
    password: &Password,
) -> Result<Vec<u8>, Pkcs12Error> {
    let shrouded = pbe::shroud(key.der(), password)?;
    let certificates: Vec<Bag> =
        chain.into_iter().enumerate().map(|(index, der)| Bag::of_chain(der, (index == 0).then_some(alias))).collect();
    let key = pbe::data(&der::sequence(&[&Bag::of_key(shrouded, alias).encode()]));
    let certificates = pbe::encrypted_data(bag::contents(&certificates), password)?;
    file(&[&key, &certificates], password)
}

/// A trust store: CA certificates that Java trusts, each under a name; names must differ in more than case.
///
/// # Errors
/// [`Pkcs12Error::Encrypt`].
pub fn trust_store<'a>(
    anchors: impl IntoIterator<Item = (String, &'a [u8])>,
    password: &Password,
) -> Result<Vec<u8>, Pkcs12Error> {
    let bags: Vec<Bag> = anchors.into_iter().map(|(name, der)| Bag::of_anchor(der, &name)).collect();
    let anchors = pbe::encrypted_data(bag::contents(&bags), password)?;
    file(&[&anchors], password)
}

/// The outermost layer (RFC 7292, section 4): version 3, the contents, and their authentication.
fn file(contents: &[&[u8]], password: &Password) -> Result<Vec<u8>, Pkcs12Error> {
    let safe = der::sequence(contents);
    let mac = pbe::mac(&safe, password)?;
    Ok(der::sequence(&[&tlv(Tag::INTEGER, &[&[3]]), &pbe::data(&safe), &mac]))
}

/// The contents of a file before they are encrypted; overwritten when dropped, because they include a key.
type Plain = Zeroizing<Vec<u8>>;
