//! Secrets by the names that SPIRE agents use.

use std::collections::BTreeSet;

use prost::Message;
use prost_types::Any;
use rustls::pki_types::CertificateDer;
use svid_csi_core::identity::{Identity, to_pem};
use svid_csi_core::quoted::Quoted;
use svid_csi_core::spiffe_id::TrustDomain;
use svid_csi_core::volume::SecretNames;
use svid_csi_core::x509_context::X509Context;
use svid_csi_proto::sds::data_source::Specifier;
use svid_csi_proto::sds::secret::Type;
use svid_csi_proto::sds::spiffe_cert_validator_config::TrustDomain as TrustedDomain;
use svid_csi_proto::sds::{
    CertificateValidationContext, DataSource, SECRET_TYPE, SPIFFE_VALIDATOR_TYPE, Secret, SpiffeCertValidatorConfig,
    TlsCertificate, TypedExtensionConfig,
};
use tonic::Status;

use super::validator::Validator;

/// The size of a list of names in an error. It is a header of the response, and many clients accept 8 KiB of headers.
const LISTED_BYTES: usize = 1024;

/// Envoy's name of its SPIFFE validator.
const SPIFFE_VALIDATOR: &str = "envoy.tls.cert_validator.spiffe";

type Bundle<'a> = (&'a TrustDomain, &'a [CertificateDer<'static>]);

/// The secrets with these names. Without names, all bundles by trust domain and all SVIDs by SPIFFE ID.
///
/// # Errors
/// INVALID_ARGUMENT, naming secrets that the pod does not have.
pub(super) fn named(
    context: &X509Context,
    special: &SecretNames,
    names: &[String],
    validator: Validator,
) -> Result<Vec<Any>, Status> {
    let asked: BTreeSet<&str> = names.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
    let everything: Vec<String>;
    let names: Vec<&str> = if asked.is_empty() {
        everything = all_names(context);
        everything.iter().map(String::as_str).collect()
    } else {
        asked.into_iter().collect()
    };
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for name in names {
        match kind(context, special, name, validator)? {
            Some(kind) => found.push(any(name, kind)),
            None => missing.push(name),
        }
    }
    if missing.is_empty() {
        return Ok(found);
    }
    let missing = listed(missing.into_iter().map(|name| Quoted::new(name).to_string()));
    let offered = listed(offered(context, special).into_iter());
    Err(Status::invalid_argument(format!("this pod has no secret {missing}: ask for {offered}")))
}

fn all_names(context: &X509Context) -> Vec<String> {
    let mut names: Vec<String> = context.bundles().map(|(trust_domain, _)| trust_domain.id().to_string()).collect();
    for svid in context.svids() {
        let id = svid.identity.id().to_string();
        if !names.contains(&id) {
            names.push(id);
        }
    }
    names
}

fn offered(context: &X509Context, special: &SecretNames) -> Vec<String> {
    let special = [&special.svid, &special.bundle, &special.all_bundles];
    special.into_iter().cloned().chain(all_names(context)).collect()
}

/// As many names as fit.
fn listed(names: impl ExactSizeIterator<Item = String>) -> String {
    let (mut list, all) = (String::new(), names.len());
    for (index, name) in names.enumerate() {
        let separator = if index == 0 { "" } else { ", " };
        if index > 0 && list.len() + name.len() > LISTED_BYTES {
            return format!("{list} and {} more", all - index);
        }
        list = list + separator + &name;
    }
    list
}

fn kind(
    context: &X509Context,
    special: &SecretNames,
    name: &str,
    validator: Validator,
) -> Result<Option<Type>, Status> {
    let bundles: Vec<Bundle<'_>> = context.bundles().collect();
    let own = || bundles.iter().filter(|(trust_domain, _)| *trust_domain == context.trust_domain());
    let kind = match name {
        name if name == special.svid => Some(certificate(context.default_svid())),
        name if name == special.bundle => own().next().map(|bundle| validation(&[*bundle], validator)).transpose()?,
        name if name == special.all_bundles => Some(validation(&bundles, validator)?),
        _ => match bundles.iter().find(|(trust_domain, _)| trust_domain.id().as_str() == name) {
            Some(bundle) => Some(validation(&[*bundle], validator)?),
            None => {
                let svid = context.svids().iter().find(|svid| svid.identity.id().as_str() == name);
                svid.map(|svid| certificate(&svid.identity))
            }
        },
    };
    Ok(kind)
}

fn certificate(identity: &Identity) -> Type {
    Type::TlsCertificate(TlsCertificate {
        certificate_chain: Some(inline(to_pem(identity.chain()).into_bytes())),
        private_key: Some(inline(identity.key().to_pem().as_bytes().to_vec())),
    })
}

fn validation(bundles: &[Bundle<'_>], validator: Validator) -> Result<Type, Status> {
    let context = match (validator, bundles) {
        (Validator::Spiffe, _) => {
            CertificateValidationContext { custom_validator_config: Some(spiffe(bundles)), trusted_ca: None }
        }
        (Validator::Roots, [(_, bundle)]) => {
            let trusted_ca = Some(inline(to_pem(bundle).into_bytes()));
            CertificateValidationContext { trusted_ca, custom_validator_config: None }
        }
        // A single list would let each trust domain vouch for all others.
        (Validator::Roots, _) => {
            return Err(Status::invalid_argument(
                "the secret of all bundles is for the SPIFFE validator of Envoy 1.18 and later, which this node does not use",
            ));
        }
    };
    Ok(Type::ValidationContext(context))
}

fn spiffe(bundles: &[Bundle<'_>]) -> TypedExtensionConfig {
    let trusted = |(trust_domain, bundle): &Bundle<'_>| TrustedDomain {
        name: trust_domain.to_string(),
        trust_bundle: Some(inline(to_pem(bundle).into_bytes())),
    };
    let mut trust_domains: Vec<TrustedDomain> = bundles.iter().map(trusted).collect();
    trust_domains.sort_by(|one, other| one.name.cmp(&other.name));
    let value = SpiffeCertValidatorConfig { trust_domains }.encode_to_vec();
    let typed_config = Some(Any { type_url: SPIFFE_VALIDATOR_TYPE.to_owned(), value });
    TypedExtensionConfig { name: SPIFFE_VALIDATOR.to_owned(), typed_config }
}

fn inline(bytes: Vec<u8>) -> DataSource {
    DataSource { specifier: Some(Specifier::InlineBytes(bytes)) }
}

fn any(name: &str, kind: Type) -> Any {
    let value = Secret { name: name.to_owned(), r#type: Some(kind) }.encode_to_vec();
    Any { type_url: SECRET_TYPE.to_owned(), value }
}
