//! An update in its printed form, without keys and tokens.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::SystemTime;

use serde::Serialize;
use svid_csi_core::quoted::Quoted;
use svid_csi_core::x509_context::Svid;

use super::CurrentIdentity;
use super::token::{FetchedToken, TokenOutcome};
use crate::telemetry::report::rfc3339;

/// One complete state: anything that is not in it no longer exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Update {
    /// When it was seen, RFC 3339 in UTC.
    time: String,
    /// Its number, from 1.
    update: u64,
    /// The socket or the folder it comes from.
    source: String,
    /// The SVIDs, the default one first; never empty.
    svids: Vec<SvidSeen>,
    /// Federated trust domains, with the number of certificates in the bundle of each.
    federated: BTreeMap<String, usize>,
    /// The requested tokens.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tokens: Vec<FetchedToken>,
}

/// The printed fields of an X.509-SVID.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct SvidSeen {
    spiffe_id: String,
    /// In lower-case hexadecimal.
    serial: String,
    not_before: String,
    not_after: String,
    hint: String,
    /// The number of certificates in the bundle of its trust domain.
    bundle: usize,
}

impl Update {
    pub(super) fn new(
        number: u64,
        now: SystemTime,
        source: &Path,
        CurrentIdentity { context, tokens }: CurrentIdentity,
    ) -> Self {
        let federated = context.federated().iter();
        Self {
            time: rfc3339(now),
            update: number,
            source: source.display().to_string(),
            svids: context.svids().iter().map(SvidSeen::from).collect(),
            federated: federated.map(|(name, bundle)| (name.to_string(), bundle.len())).collect(),
            tokens,
        }
    }

    /// The first audience without a token, and the reason.
    pub(super) fn missing_token(&self) -> Option<(String, String)> {
        self.tokens.iter().find_map(|token| match &token.answer {
            TokenOutcome::Missing { error } => Some((token.audience.clone(), error.clone())),
            TokenOutcome::Token { .. } => None,
        })
    }

    /// The environment variables for a command. The SVID is the default one.
    pub(super) fn environment(&self) -> Vec<(&'static str, String)> {
        let mut variables = vec![
            ("SVID_CSI_UPDATE", self.update.to_string()),
            ("SVID_CSI_UPDATE_SOURCE", self.source.clone()),
            ("SVID_CSI_SVIDS", self.svids.len().to_string()),
            ("SVID_CSI_FEDERATED", self.federated.keys().map(String::as_str).collect::<Vec<_>>().join(" ")),
        ];
        if let Some(svid) = self.svids.first() {
            variables.extend([
                ("SVID_CSI_SPIFFE_ID", svid.spiffe_id.clone()),
                ("SVID_CSI_SERIAL", svid.serial.clone()),
                ("SVID_CSI_NOT_AFTER", svid.not_after.clone()),
                ("SVID_CSI_HINT", svid.hint.clone()),
                ("SVID_CSI_BUNDLE_SIZE", svid.bundle.to_string()),
            ]);
        }
        variables
    }
}

impl From<&Svid> for SvidSeen {
    fn from(svid: &Svid) -> Self {
        let (identity, validity) = (&svid.identity, svid.identity.validity());
        Self {
            spiffe_id: identity.id().to_string(),
            serial: identity.serial().to_owned(),
            not_before: rfc3339(validity.not_before),
            not_after: rfc3339(validity.not_after),
            hint: svid.hint.clone(),
            bundle: identity.bundle().len(),
        }
    }
}

/// A line for each SVID and each token.
impl fmt::Display for Update {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { time, update, source, svids, federated, tokens } = self;
        for (index, svid) in svids.iter().enumerate() {
            let SvidSeen { spiffe_id, serial, not_after, hint, bundle, .. } = svid;
            write!(out, "{time} update {update}: {spiffe_id} serial {serial} until {not_after}")?;
            write!(out, ", bundle of {}", certificates(*bundle))?;
            for (trust_domain, size) in federated {
                write!(out, ", federated with {trust_domain} ({})", certificates(*size))?;
            }
            if svids.len() > 1 {
                write!(out, ", SVID {} of {}", index + 1, svids.len())?;
            }
            if !hint.is_empty() {
                write!(out, ", hint {}", Quoted::new(hint))?;
            }
            writeln!(out, ", from {source}")?;
        }
        for FetchedToken { audience, answer } in tokens {
            write!(out, "{time} update {update}: JWT-SVID for {}", Quoted::new(audience))?;
            match answer {
                TokenOutcome::Token { sub, aud, exp, .. } => {
                    writeln!(out, ": sub {} aud {} until {exp}", Quoted::new(sub), Quoted::new(aud.join(",")))?;
                }
                TokenOutcome::Missing { error } => writeln!(out, " is missing: {error}")?,
            }
        }
        Ok(())
    }
}

fn certificates(number: usize) -> String {
    if number == 1 { "1 certificate".to_owned() } else { format!("{number} certificates") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn svid(name: &str, hint: &str) -> SvidSeen {
        SvidSeen {
            spiffe_id: format!("spiffe://example.org/{name}"),
            serial: "0a".to_owned(),
            not_before: "2026-01-01T00:00:00Z".to_owned(),
            not_after: "2026-01-01T01:00:00Z".to_owned(),
            hint: hint.to_owned(),
            bundle: 2,
        }
    }

    fn update() -> Update {
        Update {
            time: "2026-01-01T00:00:10Z".to_owned(),
            update: 3,
            source: "/s".to_owned(),
            svids: vec![svid("a", ""), svid("b", "in\nside")],
            federated: [("other.org".to_owned(), 1)].into(),
            tokens: vec![FetchedToken::missing("x", "the server does not support this call: Unimplemented".to_owned())],
        }
    }

    #[test]
    fn each_svid_has_one_line() {
        let lines = [
            "2026-01-01T00:00:10Z update 3: spiffe://example.org/a serial 0a until 2026-01-01T01:00:00Z, \
             bundle of 2 certificates, federated with other.org (1 certificate), SVID 1 of 2, from /s\n",
            "2026-01-01T00:00:10Z update 3: spiffe://example.org/b serial 0a until 2026-01-01T01:00:00Z, \
             bundle of 2 certificates, federated with other.org (1 certificate), SVID 2 of 2, hint \"in\\nside\", from /s\n",
            "2026-01-01T00:00:10Z update 3: JWT-SVID for \"x\" is missing: the server does not support this call: Unimplemented\n",
        ];
        assert_eq!(update().to_string(), lines.concat());
    }

    #[test]
    fn json_has_every_field() {
        let json = serde_json::to_value(update()).unwrap();
        assert_eq!(
            (&json["update"], &json["source"], &json["federated"]["other.org"]),
            (&3.into(), &"/s".into(), &1.into())
        );
        assert_eq!((&json["svids"][1]["hint"], &json["svids"][0]["bundle"]), (&"in\nside".into(), &2.into()));
        assert_eq!(json["tokens"][0]["audience"], "x");
    }

    #[test]
    fn a_command_receives_the_default_svid() {
        let variables = update().environment();
        let value = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
        assert_eq!((value("SVID_CSI_SPIFFE_ID"), value("SVID_CSI_SVIDS")), (Some("spiffe://example.org/a"), Some("2")));
        assert_eq!((value("SVID_CSI_FEDERATED"), value("SVID_CSI_UPDATE")), (Some("other.org"), Some("3")));
    }
}
