//! Tokens and JWT bundles in files: requested with every certificate, and in between whenever they are due.

use std::sync::Arc;
use std::time::SystemTime;

use futures::future::BoxFuture;
use svid_csi_core::files::{Extras, JwtGiven, TokenFile};
use svid_csi_core::hint;
use svid_csi_core::identity::Validity;
use svid_csi_core::jwt::{JwtBundles, JwtSvid, bundles_digest};
use svid_csi_core::renewal::Ask;
use svid_csi_core::state::{Issued, IssuedJwt};
use svid_csi_core::volume::{Content, FilesSpec, Subject, VolumeSpec};
use tracing::info;

use super::Node;
use super::error::VolumeError;
use super::renewal::{RenewalOutcome, elapsed};
use crate::backoff;
use crate::host::clock;
use crate::source::{SourceError, Sources};
use crate::tasks::blocking;
use crate::telemetry::report;

/// The JWT parts of a volume's files.
#[derive(Debug)]
pub(super) struct Jwt {
    /// The files whose tokens were issued.
    files: Vec<TokenFile>,
    /// One token for each of those.
    tokens: Vec<JwtSvid>,
    /// Why another token was not issued.
    missing: Option<SourceError>,
    bundles: Arc<JwtBundles>,
    came: SystemTime,
}

impl Jwt {
    /// Requests all JWT parts of the volume's files; `None` if they have none.
    pub(super) async fn all(sources: &Sources, spec: &VolumeSpec) -> Result<Option<Self>, SourceError> {
        match Jwt::some(sources, spec, false).await? {
            Some(Jwt { missing: Some(error), .. }) => Err(error),
            jwt => Ok(jwt),
        }
    }

    /// The JWT bundles, and the available tokens; unless `go_on`, none after one that is missing.
    async fn some(sources: &Sources, spec: &VolumeSpec, go_on: bool) -> Result<Option<Self>, SourceError> {
        let Some((wanted, subject)) = wanted(spec) else { return Ok(None) };
        let Extras { tokens, jwt_bundle, .. } = &*wanted.extras;
        let bundles = match sources.jwt_bundles(spec, subject).await {
            // Without JWT bundles, a bundle document is still complete.
            Err(SourceError::NoJwt(_)) if tokens.is_empty() && jwt_bundle.is_none() => return Ok(None),
            bundles => bundles?.borrow().clone(),
        };
        let mut jwt = Jwt { files: Vec::new(), tokens: Vec::new(), missing: None, bundles, came: clock::now() };
        for file in tokens {
            match token(sources, spec, subject, file).await {
                Ok(token) => {
                    jwt.files.push(file.clone());
                    jwt.tokens.push(token);
                }
                Err(error) => jwt.missing = Some(error),
            }
            if jwt.missing.is_some() && !go_on {
                break;
            }
        }
        jwt.came = clock::now();
        Ok(Some(jwt))
    }

    pub(super) fn given(&self) -> JwtGiven<'_> {
        JwtGiven { tokens: &self.tokens, bundles: &self.bundles }
    }

    /// The parts to write; tokens that were not issued stay.
    pub(super) fn extras(&self, wanted: &Extras) -> Extras {
        Extras { tokens: self.files.clone(), ..wanted.clone() }
    }

    /// The record, if the volume had `before`: tokens that were not issued stay due.
    fn issued_after(&self, before: Option<&IssuedJwt>) -> IssuedJwt {
        let kept = before.and_then(|before| before.tokens).filter(|_| self.missing.is_some());
        let issued = self.issued();
        IssuedJwt { tokens: kept.or(issued.tokens), ..issued }
    }

    pub(super) fn issued(&self) -> IssuedJwt {
        let end = self.tokens.iter().map(|svid| svid.expires_at).min();
        IssuedJwt {
            tokens: end.map(|not_after| Validity { not_before: self.came, not_after }),
            bundles_digest: bundles_digest(&self.bundles),
        }
    }
}

/// The files of a volume that need tokens or JWT bundles.
fn wanted(spec: &VolumeSpec) -> Option<(&FilesSpec, &Subject)> {
    match &spec.content {
        Content::Files(files) if files.extras.need_jwt() && files.subject.issuer.gives_jwt() => {
            Some((files, &files.subject))
        }
        _ => None,
    }
}

/// Whether the volume's files need tokens or JWT bundles.
pub(super) fn wants_jwt(spec: &VolumeSpec) -> bool {
    wanted(spec).is_some()
}

async fn token(
    sources: &Sources,
    spec: &VolumeSpec,
    subject: &Subject,
    file: &TokenFile,
) -> Result<JwtSvid, SourceError> {
    let svids = sources.jwt_svids(spec, subject, &file.audience, None).await?;
    chosen(svids, subject.hint.as_deref())
}

/// New tokens and JWT bundles for the volume's files, at that time or when the bundles have changed. Never if the files
/// contain none, or no identity.
pub(super) fn next<'a>(
    sources: &'a Sources,
    spec: &'a VolumeSpec,
    last: Option<&'a Issued>,
    ask: Ask,
) -> BoxFuture<'a, Result<Jwt, SourceError>> {
    match (wanted(spec), last) {
        (Some((_, subject)), Some(last)) => Box::pin(async move {
            let changed = async {
                match last.jwt.as_ref().filter(|_| ask.differs_from.is_some()) {
                    // A source without bundles yet has no changes.
                    Some(held) => {
                        while !bundles_have_changed(sources, spec, subject, held).await {
                            tokio::time::sleep(backoff::retry_delay(1, None)).await;
                        }
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = elapsed(ask.after) => {}
                () = changed => {}
            }
            match Jwt::some(sources, spec, true).await? {
                Some(jwt) => Ok(jwt),
                None => std::future::pending().await,
            }
        }),
        _ => Box::pin(std::future::pending()),
    }
}

/// Waits for JWT bundles other than those in the volume. Returns `false` if the source has none.
async fn bundles_have_changed(sources: &Sources, spec: &VolumeSpec, subject: &Subject, last: &IssuedJwt) -> bool {
    let Ok(mut bundles) = sources.jwt_bundles(spec, subject).await else { return false };
    // Without bundles, they were withdrawn, which is also reported for the identity.
    let differ = |bundles: &Arc<JwtBundles>| !bundles.is_empty() && bundles_digest(bundles) != last.bundles_digest;
    let changed = bundles.wait_for(differ).await.is_ok();
    if !changed {
        // The source's bundles never change.
        std::future::pending::<()>().await;
    }
    changed
}

impl Node {
    /// Delivers new tokens and JWT bundles beside the volume's other files. Tokens that were not issued stay unchanged,
    /// but are still an error.
    pub(super) async fn install_jwt(
        self: &Arc<Self>,
        spec: &VolumeSpec,
        mut jwt: Jwt,
    ) -> Result<RenewalOutcome, VolumeError> {
        let mut held = self.volumes.hold(&spec.id).await;
        let this = self.clone();
        blocking(move || {
            let Some(volume) = held.as_mut().filter(|volume| volume.has_identity()) else {
                return Ok(RenewalOutcome::Unpublished);
            };
            if let Some(issued) = volume.record().issued.clone() {
                audit_jwt(&volume.record().spec, &jwt);
                let delivered = this.deliveries.deliver_jwt(volume.record(), &jwt);
                if matches!(delivered, Err(VolumeError::Changed(_))) {
                    this.distrust(volume);
                }
                delivered?;
                let remembered = jwt.issued_after(issued.jwt.as_ref());
                this.record(volume, |record| record.give(Some(Issued { jwt: Some(remembered), ..issued })))?;
            }
            if let Some(missing) = jwt.missing.take() {
                return Err(missing.into());
            }
            Ok(RenewalOutcome::Holds(volume.record().issued.clone()))
        })
        .await?
    }
}

/// Writes one line for every token delivered to a pod.
pub(super) fn audit_jwt(spec: &VolumeSpec, jwt: &Jwt) {
    let pod = spec.pod.as_ref();
    for svid in &jwt.tokens {
        info!(
            target: "svid_csi::audit",
            pod_uid = pod.map(|pod| pod.uid.as_str()),
            pod = pod.map(ToString::to_string),
            spiffe_id = %svid.id,
            audience = svid.audience.join(","),
            not_after = report::rfc3339(svid.expires_at),
            source = %spec.plan().source(),
            "JWT-SVID issued"
        );
    }
}

/// The SVID with that hint, or the default one.
fn chosen(mut svids: Vec<JwtSvid>, hint: Option<&str>) -> Result<JwtSvid, SourceError> {
    if svids.is_empty() {
        return Err(SourceError::NoToken);
    }
    match hint {
        None => Ok(svids.swap_remove(0)),
        Some(hint) => Ok(hint::pick(svids, hint, |svid| &svid.hint)?),
    }
}
