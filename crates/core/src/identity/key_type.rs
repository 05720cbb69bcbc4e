//! The types of keys an identity can have.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A type of key, as the flags `--key-type` and `--allowed-key-types` name it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum KeyType {
    /// `ecdsa-p256`: the default.
    #[default]
    EcdsaP256,
    /// `ecdsa-p384`.
    EcdsaP384,
    /// `ecdsa-p521`.
    EcdsaP521,
    /// `rsa-2048`: generated with 2048 bits; accepted from others with 2048 to 8192.
    Rsa2048,
    /// `ed25519`.
    Ed25519,
}

/// A word that does not name a type of key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{word:?} is not a key type; use one of {}", KeyType::ALL.map(KeyType::name).join(", "))]
pub struct UnknownKeyType {
    /// The word.
    pub word: String,
}

impl KeyType {
    /// All of them.
    pub const ALL: [KeyType; 5] =
        [KeyType::EcdsaP256, KeyType::EcdsaP384, KeyType::EcdsaP521, KeyType::Rsa2048, KeyType::Ed25519];

    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            KeyType::EcdsaP256 => "ecdsa-p256",
            KeyType::EcdsaP384 => "ecdsa-p384",
            KeyType::EcdsaP521 => "ecdsa-p521",
            KeyType::Rsa2048 => "rsa-2048",
            KeyType::Ed25519 => "ed25519",
        }
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for KeyType {
    type Err = UnknownKeyType;

    fn from_str(word: &str) -> Result<Self, UnknownKeyType> {
        let found = KeyType::ALL.into_iter().find(|key_type| key_type.name() == word);
        found.ok_or_else(|| UnknownKeyType { word: word.to_owned() })
    }
}

impl TryFrom<String> for KeyType {
    type Error = UnknownKeyType;

    fn try_from(word: String) -> Result<Self, UnknownKeyType> {
        word.parse()
    }
}

impl From<KeyType> for String {
    fn from(key_type: KeyType) -> Self {
        key_type.name().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_read_back() {
        for key_type in KeyType::ALL {
            assert_eq!(key_type.to_string().parse(), Ok(key_type));
            let json = serde_json::to_string(&key_type).expect("a word");
            assert_eq!(serde_json::from_str::<KeyType>(&json).expect("a word"), key_type);
        }
        let error = "rsa".parse::<KeyType>().expect_err("no key type");
        let expected = "\"rsa\" is not a key type; use one of ecdsa-p256, ecdsa-p384, ecdsa-p521, rsa-2048, ed25519";
        assert_eq!(error.to_string(), expected);
        assert!(serde_json::from_str::<KeyType>("\"ECDSA-P256\"").is_err());
    }
}
