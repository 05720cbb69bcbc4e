//! The names in certificates, and whether a constraint applies to them (RFC 5280, section 4.2.1.10).

use std::net::IpAddr;

use x509_parser::certificate::X509Certificate;

use super::directory;
use super::extension::extension;
use crate::der::{Element, Reader, SEQUENCE, only};

/// A name, or the name in a constraint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Name<'a> {
    pub(super) form: Form,
    pub(super) value: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Email,
    Dns,
    Directory,
    Uri,
    Ip,
    /// A form for which constraints are not supported, by its tag.
    Other(u8),
}

/// The name cannot be compared with a constraint of its form.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Incomparable;

impl<'a> Name<'a> {
    /// Reads the alternative names; adds the subject, and the email addresses in it.
    pub(super) fn all(certificate: &X509Certificate<'a>) -> Option<Vec<Self>> {
        let mut names = Vec::new();
        if let Some(value) = extension(certificate, 17) {
            let mut list = Reader::new(only(value, SEQUENCE)?);
            while list.left() > 0 {
                names.push(Some(Self::of(list.element()?)).filter(Self::is_well_formed)?);
            }
        }
        let subject = certificate.tbs_certificate.subject.as_raw();
        if only(subject, SEQUENCE).is_none_or(|parts| !parts.is_empty()) {
            names.push(Self { form: Form::Directory, value: subject });
            names.extend(directory::emails(subject)?.into_iter().map(|value| Self { form: Form::Email, value }));
        }
        Some(names)
    }

    /// A `GeneralName`.
    pub(super) fn of(element: Element<'a>) -> Self {
        let form = match element.tag {
            0x81 => Form::Email,
            0x82 => Form::Dns,
            0xa4 => Form::Directory,
            0x86 => Form::Uri,
            0x87 => Form::Ip,
            other => Form::Other(other),
        };
        Self { form, value: element.content }
    }

    /// Whether other programs can read it (RFC 5280, section 4.2.1.6).
    fn is_well_formed(&self) -> bool {
        match self.form {
            Form::Email | Form::Dns => self.value.is_ascii(),
            Form::Uri => text(self.value).is_some_and(is_uri),
            Form::Ip => matches!(self.value.len(), 4 | 16),
            Form::Directory | Form::Other(_) => true,
        }
    }

    /// Whether this is a constraint that can be compared with names.
    pub(super) fn is_constraint(&self) -> bool {
        match self.form {
            Form::Email => {
                text(self.value).is_some_and(|text| mailbox(text).is_some() || text.is_empty() || is_domain(text))
            }
            Form::Dns => text(self.value).is_some_and(|text| text.is_empty() || is_domain(text)),
            Form::Uri => text(self.value).is_some_and(|text| is_domain(text) && text.parse::<IpAddr>().is_err()),
            Form::Ip => network(self.value).is_some_and(|(_, mask)| is_prefix(mask)),
            Form::Directory => directory::parts(self.value).is_some(),
            Form::Other(_) => true,
        }
    }

    /// Whether this name is within a constraint of the same form.
    pub(super) fn is_within(&self, constraint: &Name<'_>) -> Result<bool, Incomparable> {
        let within = match self.form {
            Form::Ip => in_network(self.value, constraint.value),
            Form::Directory => directory::is_within(self.value, constraint.value),
            Form::Other(_) => None,
            Form::Email | Form::Dns | Form::Uri => {
                text(self.value).zip(text(constraint.value)).and_then(|(name, constraint)| match self.form {
                    Form::Email => is_mailbox_within(name, constraint),
                    Form::Dns => is_host(name).then(|| is_in_domain(name, constraint)),
                    _ => host_of_uri(name).map(|host| is_host_within(host, constraint)),
                })
            }
        };
        within.ok_or(Incomparable)
    }

    /// Whether this is a DNS name with a wildcard in the position of the constraint's name.
    pub(super) fn is_wildcard_over(&self, constraint: &Name<'_>) -> bool {
        let [b'*', parent @ ..] = self.value else { return false };
        let dot = constraint.value.iter().position(|byte| *byte == b'.');
        self.form == Form::Dns && dot.is_some_and(|dot| constraint.value[dot..].eq_ignore_ascii_case(parent))
    }
}

/// All these names are IA5 strings.
fn text(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value).ok().filter(|text| text.is_ascii())
}

/// Whether everyone can take it apart: printable characters, a scheme that is one, and whole escapes before the query
/// (RFC 3986, sections 2.1 and 3.1). Spaces are not allowed there, but no program minds them.
fn is_uri(text: &str) -> bool {
    let is_scheme = |scheme: &str| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    };
    let is_escape = |rest: &str| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    let (start, before_query) = (text.split(['/', '?', '#']).next(), text.split('?').next());
    text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        && start.and_then(|start| start.split_once(':')).is_none_or(|(scheme, _)| is_scheme(scheme))
        && before_query.unwrap_or_default().split('%').skip(1).all(is_escape)
}

/// A host, or a domain: one that begins with a dot.
fn is_domain(text: &str) -> bool {
    is_host(text.strip_prefix('.').unwrap_or(text))
}

fn is_host(text: &str) -> bool {
    text.split('.').all(|label| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_graphic()))
}

/// With any labels before it, or none; a constraint that begins with a dot requires at least one.
fn is_in_domain(host: &str, domain: &str) -> bool {
    let Some(at) = host.len().checked_sub(domain.len()) else { return false };
    let (before, end) = host.as_bytes().split_at(at);
    let begins_a_label = if domain.starts_with('.') {
        !before.is_empty()
    } else {
        before.is_empty() || before.ends_with(b".") || domain.is_empty()
    };
    begins_a_label && end.eq_ignore_ascii_case(domain.as_bytes())
}

/// A host matches only itself; a constraint that begins with a dot matches all hosts in that domain.
fn is_host_within(host: &str, constraint: &str) -> bool {
    if constraint.starts_with('.') { is_in_domain(host, constraint) } else { host.eq_ignore_ascii_case(constraint) }
}

/// The host of a URI, if it is a name. An address or a missing authority cannot be constrained.
fn host_of_uri(uri: &str) -> Option<&str> {
    let (_, rest) = uri.split_once("://")?;
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
    let is_name = |host: &&str| {
        let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        host.bytes().all(is_name_byte) && is_host(host) && host.parse::<IpAddr>().is_err()
    };
    Some(host).filter(is_name).filter(|_| port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The two parts of an email address that is neither quoted nor otherwise out of the ordinary.
fn mailbox(text: &str) -> Option<(&str, &str)> {
    let (local, host) = text.rsplit_once('@')?;
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"\"\\@(),:;<>[]".contains(&byte);
    (!local.is_empty() && local.bytes().all(is_plain) && is_host(host)).then_some((local, host))
}

/// One mailbox, all mailboxes of a host, or those of all hosts in a domain.
fn is_mailbox_within(name: &str, constraint: &str) -> Option<bool> {
    let (local, host) = mailbox(name)?;
    Some(match constraint.rsplit_once('@') {
        Some((only, at)) => local == only && host.eq_ignore_ascii_case(at),
        None => constraint.is_empty() || is_host_within(host, constraint),
    })
}

/// An address and its mask.
fn network(value: &[u8]) -> Option<(&[u8], &[u8])> {
    matches!(value.len(), 8 | 32).then(|| value.split_at(value.len() / 2))
}

/// The style of RFC 4632 (CIDR): ones, then zeros.
fn is_prefix(mask: &[u8]) -> bool {
    let mut bits = mask.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1));
    bits.by_ref().find(|bit| *bit == 0);
    bits.all(|bit| bit == 0)
}

fn in_network(address: &[u8], constraint: &[u8]) -> Option<bool> {
    let (network, mask) = network(constraint)?;
    let same = |((address, network), mask)| address & mask == network & mask;
    let mut bytes = address.iter().zip(network).zip(mask);
    matches!(address.len(), 4 | 16).then(|| address.len() == network.len() && bytes.all(same))
}
