use super::*;

#[test]
fn paths() {
    let here = std::env::current_dir().unwrap();
    for (text, expected) in [("/x/y", PathBuf::from("/x/y")), ("./x", here.join("x")), ("x/y", here.join("x/y"))] {
        assert_eq!(path(text), Ok(expected), "{text}");
    }
}

#[test]
fn sockets() {
    let here = std::env::current_dir().unwrap().join("y.sock");
    for (text, expected) in [
        ("unix://plugin/csi.sock", "/plugin/csi.sock"),
        ("unix:///x", "/x"),
        ("unix:/x", "/x"),
        ("/x/y.sock", "/x/y.sock"),
        ("y.sock", here.to_str().unwrap()),
        ("unix:./y.sock", here.to_str().unwrap()),
    ] {
        assert_eq!(socket(text).as_deref(), Ok(Path::new(expected)), "{text}");
    }
    for text in ["", "/", "unix://", "unix:///dir/", "tcp://0.0.0.0:1", "unix://tcp://x", "vsock://1:2"] {
        assert!(socket(text).unwrap_err().contains("unix:///path/to.sock"), "{text}");
    }
    assert!(socket(&format!("/{}", "x".repeat(106))).is_ok());
    assert!(socket(&format!("/{}", "x".repeat(107))).unwrap_err().contains("has 108 bytes"));
    assert_eq!(socket_or_off("0"), Ok(Switch::Off));
}

#[test]
fn addresses_to_listen_on() {
    let at = |text: &str| Ok(Switch::On(Listen::At(text.parse().unwrap())));
    for (text, expected) in [
        (":6060", Ok(Switch::On(Listen::Everywhere(6060)))),
        (":0", Ok(Switch::On(Listen::Everywhere(0)))),
        ("0", Ok(Switch::Off)),
        ("127.0.0.1:1", at("127.0.0.1:1")),
        ("localhost:1", at("127.0.0.1:1")),
        ("[::1]:1", at("[::1]:1")),
    ] {
        assert_eq!(listen_or_off(text), expected, "{text}");
    }
    for text in ["", ":", "6060", ":99999", ":+1", "host:1", "::1:1", "1.2.3.4", "unix:///x", ":http"] {
        assert!(listen_or_off(text).unwrap_err().contains("write it like :6060"), "{text}");
    }
}

#[test]
fn sizes() {
    for (text, expected) in [("134217728", 128 << 20), ("128Mi", 128 << 20), ("16Ki", 16 << 10), ("2Gi", 2 << 30)] {
        assert_eq!(bytes(text), Ok(expected), "{text}");
    }
    for text in ["", "Mi", "1M", "1.5Gi", "-1", "+99999999", "1 Gi", "99999999999Gi", "0", "1Ki"] {
        assert!(bytes(text).is_err(), "{text}");
    }
}

#[test]
fn driver_names() {
    for name in ["csi.spiffe.io", "a", "a-b.c0", "demo.svid-csi", &"a".repeat(63)] {
        assert!(driver_name(name).is_ok(), "{name}");
    }
    for name in ["", ".", "a.", ".a", "a..b", "-a", "a-", "a.-b", "A", "a_b", "a/b", &"a".repeat(64)] {
        assert!(driver_name(name).is_err(), "{name}");
    }
}

#[test]
fn places_of_config_maps() {
    let place = config_map("svid-csi/local-ca.roots").unwrap();
    assert_eq!((place.namespace.as_str(), place.name.as_str()), ("svid-csi", "local-ca.roots"));
    for text in ["", "/", "roots", "a/", "/a", "a/b/c", "A/b", "a/B", "a.b/c", "configmap:a/b"] {
        assert!(config_map(text).unwrap_err().contains("write NAMESPACE/NAME"), "{text}");
    }
}

#[test]
fn keys_of_taints() {
    for key in ["svid-csi/not-ready", "a", "Not_Ready.x", "csi.spiffe.io/agent-not-ready", &"a".repeat(63)] {
        assert_eq!(taint_key(key).as_deref(), Ok(key));
    }
    let long = ["a".repeat(64), format!("{}/x", "a.".repeat(127))];
    let wrong = ["", "/", "/a", "a/", "a/b/c", "-a", "a-", "A/b", "a..b/c", "a b", "é"];
    for key in wrong.into_iter().chain(long.iter().map(String::as_str)) {
        assert!(taint_key(key).unwrap_err().contains("write it like svid-csi/not-ready"), "{key}");
    }
    for key in ["a/b:NoSchedule", "a/b=true:NoSchedule"] {
        assert!(taint_key(key).unwrap_err().contains("give only the key, \"a/b\""), "{key}");
    }
}

#[test]
fn log_levels() {
    for (text, level) in
        [("0", Level::INFO), ("1", Level::INFO), ("3", Level::INFO), ("4", Level::DEBUG), ("5", Level::TRACE)]
    {
        assert_eq!(log_level(text), Ok(level));
    }
    assert!(log_level("warn").is_err() && log_level("-1").is_err());
}
