//! JWT-SVIDs as SPIRE's agent issues them to brokers.

use std::time::{Duration, SystemTime};

use svid_csi_core::jwt::{Audiences, JwtAuthority};
use svid_csi_core::spiffe_id::{SpiffeId, TrustDomain};
use svid_csi_proto::workload::{JwtBundlesResponse, Jwtsvid, JwtsvidResponse};
use tonic::Status;

use super::entry::{Answer, CurrentAnswer};

const LIFETIME: Duration = Duration::from_secs(300);

/// The trusted keys, the newest last, which signs.
#[derive(Debug)]
pub(super) struct JwtKeys {
    trust_domain: TrustDomain,
    keys: Vec<JwtAuthority>,
    pub(super) version: u64,
}

impl JwtKeys {
    pub(super) fn new(trust_domain: &TrustDomain) -> Self {
        let keys = vec![JwtAuthority::create(trust_domain).expect("a key")];
        JwtKeys { trust_domain: trust_domain.clone(), keys, version: 0 }
    }

    pub(super) fn count(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn add(&mut self) {
        self.keys.push(JwtAuthority::create(&self.trust_domain).expect("a key"));
        self.version += 1;
    }

    fn jwks(&self) -> Vec<u8> {
        let sets = self.keys.iter().map(|key| serde_json::from_slice::<serde_json::Value>(&key.bundle().to_jwks()));
        let keys: Vec<_> =
            sets.flat_map(|set| set.expect("JSON")["keys"].as_array().cloned().unwrap_or_default()).collect();
        serde_json::json!({ "keys": keys }).to_string().into_bytes()
    }

    /// A token for each entry, whatever ID was requested.
    pub(super) fn tokens(
        &self,
        current: Option<&CurrentAnswer>,
        audience: &[String],
    ) -> Result<JwtsvidResponse, Status> {
        if audience.is_empty() {
            return Err(Status::invalid_argument("audience must be specified"));
        }
        let audiences = Audiences::new(audience.to_vec()).expect("audiences");
        let entries = match current {
            Some(CurrentAnswer { answer: Answer::Refused(status), .. }) => return Err(status.clone()),
            Some(current) if !current.entries.is_empty() => &current.entries,
            _ => return Err(Status::permission_denied("no identity issued")),
        };
        let signer = self.keys.last().expect("at least one");
        let svids = entries.iter().map(|entry| {
            let id = SpiffeId::parse(&entry.spiffe_id).expect("a SPIFFE ID");
            let token = signer.sign(&id, &audiences, SystemTime::now(), LIFETIME).expect("a token");
            Jwtsvid { spiffe_id: id.to_string(), svid: token.token.expose().to_owned(), hint: entry.hint.clone() }
        });
        Ok(JwtsvidResponse { svids: svids.collect() })
    }

    /// The keys with which everyone validates tokens.
    pub(super) fn bundles(&self) -> JwtBundlesResponse {
        JwtBundlesResponse { bundles: [(self.trust_domain.id().to_string(), self.jwks())].into() }
    }
}
