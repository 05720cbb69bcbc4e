//! Every attribute of ours, for the parser and for the reference.

use crate::plan::{Delivery, Source};

/// The prefix of all names.
pub const OWN_PREFIX: &str = "svid-csi/";

/// The predecessor's name for `svid-csi/fs-group`.
pub const PREDECESSOR_FS_GROUP: &str = "spiffe.csi.cert-manager.io/fs-group";

/// A volume attribute that pod authors may set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute {
    /// Its name after [`OWN_PREFIX`].
    pub name: &'static str,
    /// The sources it applies to.
    pub sources: &'static [Source],
    /// The deliveries it applies to.
    pub deliveries: &'static [Delivery],
    /// The accepted values.
    pub accepts: &'static str,
    /// The default.
    pub default: &'static str,
    /// Its meaning.
    pub meaning: &'static str,
    /// An accepted value.
    pub example: &'static str,
}

const ALL_SOURCES: &[Source] = &[Source::Socket, Source::Broker, Source::CertManager, Source::LocalCa];
const ISSUERS: &[Source] = &[Source::Broker, Source::CertManager, Source::LocalCa];
const JWT_ISSUERS: &[Source] = &[Source::Broker, Source::LocalCa];
const ALL_DELIVERIES: &[Delivery] = &[Delivery::SocketDir, Delivery::Files, Delivery::WorkloadApi];
const OWN_DELIVERIES: &[Delivery] = &[Delivery::Files, Delivery::WorkloadApi];
const FILES: &[Delivery] = &[Delivery::Files];

const FILE_NAME: &str = "a file name";

/// A file of a volume, by its attribute.
const fn file(name: &'static str, default: &'static str, meaning: &'static str, example: &'static str) -> Attribute {
    Attribute { name, sources: ISSUERS, deliveries: FILES, accepts: FILE_NAME, default, meaning, example }
}

pub(super) const SOURCE: Attribute = Attribute {
    name: "source",
    sources: ALL_SOURCES,
    deliveries: ALL_DELIVERIES,
    accepts: "`socket`, `broker`, `cert-manager` or `local-ca`; the pair of source and delivery must be one the driver allows",
    default: "the driver's",
    meaning: "who issues the identity",
    example: "local-ca",
};
pub(super) const DELIVERY: Attribute = Attribute {
    name: "delivery",
    sources: ALL_SOURCES,
    deliveries: ALL_DELIVERIES,
    accepts: "`socket-dir`, `files` or `workload-api`",
    default: "the driver's; with `svid-csi/source`, `socket-dir` for the source `socket`, else `files`",
    meaning: "how the pod receives it",
    example: "files",
};
pub(super) const HINT: Attribute = Attribute {
    name: "hint",
    sources: &[Source::Broker],
    deliveries: OWN_DELIVERIES,
    accepts: "1 to 1024 bytes",
    default: "the first identity",
    meaning: "which of several identities to use, by the hint it was registered with",
    example: "internal",
};
pub(super) const LAYOUT: Attribute = Attribute {
    name: "layout",
    sources: ISSUERS,
    deliveries: FILES,
    accepts: "`pem`, `spiffe`, `pod-certificate`, `gke`, `spiffe-helper` or `istio`",
    default: "`--layout`, `pem` unless set",
    meaning: "which files there are, and their names: [below](#layouts)",
    example: "gke",
};
pub(super) const FILE_CERT: Attribute = file(
    "file-cert",
    "that of the layout; with `pem` `--file-name-certificate`, `tls.crt` unless set",
    "the certificate, then its intermediate certificates (PEM)",
    "svid.pem",
);
pub(super) const FILE_KEY: Attribute = file(
    "file-key",
    "that of the layout; with `pem` `--file-name-key`, `tls.key` unless set",
    "the private key (PKCS#8, PEM)",
    "svid_key.pem",
);
pub(super) const FILE_BUNDLE: Attribute = file(
    "file-bundle",
    "that of the layout; with `pem` `--file-name-ca`, `ca.crt` unless set; with `cert-manager` only if the driver has a trust bundle",
    "the CA certificates of the pod's own trust domain (PEM)",
    "bundle.pem",
);
pub(super) const FS_GROUP: Attribute = Attribute {
    name: "fs-group",
    sources: ISSUERS,
    deliveries: FILES,
    accepts: "a group id from 0 to 4294967294",
    default: "`spiffe.csi.cert-manager.io/fs-group`, else the pod's `fsGroup`, else root's group",
    meaning: "the group that may read the files",
    example: "2000",
};
pub(super) const AUDIENCE: Attribute = Attribute {
    name: "audience",
    sources: JWT_ISSUERS,
    deliveries: FILES,
    accepts: "up to 8 audiences of up to 256 bytes, separated by commas",
    default: "no JWT-SVIDs",
    meaning: "the audiences of the JWT-SVIDs, with one file for each",
    example: "vault,database",
};
pub(super) const FILE_TOKEN: Attribute = Attribute {
    name: "file-token",
    sources: JWT_ISSUERS,
    deliveries: FILES,
    accepts: "a file name for each audience of `svid-csi/audience`, separated by commas",
    default: "`jwt_svid_<n>.token`, from 0",
    meaning: "the JWT-SVIDs",
    example: "vault.token,database.token",
};
pub(super) const FILE_JWT_BUNDLE: Attribute = Attribute {
    name: "file-jwt-bundle",
    sources: JWT_ISSUERS,
    deliveries: FILES,
    accepts: FILE_NAME,
    default: "`jwt_bundles.json` with audiences, else none",
    meaning: "the keys to verify the JWT-SVIDs of other workloads",
    example: "jwks.json",
};
pub(super) const FILE_COMBINED: Attribute =
    file("file-combined", "none", "certificates and then the key in one PEM", "svid-and-key.pem");
pub(super) const FILE_CREDENTIAL_BUNDLE: Attribute = file(
    "file-credential-bundle",
    "that of the layout, else none",
    "key and then the certificates in one PEM",
    "credential-bundle.pem",
);
pub(super) const FILE_PKCS12: Attribute =
    file("file-pkcs12", "none", "key and certificates as a PKCS#12 key store", "keystore.p12");
pub(super) const PKCS12_ALIAS: Attribute = Attribute {
    name: "pkcs12-alias",
    sources: ISSUERS,
    deliveries: FILES,
    accepts: "1 to 64 printable ASCII characters without spaces, with `svid-csi/file-pkcs12`",
    default: "`svid`",
    meaning: "the alias of the key in the PKCS#12 key store",
    example: "user",
};
pub(super) const FILE_PKCS12_BUNDLE: Attribute =
    file("file-pkcs12-bundle", "none", "the CA certificates as a PKCS#12 trust store", "truststore.p12");
pub(super) const FILE_BUNDLE_JSON: Attribute =
    file("file-bundle-json", "none", "the SPIFFE bundle document of the pod's trust domain", "bundle.json");
pub(super) const FILE_BUNDLE_MAP: Attribute = file(
    "file-bundle-map",
    "that of the layout, else none",
    "the SPIFFE bundle map of all trust domains",
    "trust_bundles.json",
);
pub(super) const FEDERATED: Attribute = Attribute {
    name: "federated",
    sources: ISSUERS,
    deliveries: FILES,
    accepts: "`separate`, `map`, `merged` or `none`",
    default: "`separate`; with the layout `gke` `map`",
    meaning: "where the CA certificates of other trust domains go: to a file for each, only to the bundle map, to the pod's own, or nowhere",
    example: "merged",
};
pub(super) const INTERMEDIATES: Attribute = Attribute {
    name: "intermediates",
    sources: ISSUERS,
    deliveries: FILES,
    accepts: "`with-cert` or `with-bundle`",
    default: "`with-cert`",
    meaning: "which file intermediate certificates are in",
    example: "with-bundle",
};
pub(super) const SOCKET_NAME: Attribute = Attribute {
    name: "socket-name",
    sources: ISSUERS,
    deliveries: &[Delivery::WorkloadApi],
    accepts: "up to 8 file names of at most 64 bytes, separated by commas",
    default: "`agent.sock,spire-agent.sock,socket,api.sock`",
    meaning: "the socket of the Workload API; all names lead to the same socket",
    example: "workload.sock,api.sock",
};

/// A secret of Envoy's SDS, by the attribute that names it.
const fn secret(name: &'static str, default: &'static str, meaning: &'static str, example: &'static str) -> Attribute {
    let (deliveries, accepts): (&[_], _) = (&[Delivery::WorkloadApi], "1 to 253 bytes");
    Attribute { name, sources: ISSUERS, deliveries, accepts, default, meaning, example }
}

pub(super) const SDS_SVID_NAME: Attribute =
    secret("sds-svid-name", "`default`", "the secret by which an Envoy asks for the pod's certificate and key", "mine");
pub(super) const SDS_BUNDLE_NAME: Attribute =
    secret("sds-bundle-name", "`ROOTCA`", "the secret for the bundle of the pod's own trust domain", "null");
pub(super) const SDS_ALL_BUNDLES_NAME: Attribute =
    secret("sds-all-bundles-name", "`ALL`", "the secret for the bundles of all trust domains", "EVERYONE");

/// All attributes, in the order of the reference. The parser knows no others.
pub const ATTRIBUTES: [Attribute; 24] = [
    SOURCE,
    DELIVERY,
    HINT,
    LAYOUT,
    FILE_CERT,
    FILE_KEY,
    FILE_BUNDLE,
    FS_GROUP,
    AUDIENCE,
    FILE_TOKEN,
    FILE_JWT_BUNDLE,
    FILE_COMBINED,
    FILE_CREDENTIAL_BUNDLE,
    FILE_PKCS12,
    PKCS12_ALIAS,
    FILE_PKCS12_BUNDLE,
    FILE_BUNDLE_JSON,
    FILE_BUNDLE_MAP,
    FEDERATED,
    INTERMEDIATES,
    SOCKET_NAME,
    SDS_SVID_NAME,
    SDS_BUNDLE_NAME,
    SDS_ALL_BUNDLES_NAME,
];
