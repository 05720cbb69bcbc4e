use super::super::granted::SETTLES_IN;
use super::*;
use crate::host::inotify::Names;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};

struct Folders {
    _root: tempfile::TempDir,
    agent: PathBuf,
    stable: PathBuf,
    linked: Linked,
}

impl Drop for Folders {
    fn drop(&mut self) {
        unsealed(&self.stable);
    }
}

fn folders() -> Folders {
    let root = tempfile::tempdir().unwrap();
    let (agent, stable) = (root.path().join("agent"), root.path().join("stable"));
    fs::create_dir(&agent).unwrap();
    fs::create_dir(&stable).unwrap();
    Folders { _root: root, agent, stable, linked: Linked::with(Granted::load(None)) }
}

fn unsealed(folder: &Path) {
    seal::unseal(fs::File::open(folder).unwrap()).unwrap();
}

fn try_synchronise(folders: &mut Folders, touched: &Touched) -> (Changes, Option<FsError>) {
    folders.linked.synchronise(std::slice::from_ref(&folders.agent), &folders.stable, touched)
}

/// Looks until new sockets are settled.
fn synchronised(folders: &mut Folders) -> Changes {
    let mut all = Changes::default();
    loop {
        let (changes, trouble) = try_synchronise(folders, &Touched::default());
        assert!(trouble.is_none(), "{trouble:?}");
        all.linked.extend(changes.linked);
        all.dropped.extend(changes.dropped);
        all.undone.extend(changes.undone);
        if !folders.linked.is_settling() {
            return all;
        }
        std::thread::sleep(SETTLES_IN);
    }
}

fn these(names: &[&str]) -> Names {
    Names::These(names.iter().map(OsString::from).collect())
}

fn names(folder: &Path) -> BTreeSet<OsString> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_link_reaches_the_agents_listener() {
    let mut folders = folders();
    let listener = UnixListener::bind(folders.agent.join("a.sock")).unwrap();
    assert_eq!(synchronised(&mut folders).linked, ["a.sock"]);
    UnixStream::connect(folders.stable.join("a.sock")).unwrap();
    listener.accept().unwrap();
    assert_eq!(synchronised(&mut folders), Changes::default());
}

#[test]
fn a_recreated_directory_replaces_the_links() {
    let mut folders = folders();
    let _old = UnixListener::bind(folders.agent.join("a.sock")).unwrap();
    synchronised(&mut folders);
    fs::remove_dir_all(&folders.agent).unwrap();
    fs::create_dir(&folders.agent).unwrap();
    let new = UnixListener::bind(folders.agent.join("a.sock")).unwrap();
    assert_eq!(synchronised(&mut folders).linked, ["a.sock"]);
    UnixStream::connect(folders.stable.join("a.sock")).unwrap();
    new.accept().unwrap();
}

#[test]
fn a_removed_socket_is_dropped_so_that_clients_see_enoent() {
    let mut folders = folders();
    let _listener = UnixListener::bind(folders.agent.join("a.sock")).unwrap();
    synchronised(&mut folders);
    fs::remove_dir_all(&folders.agent).unwrap();
    assert_eq!(synchronised(&mut folders).dropped, ["a.sock"]);
    let error = UnixStream::connect(folders.stable.join("a.sock")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

#[test]
fn only_sockets_are_linked_and_leftovers_are_removed() {
    let mut folders = folders();
    fs::write(folders.agent.join("agent.conf"), "not a socket").unwrap();
    let _listener = UnixListener::bind(folders.agent.join("a.sock")).unwrap();
    fs::hard_link(folders.agent.join("a.sock"), folders.stable.join(".svid-csi.link")).unwrap();
    synchronised(&mut folders);
    assert_eq!(names(&folders.stable), ["a.sock".into()].into());
}

#[test]
fn a_stable_directory_that_is_a_link_or_belongs_to_another_user_is_refused() {
    let folders = folders();
    let _listener = UnixListener::bind(folders.agent.join("a.sock")).unwrap();
    let (elsewhere, link) = (folders.stable.join("elsewhere"), folders.stable.join("link"));
    fs::create_dir(&elsewhere).unwrap();
    let _precious = UnixListener::bind(elsewhere.join("precious.sock")).unwrap();
    symlink(&elsewhere, &link).unwrap();
    let look = |agent: &Path, stable: &Path| {
        let (_, trouble) = Linked::default().synchronise(&[agent.to_owned()], stable, &Touched::default());
        trouble.unwrap()
    };
    look(&folders.agent, &link);
    assert!(elsewhere.join("precious.sock").exists());
    let agent = folders.stable.join("agent-link");
    symlink(&folders.agent, &agent).unwrap();
    look(&agent, &folders.stable);
    assert!(!folders.stable.join("a.sock").exists());
}

#[test]
fn the_stable_directory_is_as_open_as_the_agents() {
    let mut folders = folders();
    fs::set_permissions(&folders.agent, fs::Permissions::from_mode(0o710)).unwrap();
    synchronised(&mut folders);
    assert_eq!(mode(&folders.stable), 0o710);
}

#[test]
fn pods_cannot_add_remove_or_replace_a_socket() {
    let mut folders = folders();
    let _listener = UnixListener::bind(folders.agent.join("a.sock")).unwrap();
    synchronised(&mut folders);
    let (socket, other) = (folders.stable.join("a.sock"), folders.stable.join("other.sock"));
    if folders.linked.sealing == Some(Sealing::Sealed) {
        fs::remove_file(&socket).unwrap_err();
        fs::rename(&socket, &other).unwrap_err();
        UnixListener::bind(&other).unwrap_err();
        fs::rename(&folders.stable, folders.agent.join("moved")).unwrap_err();
    }
    // As during the time in which the driver links.
    unsealed(&folders.stable);
    fs::remove_file(&socket).unwrap();
    let _impostors = [UnixListener::bind(&socket).unwrap(), UnixListener::bind(&other).unwrap()];
    fs::create_dir_all(folders.stable.join("c/d")).unwrap();
    let changes = synchronised(&mut folders);
    assert_eq!(changes.undone, ["a.sock", "c", "other.sock"].map(OsString::from).into());
    assert_eq!((changes.linked, changes.dropped), (vec!["a.sock".into()], vec![]));
    assert_eq!(names(&folders.stable), names(&folders.agent));
    assert_eq!(synchronised(&mut folders), Changes::default());
}

#[test]
fn files_of_the_administrator_in_the_stable_directory_stay() {
    let mut folders = folders();
    fs::write(folders.stable.join("readme"), "").unwrap();
    synchronised(&mut folders);
    synchronised(&mut folders);
    assert_eq!(names(&folders.stable), ["readme".into()].into());
}

fn watched(by_agent: &[&str], by_pods: &[&str]) -> Touched {
    Touched { by_agent: these(by_agent), by_pods: these(by_pods), watched: true }
}

/// A POSIX ACL that denies user 1000 access, while the mode grants it to all.
fn deny(path: &Path) -> rustix::io::Result<()> {
    let nobody = u32::MAX;
    let entries: [(u16, u16, u32); 5] =
        [(1, 7, nobody), (2, 0, 1000), (4, 7, nobody), (16, 7, nobody), (32, 7, nobody)];
    let entry = |(tag, access, id): (u16, u16, u32)| {
        [&tag.to_le_bytes()[..], &access.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    let acl = [2_u32.to_le_bytes().to_vec(), entries.map(entry).concat()].concat();
    rustix::fs::setxattr(path, c"system.posix_acl_access", &acl, rustix::fs::XattrFlags::empty())
}

fn has_acl(path: &Path) -> bool {
    rustix::fs::getxattr(path, c"system.posix_acl_access", &mut [0_u8; 0]).is_ok()
}

#[test]
fn access_rights_changed_by_a_pod_are_restored_and_those_changed_by_the_agent_are_kept() {
    let mut folders = folders();
    let _listener = UnixListener::bind(folders.agent.join("a.sock")).unwrap();
    let (agents, pods) = (folders.agent.join("a.sock"), folders.stable.join("a.sock"));
    synchronised(&mut folders);
    fs::set_permissions(&agents, fs::Permissions::from_mode(0o777)).unwrap();
    assert!(try_synchronise(&mut folders, &watched(&["a.sock"], &[])).0.undone.is_empty());
    fs::set_permissions(&pods, fs::Permissions::from_mode(0o000)).unwrap();
    assert_eq!(undone_by_pods(&mut folders), ["a.sock".into()].into());
    assert_eq!(mode(&agents), 0o777);
    if deny(&pods).is_err() {
        return eprintln!("skipped: this file system has no ACLs");
    }
    assert_eq!(mode(&agents), 0o777, "only the ACL shows it");
    assert_eq!(undone_by_pods(&mut folders), ["a.sock".into()].into());
    assert!(!has_acl(&agents) && mode(&agents) == 0o777);
    deny(&agents).unwrap();
    assert!(try_synchronise(&mut folders, &watched(&["a.sock"], &[])).0.undone.is_empty());
    rustix::fs::removexattr(&pods, c"system.posix_acl_access").unwrap();
    undone_by_pods(&mut folders);
    assert!(has_acl(&agents), "it is the agent's");
}

fn undone_by_pods(folders: &mut Folders) -> BTreeSet<OsString> {
    assert_eq!(try_synchronise(folders, &watched(&[], &["a.sock"])).0, Changes::default());
    assert_eq!(try_synchronise(folders, &Touched::default()).0, Changes::default(), "it has not read the events");
    let undone = try_synchronise(folders, &watched(&[], &[])).0.undone;
    assert!(folders.linked.is_undecided(), "the next look checks it");
    assert_eq!(try_synchronise(folders, &watched(&[], &[])).0, Changes::default());
    undone
}

#[test]
fn a_change_by_the_agent_is_kept_even_if_its_event_is_read_later() {
    let mut folders = folders();
    let _listener = UnixListener::bind(folders.agent.join("a.sock")).unwrap();
    let agents = folders.agent.join("a.sock");
    symlink("a.sock", folders.agent.join("b.sock")).unwrap();
    synchronised(&mut folders);
    fs::set_permissions(&agents, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(try_synchronise(&mut folders, &watched(&[], &[])).0, Changes::default());
    assert!(folders.linked.is_undecided());
    assert_eq!(try_synchronise(&mut folders, &watched(&["a.sock"], &[])).0, Changes::default());
    assert_eq!(mode(&agents), 0o600);
    assert!(!folders.linked.is_undecided());
}

#[test]
fn what_a_pod_changed_at_the_same_time_is_not_taken_for_the_agents() {
    let mut folders = folders();
    let _listener = UnixListener::bind(folders.agent.join("a.sock")).unwrap();
    let agents = folders.agent.join("a.sock");
    synchronised(&mut folders);
    let before = mode(&agents);
    let (no, yes): (&[&str], &[&str]) = (&[], &["a.sock"]);
    for [first, second] in [[(no, yes), (yes, no)], [(yes, yes), (no, no)], [(no, no), (yes, yes)]] {
        fs::set_permissions(&agents, fs::Permissions::from_mode(0o000)).unwrap();
        for (by_agent, by_pods) in [first, second] {
            try_synchronise(&mut folders, &watched(by_agent, by_pods));
        }
        assert_eq!(mode(&agents), before, "{first:?} {second:?}");
    }
}

#[test]
fn a_socket_is_linked_once_its_access_rights_are_settled() {
    let mut folders = folders();
    let _listener = UnixListener::bind(folders.agent.join("a.sock")).unwrap();
    let (agents, pods) = (folders.agent.join("a.sock"), folders.stable.join("a.sock"));
    assert_eq!(try_synchronise(&mut folders, &watched(&["a.sock"], &[])).0, Changes::default());
    std::thread::sleep(SETTLES_IN);
    // The agent's own setting follows its bind.
    fs::set_permissions(&agents, fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(try_synchronise(&mut folders, &watched(&["a.sock"], &[])).0, Changes::default());
    assert!(folders.linked.is_settling() && !pods.exists());
    std::thread::sleep(SETTLES_IN);
    assert_eq!(try_synchronise(&mut folders, &watched(&[], &[])).0.linked, ["a.sock"]);
    // Not one of these events is one of the agent.
    fs::set_permissions(&pods, fs::Permissions::from_mode(0o000)).unwrap();
    assert_eq!(undone_by_pods(&mut folders), ["a.sock".into()].into());
    assert_eq!(mode(&agents), 0o777);
}

#[test]
fn access_rights_changed_while_the_driver_is_away_are_restored() {
    let mut folders = folders();
    let _listener = UnixListener::bind(folders.agent.join("a.sock")).unwrap();
    let (agents, file) = (folders.agent.join("a.sock"), folders.agent.with_file_name("granted.json"));
    fs::set_permissions(&agents, fs::Permissions::from_mode(0o755)).unwrap();
    folders.linked = Linked::with(Granted::load(Some(file.clone())));
    synchronised(&mut folders);
    fs::set_permissions(folders.stable.join("a.sock"), fs::Permissions::from_mode(0o000)).unwrap();
    folders.linked = Linked::with(Granted::load(Some(file.clone())));
    synchronised(&mut folders);
    assert_eq!(try_synchronise(&mut folders, &Touched::first()).0, Changes::default());
    assert_eq!(try_synchronise(&mut folders, &watched(&[], &[])).0.undone, ["a.sock".into()].into());
    assert_eq!(mode(&agents), 0o755);
    // Another socket, perhaps with the same inode number.
    fs::remove_file(&agents).unwrap();
    let _again = UnixListener::bind(&agents).unwrap();
    fs::set_permissions(&agents, fs::Permissions::from_mode(0o700)).unwrap();
    folders.linked = Linked::with(Granted::load(Some(file)));
    synchronised(&mut folders);
    try_synchronise(&mut folders, &Touched::first());
    assert_eq!(try_synchronise(&mut folders, &watched(&[], &[])).0, Changes::default());
    assert_eq!(mode(&agents), 0o700);
}

#[test]
fn a_stable_directory_that_a_pod_has_changed_is_repaired() {
    let mut folders = folders();
    let _listener = UnixListener::bind(folders.agent.join("a.sock")).unwrap();
    synchronised(&mut folders);
    if folders.linked.sealing != Some(Sealing::Sealed) {
        return eprintln!("skipped: this file system has no seals");
    }
    // In the time in which the driver links.
    unsealed(&folders.stable);
    let stable = fs::File::open(&folders.stable).unwrap();
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        std::os::unix::fs::chown(&folders.stable, Some(1000), None).unwrap();
    }
    deny(&folders.stable).unwrap();
    seal::seal(&stable).unwrap();
    synchronised(&mut folders);
    let found = fs::metadata(&folders.stable).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&found), rustix::process::geteuid().as_raw());
    assert!(!has_acl(&folders.stable) && seal::is_sealed(&stable).unwrap());
}

#[test]
fn a_pods_folder_is_moved_away_in_one_step_with_everything_in_it() {
    let mut folders = folders();
    let _listener = UnixListener::bind(folders.agent.join("a.sock")).unwrap();
    synchronised(&mut folders);
    unsealed(&folders.stable);
    let deep = folders.stable.join("d/e/f");
    fs::create_dir_all(&deep).unwrap();
    let held = fs::File::open(&deep).unwrap();
    (0..100).for_each(|number| drop(fs::File::create(deep.join(number.to_string())).unwrap()));
    assert_eq!(synchronised(&mut folders).undone, ["d".into()].into());
    assert_eq!(names(&folders.stable), ["a.sock".into()].into());
    let aside = folders.stable.with_file_name(".stable.aside");
    assert_eq!((names(&aside).len(), mode(&aside)), (0, 0o700), "and removed there");
    drop(held);
}

#[test]
fn sockets_are_not_dropped_if_the_agents_folder_cannot_be_read_completely() {
    let mut folders = folders();
    let _listener = UnixListener::bind(folders.agent.join("a.sock")).unwrap();
    synchronised(&mut folders);
    (0..4096).for_each(|number| drop(fs::File::create(folders.agent.join(number.to_string())).unwrap()));
    let (changes, trouble) = try_synchronise(&mut folders, &Touched::default());
    assert_eq!(changes, Changes::default());
    assert!(trouble.unwrap().source.to_string().contains("more than 4096 files"));
    assert!(folders.stable.join("a.sock").exists());
}

#[test]
fn links_that_end_at_a_socket_of_the_folder_are_that_socket() {
    let mut folders = folders();
    fs::create_dir(folders.agent.join("sub")).unwrap();
    let listener = UnixListener::bind(folders.agent.join("spire-agent.sock")).unwrap();
    let in_sub = UnixListener::bind(folders.agent.join("sub/deep.sock")).unwrap();
    let whole = folders.agent.join("./spire-agent.sock");
    for (target, link) in [
        (Path::new("spire-agent.sock"), "socket"),
        (&whole, "api.sock"),
        (Path::new("api.sock"), "chain"),
        (Path::new("../agent/socket"), "around"),
        (Path::new("sub/deep.sock"), "deep"),
        (Path::new("gone"), "dangling"),
        (Path::new("loop"), "loop"),
        (Path::new("../elsewhere.sock"), "out"),
        (Path::new("/run/agent.sock"), "far"),
    ] {
        symlink(target, folders.agent.join(link)).unwrap();
    }
    synchronised(&mut folders);
    let found = ["api.sock", "around", "chain", "deep", "socket", "spire-agent.sock"].map(OsString::from);
    assert_eq!(names(&folders.stable), found.clone().into());
    assert_eq!(folders.linked.leading_out, ["far", "out"].map(OsString::from).into());
    for name in &found {
        UnixStream::connect(folders.stable.join(name)).unwrap();
        if name == "deep" {
            in_sub.accept().unwrap()
        } else {
            listener.accept().unwrap()
        };
    }
    fs::remove_file(folders.agent.join("api.sock")).unwrap();
    assert_eq!(synchronised(&mut folders).dropped.len(), 2, "the chain ends with it");
    fs::remove_file(folders.agent.join("spire-agent.sock")).unwrap();
    assert_eq!(synchronised(&mut folders).dropped.len(), 3);
    let again = UnixListener::bind(folders.agent.join("spire-agent.sock")).unwrap();
    assert_eq!(synchronised(&mut folders).linked.len(), 3);
    UnixStream::connect(folders.stable.join("socket")).unwrap();
    again.accept().unwrap();
}

/// A pod with a writable mount tries, in every moment in which the directory is open, to keep it open by a folder with
/// many files, and to put its own socket in the agent's place.
#[test]
fn a_pod_that_races_with_the_driver_never_becomes_the_agent() {
    let mut folders = folders();
    let (agents, pods) = (folders.agent.join("a.sock"), folders.stable.join("a.sock"));
    let _first = UnixListener::bind(&agents).unwrap();
    synchronised(&mut folders);
    if folders.linked.sealing != Some(Sealing::Sealed) {
        return eprintln!("skipped: this file system has no seals");
    }
    let ended = std::sync::atomic::AtomicBool::new(false);
    let attack = || {
        let folder = folders.stable.join("d");
        while !ended.load(std::sync::atomic::Ordering::Relaxed) {
            if fs::create_dir(&folder).is_err() && !folder.exists() {
                continue;
            }
            let _impostor = UnixListener::bind(folder.join("impostor"));
            for number in 0..2_000 {
                let _ = fs::File::create(folder.join(number.to_string()));
            }
            let _ = fs::rename(folder.join("impostor"), &pods);
            let _ = std::os::unix::fs::chown(&folders.stable, Some(1000), Some(1000));
        }
    };
    let (agent, stable, linked) = (folders.agent.clone(), folders.stable.clone(), std::mem::take(&mut folders.linked));
    let restarts = move || {
        let mut linked = linked;
        let mut listeners = Vec::new();
        for restart in 0..60 {
            fs::remove_file(&agents).unwrap();
            listeners.push(UnixListener::bind(&agents).unwrap());
            let look = |linked: &mut Linked| {
                linked.synchronise(std::slice::from_ref(&agent), &stable, &watched(&["a.sock"], &[]))
            };
            look(&mut linked);
            std::thread::sleep(SETTLES_IN);
            let (_, trouble) = look(&mut linked);
            let is_agents = || id_of(&agents).is_some() && id_of(&stable.join("a.sock")) == id_of(&agents);
            assert!(trouble.is_some() || is_agents(), "restart {restart}: the pod is the agent");
            assert!(
                trouble.is_none() || look(&mut linked).1.is_none() && is_agents(),
                "restart {restart}: {trouble:?}"
            );
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(attack);
        let restarted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(restarts));
        ended.store(true, std::sync::atomic::Ordering::Relaxed);
        restarted.unwrap();
    });
}

fn id_of(path: &Path) -> Option<FileId> {
    rustix::fs::lstat(path).ok().map(|stat| id(&stat))
}
