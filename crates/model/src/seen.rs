//! What can be seen of a volume on a node: the record on disk, the folder and the mounts.

use svid_csi_core::state::Phase;

use crate::record::Remembered;
use crate::world::{Folder, Root, Spec, World};

/// The state of a volume, as far as it can be seen from outside of the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Seen {
    /// The record on disk.
    pub record: Option<SeenRecord>,
    /// Whether the driver has a folder for the volume.
    pub folder: bool,
    /// The spec that names the files to which `..data` leads.
    pub shown: Option<Spec>,
    /// Whether these files are of the recorded identity.
    pub is_recorded: bool,
    /// Whether there are folders with files to which `..data` does not lead.
    pub beside: bool,
    /// The names of A and those of B.
    pub names: [Names; 2],
    /// The mounts at the target, the topmost last.
    pub mounts: [Option<SeenRoot>; 3],
    /// Whether the target folder exists.
    pub target: bool,
}

/// A record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SeenRecord {
    /// The step that the volume has reached.
    pub phase: Phase,
    /// Its spec.
    pub spec: Spec,
    /// The root of its mount.
    pub root: Option<SeenRoot>,
    /// The root of the former mount.
    pub formerly: Option<SeenRoot>,
    /// Whether a publish as something else has begun.
    pub unsettled: bool,
    /// Whether there is an identity, and whether it was delivered for certain.
    pub issued: Option<bool>,
    /// Whether the last one was withdrawn.
    pub withdrawn: bool,
}

/// The root of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SeenRoot {
    /// The volume's folder.
    Folder,
    /// A folder that the driver cannot reach any more.
    Former,
    /// The agent's directory.
    Agent,
    /// Another program's mount.
    Foreign,
}

/// Which of the names of a volume's files exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Names {
    /// None.
    Missing,
    /// Some, as in the midst of linking them.
    Partial,
    /// All.
    Complete,
}

impl Seen {
    /// The same with none and with all of the names of which some exist, if there are such names.
    pub(crate) fn with_whole_names(&self) -> Option<[Seen; 2]> {
        let whole = |whole: Names| {
            let names = self.names.map(|names| if names == Names::Partial { whole } else { names });
            Seen { names, ..*self }
        };
        self.names.contains(&Names::Partial).then(|| [whole(Names::Missing), whole(Names::Complete)])
    }

    /// Whether each part is as before an effect or as after it: what the model takes for one effect may be many system calls.
    pub(crate) fn is_between(&self, before: &Seen, after: &Seen) -> bool {
        fn either<T: PartialEq>(now: &T, before: &T, after: &T) -> bool {
            now == before || now == after
        }
        let linking = |n: usize| self.names[n] == Names::Partial && before.names[n] != after.names[n];
        // Without the link, what it led to is one of the other folders until it is removed.
        let unlinking = before.shown.is_some() && after.shown.is_none();
        either(&self.record, &before.record, &after.record)
            && either(&self.folder, &before.folder, &after.folder)
            && either(&self.shown, &before.shown, &after.shown)
            && either(&self.is_recorded, &before.is_recorded, &after.is_recorded)
            && (unlinking || either(&self.beside, &before.beside, &after.beside))
            && [0, 1].into_iter().all(|n| linking(n) || either(&self.names[n], &before.names[n], &after.names[n]))
            && either(&self.mounts, &before.mounts, &after.mounts)
            && either(&self.target, &before.target, &after.target)
    }
}

impl World {
    pub(crate) fn seen(&self) -> Seen {
        let folder = self.mounted_folder().or(self.folder);
        let shown = folder.and_then(|folder| folder.shown);
        let issued = self.disk.and_then(|record| record.issued);
        let mut mounts = self.mounts.all().map(|root| self.seen_root(root));
        Seen {
            record: self.disk.map(|record| self.seen_record(record)),
            folder: self.folder.is_some(),
            shown: shown.map(|(_, spec)| spec),
            is_recorded: shown.is_some_and(|(generation, _)| issued == Some(generation)),
            beside: folder.is_some_and(|folder| folder.beside != 0),
            names: [0, 1].map(|n| names(folder, n)),
            mounts: [mounts.next(), mounts.next(), mounts.next()],
            target: self.target,
        }
    }

    fn seen_record(&self, record: Remembered) -> SeenRecord {
        SeenRecord {
            phase: record.phase,
            spec: record.spec,
            root: record.root.map(|root| self.seen_root(root)),
            formerly: record.formerly.map(|root| self.seen_root(root)),
            unsettled: record.unsettled,
            issued: record.issued.map(|_| record.delivered),
            withdrawn: record.withdrawn,
        }
    }

    fn seen_root(&self, root: Root) -> SeenRoot {
        match root {
            Root::Folder(number) if self.folder.is_some_and(|folder| folder.number == number) => SeenRoot::Folder,
            Root::Folder(_) => SeenRoot::Former,
            Root::Agent => SeenRoot::Agent,
            Root::Foreign => SeenRoot::Foreign,
        }
    }
}

fn names(folder: Option<Folder>, n: usize) -> Names {
    if folder.is_some_and(|folder| folder.names[n]) { Names::Complete } else { Names::Missing }
}
