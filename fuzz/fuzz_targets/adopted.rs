//! What a predecessor's driver and the kubelet left of a volume: no link in it leads anywhere else, what is not a file is not
//! read, and the names that are taken over are those of its files. The kubelet's note must name driver and volume.
#![no_main]

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use svid_csi::fuzzing::{InspectedFile, InspectedMount, names_volume};
use svid_csi_core::files::{FileName, FileNames, RenderedFile, names_of};
use svid_csi_core::volume_id::VolumeId;
use svid_csi_fuzz::{KEYS, PKCS8, SIGNED, certificate};
use tempfile::TempDir;

/// Is in files outside the volume.
const OUTSIDE: &[u8] = b"-----BEGIN PRIVATE KEY----- of another";

// A 0 is followed by a note of the kubelet; any other byte by lines that make what is in the volume: a letter, a name, and
// after `=` what it contains or leads to.
fuzz_target!(|input: &[u8]| {
    let [kind, rest @ ..] = input else { return };
    if *kind == 0 {
        return check_note(rest);
    }
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let folder = TempDir::new_in("/dev/shm").expect("a folder");
    fs::write(folder.path().join("outside"), OUTSIDE).expect("a file");
    let volume = folder.path().join("volume");
    fs::create_dir_all(volume.join("..1")).expect("a folder");
    // Lines that cannot be followed are skipped.
    text.split('\n').take(64).for_each(|line| _ = make(&volume, line));
    let seen = InspectedMount::of_folder(&volume).expect("a folder");
    let Some(current) = seen.link_beside("..data") else { return };
    let Ok(files) = seen.files(&current) else { return };
    check(files);
});

fn make(volume: &Path, line: &str) -> Option<()> {
    let mut letters = line.chars();
    let (letter, rest) = (letters.next()?, letters.as_str());
    let (name, content) = rest.split_once('=').unwrap_or((rest, ""));
    let is_plain = !name.is_empty() && !name.contains(['/', '\0']) && name != "." && name != "..";
    let inside = if is_plain { volume.join("..1").join(name) } else { return None };
    // Writes neither into a FIFO, which would wait for a reader, nor through a link.
    let write = |text: &str| fs::File::create_new(&inside).and_then(|mut file| file.write_all(text.as_bytes())).ok();
    match letter {
        'd' => symlink(content, volume.join(name)).ok(),
        'l' => symlink(content, &inside).ok(),
        'f' => fs::create_dir(&inside).ok(),
        'o' => fs::hard_link(volume.join("../outside"), volume.join(name)).ok(),
        'p' => rustix::fs::mkfifoat(rustix::fs::CWD, &inside, rustix::fs::Mode::RWXU).ok(),
        's' => std::os::unix::net::UnixListener::bind(&inside).ok().map(drop),
        number @ '0'..='3' => write(&PEM[number as usize - '0' as usize]),
        _ => write(content),
    }
}

fn check(files: Vec<InspectedFile>) {
    assert!(files.len() <= 16 && files.iter().all(|file| file.contents.len() <= 1 << 20));
    assert!(files.iter().all(|file| *file.contents != OUTSIDE), "{files:?}");
    let file =
        |InspectedFile { name, contents, .. }| Some(RenderedFile { name: FileName::parse(&name).ok()?, contents });
    let Some(mut found) = files.into_iter().map(file).collect::<Option<Vec<_>>>() else { return };
    let usual = FileName::parse("ca.crt").expect("a name");
    let names = names_of(&found, Some(&usual));
    found.reverse();
    assert_eq!(names, names_of(&found, Some(&usual)), "the order of files does not matter");
    let Some(FileNames { cert: Some(cert), key: Some(key), bundle: Some(bundle) }) = names else {
        return assert_eq!(names, None);
    };
    assert!(cert != key && key != bundle && cert != bundle);
    let named = [&cert, &key, &bundle];
    assert!(found.iter().all(|file| named.contains(&&file.name)));
    let content = |name: &FileName| found.iter().find(|file| file.name == *name).map(|file| &file.contents);
    let is_key = |text: &Vec<u8>| text.windows(11).any(|part| part == b"PRIVATE KEY");
    assert!(is_key(content(&key).expect("a key")) && !is_key(content(&cert).expect("a certificate")));
    assert!(content(&bundle).map_or(bundle == usual, |text| !is_key(text)));
}

fn check_note(json: &[u8]) {
    let id = VolumeId::parse("csi-0123").expect("an id");
    if names_volume(json, "spiffe.csi.cert-manager.io", &id) {
        let note: serde_json::Value = serde_json::from_slice(json).expect("JSON");
        assert_eq!(
            (&note["driverName"], &note["volumeHandle"]),
            (&"spiffe.csi.cert-manager.io".into(), &"csi-0123".into())
        );
    }
}

/// A certificate, its key, its authority, and text.
static PEM: LazyLock<[String; 4]> = LazyLock::new(|| {
    let pem = |label: &str, der: &[u8]| {
        let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
        format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
    };
    let [root, intermediate, leaf] = &*SIGNED;
    let chain =
        [pem("CERTIFICATE", &certificate(&KEYS[1], leaf)), pem("CERTIFICATE", &certificate(&KEYS[0], intermediate))];
    let root = pem("CERTIFICATE", &certificate(&KEYS[0], root));
    [chain.concat(), pem("PRIVATE KEY", &PKCS8[2]), root, "text".to_owned()]
});
