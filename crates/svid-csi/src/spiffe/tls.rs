//! TLS between workloads: the peer is identified by its SPIFFE ID, not by a host name.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError, ServerConfig, SignatureScheme,
};
use svid_csi_core::identity::{Rejection, peer_id};
use svid_csi_core::spiffe_id::{SpiffeId, TrustDomain};

use crate::host::clock;

/// The identity that this side presents.
pub(crate) struct PresentedSvid {
    /// Its chain, leaf first.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// The leaf's key.
    pub(crate) key: PrivateKeyDer<'static>,
}

/// The allowed peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ExpectedPeer {
    /// This workload.
    Exactly(SpiffeId),
    /// Every ID of this trust domain whose path begins with this prefix, which ends with `/`.
    Below(TrustDomain, &'static str),
}

/// The signing certificates of each trust domain.
pub(crate) type Bundles = BTreeMap<TrustDomain, Vec<CertificateDer<'static>>>;

/// Accepts only a peer whose X509-SVID leads to the bundle of its own trust domain and that is expected (X509-SVID,
/// section 5).
#[derive(Debug)]
struct Peer {
    bundles: Bundles,
    expected: ExpectedPeer,
    provider: Arc<CryptoProvider>,
}

/// Why a peer is refused, as one text, because the TLS library does not pass on causes.
#[derive(Debug, thiserror::Error)]
enum PeerError {
    #[error("the peer's certificate is refused: {0}")]
    Certificate(Rejection),
    #[error("the peer is {found}, but {expected} is expected")]
    Stranger { found: SpiffeId, expected: ExpectedPeer },
}

impl fmt::Display for ExpectedPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExpectedPeer::Exactly(id) => write!(f, "{id}"),
            ExpectedPeer::Below(trust_domain, path) => write!(f, "{}{path}...", trust_domain.id()),
        }
    }
}

impl ExpectedPeer {
    fn is(&self, id: &SpiffeId) -> bool {
        match self {
            ExpectedPeer::Exactly(expected) => id == expected,
            ExpectedPeer::Below(trust_domain, path) => id.trust_domain() == trust_domain && id.path().starts_with(path),
        }
    }
}

/// A TLS client that presents `own` and accepts only the expected peers. It does not resume sessions, because the
/// server would not present a certificate in them.
///
/// # Errors
/// If chain and key cannot be used.
pub(crate) fn client(own: PresentedSvid, bundles: Bundles, expected: ExpectedPeer) -> Result<ClientConfig, Error> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Peer::new(bundles, expected))
        .with_client_auth_cert(own.chain, own.key)?;
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Ok(config)
}

/// A TLS server that presents `own` and accepts only the expected peers.
///
/// # Errors
/// If chain and key cannot be used.
pub(crate) fn server(own: PresentedSvid, bundles: Bundles, expected: ExpectedPeer) -> Result<ServerConfig, Error> {
    ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Peer::new(bundles, expected))
        .with_single_cert(own.chain, own.key)
}

/// The only implementation of cryptography in this process. It prefers X25519MLKEM768 for the exchange of keys, and
/// also knows those that quantum computers will break.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// The protocol requires a server name; the verifier checks the SPIFFE ID.
pub(crate) fn no_name() -> ServerName<'static> {
    ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into())
}

impl Peer {
    fn new(bundles: Bundles, expected: ExpectedPeer) -> Arc<Self> {
        Arc::new(Peer { bundles, expected, provider: provider() })
    }

    fn verify(&self, leaf: &CertificateDer<'_>, rest: &[CertificateDer<'_>]) -> Result<(), Error> {
        let chain: Vec<_> = std::iter::once(leaf).chain(rest).cloned().collect();
        let refused = |refused: PeerError| Error::Other(OtherError(Arc::new(refused)));
        let bundle_of = |trust_domain: &TrustDomain| self.bundles.get(trust_domain).map(Vec::as_slice);
        let found =
            peer_id(&chain, bundle_of, clock::now()).map_err(|rejection| refused(PeerError::Certificate(rejection)))?;
        if self.expected.is(&found) {
            return Ok(());
        }
        Err(refused(PeerError::Stranger { found, expected: self.expected.clone() }))
    }
}

impl ServerCertVerifier for Peer {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(leaf, rest).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, leaf, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Peer {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(leaf, rest).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ServerCertVerifier::verify_tls12_signature(self, message, leaf, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ServerCertVerifier::verify_tls13_signature(self, message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ServerCertVerifier::supported_verify_schemes(self)
    }
}

#[cfg(test)]
mod tests;
