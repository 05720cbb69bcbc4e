//! The address of a collector.

use std::fmt;

use http::Uri;

/// The path that collectors serve, unless another one is given.
const PATH: &str = "/v1/traces";
/// The port of collectors for OTLP over HTTP.
const PORT: u16 = 4318;

/// Where spans are sent to, without TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectorUrl {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) path: String,
}

impl CollectorUrl {
    /// Reads a URL such as `http://collector.monitoring:4318`.
    ///
    /// # Errors
    /// What is wrong with it, and how to write it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let problem = |what: &str| format!("{text:?} {what}; write it like http://collector.monitoring:{PORT}");
        if text.contains('@') {
            return Err(
                "a URL with a user or password would be visible in the flags; name only host and port".to_owned()
            );
        }
        let uri: Uri = text.parse().map_err(|_| problem("is not a URL"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err(problem(
                    "needs TLS, which spans are sent without: send them to a collector of this cluster or node",
                ));
            }
            _ => return Err(problem("is not the URL of a collector of OTLP over HTTP")),
        }
        let authority = uri.authority().ok_or_else(|| problem("names no host"))?;
        if uri.query().is_some() {
            return Err(problem("has a query"));
        }
        let path = if uri.path() == "/" { PATH } else { uri.path() };
        // IPv6 addresses are in brackets.
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        if host.is_empty() {
            return Err(problem("names no host"));
        }
        Ok(Self { host, port: authority.port_u16().unwrap_or(PORT), path: path.to_owned() })
    }
}

impl fmt::Display for CollectorUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, path } = self;
        if host.contains(':') {
            write!(f, "http://[{host}]:{port}{path}")
        } else {
            write!(f, "http://{host}:{port}{path}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_collectors_are_read_and_others_named() {
        for (text, read) in [
            ("http://collector.monitoring:4318", "http://collector.monitoring:4318/v1/traces"),
            ("http://10.0.0.7", "http://10.0.0.7:4318/v1/traces"),
            ("http://[::1]:9/", "http://[::1]:9/v1/traces"),
            ("http://c:1/otlp/v1/traces", "http://c:1/otlp/v1/traces"),
        ] {
            assert_eq!(CollectorUrl::parse(text).map(|endpoint| endpoint.to_string()).as_deref(), Ok(read));
        }
        for (text, part) in [
            ("https://c:4318", "TLS"),
            ("grpc://c:4317", "OTLP over HTTP"),
            ("collector:4318", "OTLP over HTTP"),
            ("http://user:password@c", "password"),
            ("https://user:password@c", "password"),
            ("http://c/?key=1", "query"),
            ("http://:4318", "host"),
            ("not a url", "not a URL"),
            ("", "URL"),
        ] {
            let refused = CollectorUrl::parse(text).unwrap_err();
            assert!(refused.contains(part), "{text}: {refused}");
            assert!(!refused.contains("user:password"), "{refused}");
        }
    }
}
