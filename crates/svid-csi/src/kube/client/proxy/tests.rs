use super::*;

fn environment(pairs: &[(&str, &str)]) -> ProxyEnvironment {
    ProxyEnvironment::read(|name| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
}

fn is_used(none_for: &str, target: &str) -> bool {
    let environment = environment(&[("HTTPS_PROXY", "p:1"), ("http_proxy", "p:2"), ("no_proxy", none_for)]);
    environment.proxy_for(&target.parse().unwrap()).unwrap().is_some()
}

/// Lines from the table of `httpproxy` (`proxy_test.go`), and further ones.
#[test]
fn no_proxy_is_read_as_go_reads_it() {
    for (none_for, target, expected) in [
        ("", "https://example.com", true),
        ("", "https://localhost:6443", false),
        ("", "https://127.0.0.1:6443", false),
        ("", "https://127.0.0.2", false),
        ("", "https://[::1]:6443", false),
        ("", "https://[::2]", true),
        ("*", "https://example.com", false),
        ("foobar.com", "https://foobar.com", false),
        ("foobar.com", "https://www.foobar.com", false),
        ("foobar.com", "https://foofoobar.com", true),
        (".foobar.com", "https://foobar.com", true),
        ("*.foobar.com", "https://foobar.com", true),
        ("*.foobar.com", "https://a.foobar.com", false),
        ("other.com, FOOBAR.com ,", "https://FooBar.com", false),
        ("foobar.com:6443", "https://foobar.com:6443", false),
        ("foobar.com:6443", "https://foobar.com", true),
        ("foobar.com:443", "https://foobar.com", false),
        ("192.168.1.1", "https://192.168.1.1", false),
        ("192.168.1.1", "https://192.168.1.10", true),
        ("192.168.1.1:80", "https://192.168.1.1", true),
        ("10.0.0.0/8", "https://10.96.0.1:443", false),
        ("10.0.0.0/8", "https://11.0.0.1", true),
        ("10.1.2.3/8", "https://10.96.0.1", false),
        ("2001:db8::/52", "https://[2001:db8::1]:6443", false),
        ("2001:db8::1", "https://[2001:db8::1]:6443", false),
        ("[2001:db8::1]:6443", "https://[2001:db8::1]:6443", false),
        (",:80,/8, not an entry", "https://example.com", true),
        ("example.com", "http://example.com", false),
    ] {
        assert_eq!(is_used(none_for, target), expected, "NO_PROXY={none_for} {target}");
    }
}

#[test]
fn the_scheme_of_the_api_server_counts_and_capitals_first() {
    let environment = environment(&[("HTTPS_PROXY", "http://a:1"), ("https_proxy", "http://b:1"), ("HTTP_PROXY", "")]);
    let proxy = |target: &str| environment.proxy_for(&target.parse().unwrap()).unwrap().map(|uri| uri.to_string());
    assert_eq!(proxy("https://example.com").as_deref(), Some("http://a:1/"));
    assert_eq!(proxy("http://example.com"), None);
}

#[test]
fn addresses_of_proxies() {
    for (text, expected) in [
        ("proxy:3128", "http://proxy:3128/"),
        ("proxy", "http://proxy/"),
        ("https://proxy", "https://proxy/"),
        ("socks5://proxy", "socks5://proxy:1080/"),
        ("socks5h://u:p@proxy:1", "socks5://u:p@proxy:1/"),
    ] {
        assert_eq!(parse(text, "HTTPS_PROXY").unwrap().to_string(), expected, "{text}");
    }
    for text in ["http://", "a b", ":", "ftp://t0p-s3cret@h:1:2"] {
        let error = parse(text, "HTTPS_PROXY").unwrap_err().to_string();
        assert!(error.contains("HTTPS_PROXY") && !error.contains("s3cret"), "{error}");
    }
    let with_password = parse("http://us%40er:pa%3Ass@proxy:1", "HTTPS_PROXY").unwrap();
    assert_eq!(credentials(&with_password), Some(("us@er".to_owned(), "pa:ss".to_owned())));
    assert_eq!(credentials(&"http://proxy:1".parse().unwrap()), None);
}
