//! The rules of identities, tested with certificates made for the purpose: one that complies with every rule, and for
//! each rule one that breaks only that rule.

mod accept;
mod approve;
mod authorities;
mod bundle;
mod bundle_document;
mod ca;
mod cert_request;
mod context;
mod files;
mod forge;
mod jwt;
mod key;
mod leaf;
mod openssl_ca;
mod oracle;
mod path;
mod peer;
mod pkcs12;
mod renewal;
mod trust;
