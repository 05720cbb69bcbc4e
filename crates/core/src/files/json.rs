//! The files of a volume that hold tokens and JSON.

use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use serde_json::{Map, Value};

use super::extras::{Extras, Federated};
use super::shown::find;
use super::wanted::{JwtGiven, RenderError, Wanted, bytes};
use super::{FileName, RenderedFile};
use crate::bundle_document::BundleDocument;
use crate::bundle_map::BundleMap;
use crate::jwt::{JwtBundle, JwtBundles};
use crate::spiffe_id::TrustDomain;
use crate::x509_context::X509Context;

/// The bundle document that follows the existing one; parts that are not given stay. `None` if it would be empty,
/// because an empty document means that all keys are revoked.
pub(super) fn bundle_json(
    shown: &[RenderedFile],
    wanted: Wanted<'_>,
    anchors: Option<&[CertificateDer<'static>]>,
    jwt: Option<&JwtGiven<'_>>,
    trust_domain: &TrustDomain,
    now: SystemTime,
) -> Option<RenderedFile> {
    let name = wanted.extras.bundle_json.as_ref()?;
    let earlier = find(shown, name);
    let (mut known_anchors, mut known_jwt) = (Vec::new(), JwtBundle::default());
    if let Some(document) = earlier.and_then(|json| BundleDocument::read(json).ok()) {
        (known_anchors, known_jwt) = (document.anchors, document.jwt);
    }
    let anchors = anchors.unwrap_or(&known_anchors);
    let given = jwt.map(|jwt| jwt.bundles.get(trust_domain).map(AsRef::as_ref).cloned().unwrap_or_default());
    let keys = given.unwrap_or(known_jwt);
    let is_empty = anchors.is_empty() && keys.is_empty();
    (!is_empty).then(|| bytes(name, BundleDocument::next(earlier, anchors, &keys, now)))
}

/// The bundle map that follows the existing one. Nothing if it would be empty: that would say that no one is trusted.
pub(super) fn bundle_map(
    shown: &[RenderedFile],
    wanted: Wanted<'_>,
    context: &X509Context,
    now: SystemTime,
) -> Option<RenderedFile> {
    let own = context.trust_domain();
    let wants_others = wanted.extras.federated != Federated::None;
    let bundles = context.bundles().filter(|(trust_domain, _)| wants_others || *trust_domain == own);
    written(wanted, |name| earlier_map(shown, name).next(bundles, now))
}

/// The existing bundle map with another bundle of one trust domain.
pub(super) fn bundle_map_with(
    shown: &[RenderedFile],
    wanted: Wanted<'_>,
    trust_domain: &TrustDomain,
    anchors: &[CertificateDer<'static>],
    now: SystemTime,
) -> Option<RenderedFile> {
    written(wanted, |name| earlier_map(shown, name).with(trust_domain, anchors, now))
}

fn earlier_map(shown: &[RenderedFile], name: &FileName) -> BundleMap {
    find(shown, name).map(BundleMap::read).unwrap_or_default()
}

fn written(wanted: Wanted<'_>, map: impl FnOnce(&FileName) -> BundleMap) -> Option<RenderedFile> {
    let name = wanted.extras.bundle_map.as_ref()?;
    let map = map(name);
    (!map.is_empty()).then(|| bytes(name, map.to_json()))
}

/// The tokens, and the JWT bundles.
pub(super) fn jwt_files(jwt: &JwtGiven<'_>, extras: &Extras) -> Result<Vec<RenderedFile>, RenderError> {
    let (found, wanted) = (jwt.tokens.len(), extras.tokens.len());
    if found != wanted {
        return Err(RenderError::Tokens { found, wanted });
    }
    let tokens = extras.tokens.iter().zip(jwt.tokens);
    let mut files: Vec<_> =
        tokens.map(|(file, svid)| bytes(&file.name, svid.token.expose().as_bytes().to_vec())).collect();
    files.extend(extras.jwt_bundle.as_ref().map(|name| bytes(name, jwt_bundles_json(jwt.bundles))));
    Ok(files)
}

/// As spiffe-helper writes it: the JWK set in base64, by the name of the trust domain.
fn jwt_bundles_json(bundles: &JwtBundles) -> Vec<u8> {
    let entry = |bundle: &JwtBundle| Value::from(STANDARD.encode(bundle.to_jwks()));
    let members = bundles.iter().map(|(trust_domain, bundle)| (trust_domain.as_str().to_owned(), entry(bundle)));
    Value::Object(members.collect::<Map<_, _>>()).to_string().into_bytes()
}
