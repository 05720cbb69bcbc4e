//! `svid-csi renew`.

use std::path::Path;

use crate::cli::{Command, RenewCommand, parse};

fn renew(flags: &str, environment: &[(&str, &str)]) -> Result<RenewCommand, Vec<String>> {
    let lookup = |name: &str| environment.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
    let line = format!("svid-csi renew {flags}");
    match parse(line.split_whitespace().map(Into::into), &lookup) {
        Ok(Command::Renew(renew)) => Ok(renew),
        Ok(other) => panic!("not a renewal: {other:?}"),
        Err(answer) => {
            Err(answer.to_string().lines().filter_map(|line| line.strip_prefix("  ")).map(str::to_owned).collect())
        }
    }
}

#[test]
fn which_volumes_and_which_driver() {
    let root = [("SVID_CSI_DATA_ROOT", "/from/environment")];
    for (flags, environment, pod, socket) in [
        ("--pod shop/web-0 --admin-socket /x/a.sock", &[][..], Some("shop/web-0"), "/x/a.sock"),
        ("-all -admin-socket=unix:///x/a.sock", &[], None, "/x/a.sock"),
        ("--all --data-root /csi-data-dir", &[], None, "/csi-data-dir/admin.sock"),
        ("--all --data-root /d --admin-socket /x", &[], None, "/x"),
        ("--all=true", &root, None, "/from/environment/admin.sock"),
        ("--pod a/b.c --all=false", &[("SVID_CSI_ADMIN_SOCKET", "/e.sock")], Some("a/b.c"), "/e.sock"),
    ] {
        let found = renew(flags, environment).unwrap_or_else(|mistakes| panic!("{flags}: {mistakes:?}"));
        assert_eq!((found.pod.as_deref(), found.socket.as_path()), (pod, Path::new(socket)), "{flags}");
    }
}

#[test]
fn each_mistake_is_reported() {
    let long = format!("--all --data-root /{}", "x".repeat(100));
    for (flags, expected) in [
        ("--data-root /d", "--pod: missing; name the pod, or give --all"),
        ("--all", "--admin-socket: missing; give the driver's --admin-socket or its --data-root"),
        ("--pod a/b --all --data-root /d", "--all: includes the pod of --pod; leave out one of the two"),
        ("--all --admin-socket 0", "--admin-socket: 0 means that the driver has no admin socket"),
        ("--pod web --data-root /d", "--pod: \"web\" is not a pod; write it as NAMESPACE/NAME"),
        ("--pod a/b/c --data-root /d", "--pod: \"a/b/c\" is not a pod"),
        ("--pod a/ --data-root /d", "--pod: \"a/\" is not a pod"),
        ("--pod a/b&pod=c/d --data-root /d", "--pod: \"a/b&pod=c/d\" is not a pod"),
        ("--all --admin-socket tcp://x", "--admin-socket: \"tcp://x\" is not a Unix socket"),
        (&long, "--data-root: /xxx"),
        ("--all --data-root /d --podd x", "--podd: there is no such flag; did you mean --pod?"),
    ] {
        let found = renew(flags, &[]).expect_err(flags);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{flags}: {found:#?}\nexpected {expected}");
    }
    assert_eq!(renew("", &[]).expect_err("nothing is said").len(), 2);
}
