//! How the API server is authenticated: by the cluster's CA, or by a certificate that is itself in the CA file.
//!
//! An API server may serve the certificate of its own CA. Go accepts it if it is among the roots; webpki, which rustls
//! uses, never accepts a CA as a server.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use kube::Config;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};
use x509_parser::time::ASN1Time;

use super::ClientError;

/// How long the roots from a file are used before they are read again, because the file of a service account changes
/// with the cluster's CA.
const FRESH: Duration = Duration::from_secs(60);

/// The API server's certificate is a CA certificate, and not pinned.
#[derive(Debug, thiserror::Error)]
#[error(
    "the API server's certificate is a CA certificate, which is accepted only if it is one of those in \
     certificate-authority-data, and is valid for the server's name; add it there, or give the API server a certificate of its own"
)]
struct ServedByCa;

#[derive(Debug)]
struct Verifier {
    file: Option<PathBuf>,
    roots: RwLock<(Arc<ApiServerRoots>, Instant)>,
}

#[derive(Debug)]
struct ApiServerRoots {
    certificates: Vec<CertificateDer<'static>>,
    verifier: Arc<WebPkiServerVerifier>,
}

/// The verifier for the roots of `config`; `None` if it has none, or disables verification.
pub(super) fn of(config: &Config) -> Result<Option<Arc<dyn ServerCertVerifier>>, ClientError> {
    let Some(roots) = config.root_cert.as_ref().filter(|_| !config.accept_invalid_certs) else { return Ok(None) };
    let roots =
        ApiServerRoots::new(roots.iter().map(|der| der.clone().into()).collect()).map_err(ClientError::Roots)?;
    let roots = RwLock::new((Arc::new(roots), Instant::now()));
    Ok(Some(Arc::new(Verifier { file: config.root_cert_file.clone(), roots })))
}

impl ApiServerRoots {
    fn new(certificates: Vec<CertificateDer<'static>>) -> Result<Self, Error> {
        let mut store = RootCertStore::empty();
        certificates.iter().try_for_each(|root| store.add(root.clone()))?;
        let verifier = WebPkiServerVerifier::builder(Arc::new(store)).build();
        Ok(Self { certificates, verifier: verifier.map_err(|error| Error::General(error.to_string()))? })
    }

    fn read(file: &Path) -> Option<Self> {
        let certificates = CertificateDer::pem_file_iter(file).ok()?.collect::<Result<Vec<_>, _>>().ok()?;
        Self::new(certificates).ok()
    }

    /// Whether this server's certificate is one of the roots, which Go's `Certificate.Verify` accepts.
    fn is_pinned(&self, server: &CertificateDer<'_>, name: &ServerName<'_>, now: UnixTime) -> Result<bool, Error> {
        if !self.certificates.iter().any(|root| root == server) {
            return Ok(false);
        }
        rustls::client::verify_server_name(&ParsedCertificate::try_from(server)?, name)?;
        let (_, parsed) = x509_parser::parse_x509_certificate(server).map_err(|_| CertificateError::BadEncoding)?;
        let now = i64::try_from(now.as_secs()).ok().and_then(|now| ASN1Time::from_timestamp(now).ok());
        if !now.is_some_and(|now| parsed.validity().is_valid_at(now)) {
            return Err(CertificateError::Expired.into());
        }
        let usage = parsed.extended_key_usage().map_err(|_| CertificateError::BadEncoding)?;
        Ok(usage.is_none_or(|usage| usage.value.server_auth || usage.value.any))
    }
}

impl Verifier {
    /// The roots, reread regularly if they are in a file. If that fails, the previous ones are kept.
    fn roots(&self) -> Arc<ApiServerRoots> {
        let (roots, read_at) = self.roots.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(file) = self.file.as_ref().filter(|_| read_at.elapsed() >= FRESH) else { return roots };
        let roots = ApiServerRoots::read(file).map_or(roots, Arc::new);
        *self.roots.write().unwrap_or_else(PoisonError::into_inner) = (roots.clone(), Instant::now());
        roots
    }
}

fn is_about_ca(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(OtherError(cause))) = error else { return false };
    matches!(cause.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        server: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let roots = self.roots();
        match roots.verifier.verify_server_cert(server, intermediates, name, ocsp, now) {
            Err(error) if is_about_ca(&error) => match roots.is_pinned(server, name, now)? {
                true => Ok(ServerCertVerified::assertion()),
                false => Err(CertificateError::Other(OtherError(Arc::new(ServedByCa))).into()),
            },
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.roots().verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.roots().verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.roots().verifier.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair};

    use super::*;

    fn server(change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(["api.test".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(&mut params);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn verified(
        roots: &[&CertificateDer<'static>],
        served: &CertificateDer<'static>,
        name: &str,
    ) -> Result<(), String> {
        let roots = ApiServerRoots::new(roots.iter().map(|root| (*root).clone()).collect()).unwrap();
        let verifier = Verifier { file: None, roots: RwLock::new((Arc::new(roots), Instant::now())) };
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let verified = verifier.verify_server_cert(served, &[], &name, &[], UnixTime::now());
        verified.map(drop).map_err(|error| error.to_string())
    }

    #[test]
    fn a_ca_certificate_is_accepted_as_the_servers_if_it_is_pinned() {
        let (pinned, other) = (server(|_| {}), server(|_| {}));
        assert_eq!(verified(&[&other, &pinned], &pinned, "api.test"), Ok(()));
        assert!(verified(&[&other], &pinned, "api.test").is_err());
        assert!(verified(&[&pinned], &pinned, "other.test").unwrap_err().contains("name"));
        let client = server(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
        assert!(verified(&[&client], &client, "api.test").is_err());
        let ended = server(|params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
        assert!(verified(&[&ended], &ended, "api.test").unwrap_err().contains("expired"));
    }
}
