//! `svid-csi watch`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Pid, Signal};

use crate::cli::{Command, parse};
use crate::watch::{Action, Origin, WatchOptions};

type Variables<'a> = &'a [(&'a str, &'a str)];

fn watch(flags: &str, environment: Variables<'_>) -> Result<WatchOptions, Vec<String>> {
    let lookup =
        |name: &str| environment.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value));
    let line = format!("svid-csi watch {flags}");
    match parse(line.split_whitespace().map(Into::into), &lookup) {
        Ok(Command::Watch(watch)) => Ok(watch.options),
        Ok(other) => panic!("not a watch: {other:?}"),
        Err(answer) => {
            Err(answer.to_string().lines().filter_map(|line| line.strip_prefix("  ")).map(str::to_owned).collect())
        }
    }
}

fn socket(path: &str) -> Origin {
    Origin::Socket(PathBuf::from(path))
}

#[test]
fn the_watched_source() {
    let standard = [("SPIFFE_ENDPOINT_SOCKET", "unix:///standard.sock")];
    let broken = [("SPIFFE_ENDPOINT_SOCKET", "tcp://127.0.0.1:1")];
    for (flags, environment, origin) in [
        ("", &[][..], Origin::MountedSocket),
        ("", &standard, socket("/standard.sock")),
        ("", &[("SPIFFE_ENDPOINT_SOCKET", "")], Origin::MountedSocket),
        ("--socket /a.sock", &standard, socket("/a.sock")),
        ("--socket unix:///a.sock", &broken, socket("/a.sock")),
        ("", &[("SVID_CSI_SOCKET", "/e.sock")], socket("/e.sock")),
    ] {
        assert_eq!(watch(flags, environment).expect(flags).origin, origin, "{flags}");
    }
    let files = watch("--files /f --file-cert c.pem --file-bundle=b.pem", &standard).expect("files");
    let Origin::Files { folder, names } = files.origin else { panic!("{files:?}") };
    assert_eq!((folder, names.cert.as_str(), names.key.as_str()), (PathBuf::from("/f"), "c.pem", "tls.key"));
    assert_eq!(names.bundle.as_str(), "b.pem");
}

#[test]
fn everything_after_exec_is_the_command() {
    let exec = |words: &[&str]| Some(Action::Exec(words.iter().map(|word| (*word).to_owned()).collect()));
    for (flags, action) in [
        ("--exec nginx -s reload", exec(&["nginx", "-s", "reload"])),
        ("--json --exec=a --once --socket /x -h --", exec(&["a", "--once", "--socket", "/x", "-h", "--"])),
        ("-exec a --exec b", exec(&["a", "--exec", "b"])),
        ("--signal 7", Some(Action::Signal(Pid::from_raw(7).unwrap(), Signal::HUP))),
        ("--signal 1:SIGUSR1", Some(Action::Signal(Pid::INIT, Signal::USR1))),
        ("--json", None),
    ] {
        let options = watch(flags, &[]).expect(flags);
        assert_eq!((options.action, options.once), (action, None), "{flags}");
    }
    let options = watch("", &[("SVID_CSI_EXEC", "a -b c")]).expect("a command");
    assert_eq!(options.action, exec(&["a", "-b", "c"]));
}

#[test]
fn how_long_once_waits() {
    for (flags, once) in
        [("--once", Some(30)), ("--once --timeout 2m", Some(120)), ("--once=true --timeout=1s", Some(1)), ("", None)]
    {
        assert_eq!(watch(flags, &[]).expect(flags).once, once.map(Duration::from_secs), "{flags}");
    }
    assert_eq!(watch("--audience a --audience b", &[]).expect("audiences").audiences, ["a", "b"]);
}

#[test]
fn each_mistake_is_reported() {
    let broken = [("SPIFFE_ENDPOINT_SOCKET", "tcp://127.0.0.1:1")];
    for (flags, environment, expected) in [
        ("--socket /s --files /f", &[][..], "--files: cannot be used with --socket"),
        ("--files /f --audience a", &[], "--audience: tokens are requested over a socket"),
        ("--files /f --file-bundle tls.crt", &[], "--file-cert: the certificate and the trust bundle cannot both be"),
        ("--files /f --file-key a/b", &[], "--file-key: \"a/b\": a file name is one path component"),
        ("--timeout 1s", &[], "--timeout: is how long --once waits"),
        ("--signal 1 --exec a", &[], "--signal: cannot be used with --exec"),
        ("--exec", &[], "--exec: has no command"),
        ("--exec --signal 1", &[], "--exec: is followed by \"--signal\", which is not a command"),
        ("--signal 0", &[], "--signal: \"0\" does not begin with a process ID"),
        ("--signal nginx:HUP", &[], "--signal: \"nginx:HUP\" does not begin with a process ID"),
        ("--signal 1:hup", &[], "--signal: \"hup\" is not a signal; use HUP, INT"),
        ("", &broken, "SPIFFE_ENDPOINT_SOCKET: \"tcp://127.0.0.1:1\" is not a Unix socket"),
        ("--sockett /s", &[], "--sockett: there is no such flag; did you mean --socket?"),
    ] {
        let found = watch(flags, environment).expect_err(flags);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{flags}: {found:#?}\nexpected {expected}");
    }
}
