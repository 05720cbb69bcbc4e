//! The contents of the files of a volume.

use std::time::SystemTime;

use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use super::credentials::credential_files;
use super::extras::{Federated, Intermediates, PerDomain};
use super::json::{bundle_json, bundle_map, bundle_map_with, jwt_files};
use super::wanted::{JwtGiven, MAX_VOLUME_BYTES, RenderError, Wanted, bytes};
use super::{FileName, FileNames, RenderedFile, shown};
use crate::identity::{Identity, TrustBundle, spiffe_id_of};
use crate::pem_text::{self, Block};
use crate::pkcs12;
use crate::spiffe_id::TrustDomain;
use crate::x509_context::X509Context;

/// All files of a volume: those of the given identity, and the tokens and JWT bundles from `before` if no new ones
/// are given.
///
/// # Errors
/// [`RenderError`].
pub fn all(
    mut before: Vec<RenderedFile>,
    context: &X509Context,
    jwt: Option<&JwtGiven<'_>>,
    wanted: Wanted<'_>,
    now: SystemTime,
) -> Result<Vec<RenderedFile>, RenderError> {
    let (extras, identity) = (wanted.extras, context.default_svid());
    let bundle_json = bundle_json(&before, wanted, Some(context.bundle()), jwt, context.trust_domain(), now);
    let bundle_map = bundle_map(&before, wanted, context, now);
    before.retain(|file| extras.is_jwt(&file.name));
    let mut files = certificate_and_key(identity, wanted)?;
    files.extend(credential_files(context, extras));
    let merged = context.federated().values().flatten().filter(|_| extras.federated == Federated::Merged);
    let merged: Vec<_> = merged.cloned().collect();
    files.extend(bundle_files(context.trust_domain(), identity.bundle(), identity.chain(), &merged, wanted)?);
    if extras.federated == Federated::Separate {
        let separate = context.federated().iter();
        files.extend(separate.map(|(trust_domain, bundle)| pem(&extras.per_domain.name(trust_domain), bundle)));
    }
    files.extend(bundle_json.into_iter().chain(bundle_map));
    files.extend(jwt.map(|jwt| jwt_files(jwt, extras)).transpose()?.into_iter().flatten());
    limited(replaced(before, files))
}

/// The files of a volume with other tokens and JWT bundles.
///
/// # Errors
/// [`RenderError`].
pub fn with_jwt(
    before: Vec<RenderedFile>,
    jwt: &JwtGiven<'_>,
    wanted: Wanted<'_>,
    now: SystemTime,
) -> Result<Vec<RenderedFile>, RenderError> {
    let mut files = jwt_files(jwt, wanted.extras)?;
    if wanted.extras.bundle_json.is_some() {
        let leaf = shown::chain(&before, wanted)?.into_iter().next();
        let id = leaf.and_then(|leaf| spiffe_id_of(&leaf));
        files.extend(id.and_then(|id| bundle_json(&before, wanted, None, Some(jwt), id.trust_domain(), now)));
    }
    limited(replaced(before, files))
}

/// The files of a volume with another bundle of its trust domain, and the chain in them.
///
/// # Errors
/// [`RenderError`].
pub fn with_bundle(
    mut before: Vec<RenderedFile>,
    bundle: &[CertificateDer<'static>],
    wanted: Wanted<'_>,
    now: SystemTime,
) -> Result<(Vec<RenderedFile>, Vec<CertificateDer<'static>>), RenderError> {
    let chain = shown::chain(&before, wanted)?;
    let Wanted { names, extras, .. } = wanted;
    let id = chain.first().and_then(spiffe_id_of);
    let mut files = Vec::new();
    if let Some(id) = &id {
        files.extend(bundle_files(id.trust_domain(), bundle, &chain, &[], wanted)?);
        files.extend(bundle_json(&before, wanted, Some(bundle), None, id.trust_domain(), now));
        files.extend(bundle_map_with(&before, wanted, id.trust_domain(), bundle, now));
    }
    let own = id.filter(|_| extras.per_domain == PerDomain::Every).map(|id| extras.per_domain.name(id.trust_domain()));
    let of_bundle = [&names.bundle, &extras.trust_store, &extras.bundle_json, &extras.bundle_map, &own];
    before.retain(|file| !of_bundle.iter().any(|name| name.as_ref() == Some(&file.name)));
    Ok((limited(replaced(before, files))?, chain))
}

/// Replaces the certificates of a bundle by the text they were read from, if it fits.
pub fn keep_text(files: &mut [RenderedFile], bundle: &TrustBundle, names: &FileNames) {
    let Some((name, kept)) = names.bundle.as_ref().zip(bundle.text()) else { return };
    let others: usize = files.iter().filter(|file| file.name != *name).map(|file| file.contents.len()).sum();
    let is_the_same =
        |file: &&mut RenderedFile| file.name == *name && file.contents == pem(name, bundle.certificates()).contents;
    if let Some(file) = files.iter_mut().find(is_the_same).filter(|_| others + kept.len() <= MAX_VOLUME_BYTES) {
        file.contents = kept.to_vec().into();
    }
}

/// The files that change with the key.
fn certificate_and_key(identity: &Identity, wanted: Wanted<'_>) -> Result<Vec<RenderedFile>, RenderError> {
    let Wanted { names, extras, password } = wanted;
    let chain = identity.chain();
    let sent = if extras.intermediates == Intermediates::WithBundle { &chain[..1] } else { chain };
    let mut files = Vec::new();
    files.extend(names.cert.as_ref().map(|name| pem(name, sent)));
    files.extend(names.key.as_ref().map(|name| text(name, identity.key().to_pem())));
    if let Some(name) = &extras.combined {
        let (chain, key) = (pem(name, chain), identity.key().to_pem());
        let mut both = Zeroizing::new(Vec::with_capacity(chain.contents.len() + key.len()));
        both.extend_from_slice(&chain.contents);
        both.extend_from_slice(key.as_bytes());
        files.push(RenderedFile { name: name.clone(), contents: both });
    }
    if let Some(name) = &extras.key_store {
        let password = password.ok_or(RenderError::NoPassword)?;
        let store = pkcs12::key_store(identity.key(), chain.iter().map(AsRef::as_ref), &extras.alias, password)?;
        files.push(bytes(name, store));
    }
    Ok(files)
}

/// The files that change with the bundle.
fn bundle_files(
    trust_domain: &TrustDomain,
    bundle: &[CertificateDer<'_>],
    chain: &[CertificateDer<'_>],
    merged: &[CertificateDer<'_>],
    wanted: Wanted<'_>,
) -> Result<Vec<RenderedFile>, RenderError> {
    let Wanted { names, extras, password } = wanted;
    let with_bundle = extras.intermediates == Intermediates::WithBundle;
    let intermediates = chain.iter().skip(1).filter(|_| with_bundle);
    let certificates: Vec<_> = bundle.iter().chain(intermediates).chain(merged).cloned().collect();
    let mut files = Vec::new();
    if let Some(name) = names.bundle.as_ref().filter(|_| !certificates.is_empty()) {
        files.push(pem(name, &certificates));
    }
    if extras.per_domain == PerDomain::Every && !bundle.is_empty() {
        files.push(pem(&extras.per_domain.name(trust_domain), bundle));
    }
    if let Some(name) = extras.trust_store.as_ref().filter(|_| !bundle.is_empty()) {
        let password = password.ok_or(RenderError::NoPassword)?;
        let anchors = bundle.iter().chain(merged).enumerate();
        let named = anchors.map(|(index, der)| (format!("{trust_domain}-{}", index + 1), der.as_ref()));
        files.push(bytes(name, pkcs12::trust_store(named, password)?));
    }
    Ok(files)
}

fn replaced(mut before: Vec<RenderedFile>, files: Vec<RenderedFile>) -> Vec<RenderedFile> {
    before.retain(|old| files.iter().all(|new| new.name != old.name));
    before.extend(files);
    before
}

fn limited(files: Vec<RenderedFile>) -> Result<Vec<RenderedFile>, RenderError> {
    let bytes = files.iter().map(|file| file.contents.len()).sum();
    if bytes > MAX_VOLUME_BYTES { Err(RenderError::TooLarge { bytes }) } else { Ok(files) }
}

fn pem(name: &FileName, certificates: &[CertificateDer<'_>]) -> RenderedFile {
    text(name, pem_text::encode(Block::Certificate, certificates.iter().map(AsRef::as_ref)))
}

fn text(name: &FileName, mut text: Zeroizing<String>) -> RenderedFile {
    // Moves the allocation, so that no copy of a key is left behind.
    bytes(name, std::mem::take(&mut *text).into_bytes())
}
