//! One volume and everything that affects it, as one value.

use std::fmt;

use svid_csi_core::state::Phase;

use crate::record::Remembered;

/// What the kubelet requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Spec {
    /// Files with the usual names.
    A,
    /// Files with other names.
    B,
    /// The agent's directory.
    Passthrough,
}

/// The number of an identity: the first that the source issues to the pod, the second and so on.
pub type Generation = u8;

/// The root of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Root {
    /// The volume's folder. A re-created folder has another number.
    Folder(u8),
    /// The agent's directory.
    Agent,
    /// Another program's mount.
    Foreign,
}

/// The volume's folder on the tmpfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Folder {
    pub number: u8,
    /// The files that `..data` points to: their generation, and the spec that names them.
    pub shown: Option<(Generation, Spec)>,
    /// Generations in folders that `..data` does not point to; one bit each.
    pub beside: u8,
    /// Whether the names of A and those of B exist.
    pub names: [bool; 2],
}

impl Folder {
    /// Generations that a pod can read if the folder is mounted; one bit each.
    pub fn readable(&self) -> u8 {
        self.beside | self.shown.map_or(0, |(generation, _)| bit(generation))
    }

    pub fn shows(&self, spec: Spec) -> bool {
        self.shown.is_some_and(|(_, shown)| shown == spec && self.names[names_of(spec)])
    }
}

/// The bit of a generation.
pub fn bit(generation: Generation) -> u8 {
    1 << generation
}

/// The index of a spec in [`Folder::names`].
pub fn names_of(spec: Spec) -> usize {
    usize::from(spec == Spec::B)
}

/// The mounts at the target, the topmost last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Mounts([Option<Root>; 3]);

impl Mounts {
    pub fn top(&self) -> Option<Root> {
        self.all().last()
    }

    pub fn push(&mut self, root: Root) {
        *self.0.iter_mut().find(|place| place.is_none()).expect("as many as three") = Some(root);
    }

    pub fn pop(&mut self) {
        if let Some(top) = self.0.iter_mut().rev().find(|place| place.is_some()) {
            *top = None;
        }
    }

    pub fn all(&self) -> impl Iterator<Item = Root> + '_ {
        self.0.iter().flatten().copied()
    }

    pub fn ours(&self) -> usize {
        self.all().filter(|root| *root != Root::Foreign).count()
    }
}

/// The running driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Driver {
    pub volume: Option<Volume>,
    pub later: Option<Later>,
}

/// The volume in the driver's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Volume {
    pub record: Remembered,
    pub renewal: Option<Renewal>,
    /// Startup could not complete what the record says.
    pub unfinished: bool,
}

/// The task that renews the volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Renewal {
    pub spec: Spec,
    /// Whether the task knows of an identity of the pod: only then can it be withdrawn.
    pub has: bool,
}

/// When the driver checks the volume again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Later {
    /// After the next back-off.
    Again,
    /// Ten minutes after the last request for it.
    Forgotten,
}

/// What the kubelet believes of the volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Belief {
    /// Nothing is left of it.
    Unmounted,
    /// It may be published.
    Uncertain,
    /// It is published.
    Mounted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pod {
    /// Its containers wait for the volume.
    Wanted,
    /// A publish succeeded.
    Running,
    /// Its containers have terminated.
    Deleted,
    /// The kubelet has removed its folder.
    Gone,
}

/// How often each event may still happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Budget {
    /// Kills of the driver.
    pub kills: u8,
    /// Failures of system calls that change something.
    pub faults: u8,
    /// Failures of system calls that change nothing.
    pub looks: u8,
    /// Timeouts of the kubelet.
    pub given_up: u8,
    /// Changes of the requested spec.
    pub specs: u8,
    /// Identities after the first.
    pub renewals: u8,
    /// Withdrawals by the source.
    pub withdrawals: u8,
    /// Restarts of the kubelet.
    pub restarts: u8,
    /// Mounts by another program over the target.
    pub foreign: u8,
    /// Startups in a new container, whose data root does not have the tmpfs of the previous one.
    pub losses: u8,
    /// How often another program may unmount the volume of a running pod.
    pub unmounts: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct World {
    /// The record on disk.
    pub disk: Option<Remembered>,
    pub folder: Option<Folder>,
    /// The folder is a clone of the target's mount, and not on the driver's own tmpfs.
    pub is_clone: bool,
    /// The folder that is mounted at the target, after the driver's tmpfs was lost.
    pub behind: Option<Folder>,
    /// A key is in the directory that all pods of the node share.
    pub leaked: bool,
    /// The folder above the target exists.
    pub parent: bool,
    /// The target folder exists.
    pub target: bool,
    pub mounts: Mounts,
    /// Another program has a mount at the target.
    pub foreign: bool,
    /// `None` while the driver is down.
    pub driver: Option<Driver>,
    pub belief: Belief,
    pub pod: Pod,
    pub asks: Spec,
    /// The last publish did not succeed, so the kubelet retries.
    pub asks_again: bool,
    /// The current identity; `None` if the source has withdrawn it.
    pub gives: Option<Generation>,
    pub latest: Generation,
    /// The pod's files were removed by a withdrawal or lost with the tmpfs, and no others were delivered.
    pub emptied: bool,
    /// Generations in the audit log; one bit each.
    pub audited: u8,
    /// Generations that the driver has reported as removed; one bit each.
    pub revoked: u8,
    pub left: Budget,
}

impl World {
    /// A pod that waits for its volume on a node with a running driver.
    pub fn new(asks: Spec, left: Budget) -> Self {
        World {
            disk: None,
            folder: None,
            is_clone: false,
            behind: None,
            leaked: false,
            parent: false,
            target: false,
            mounts: Mounts::default(),
            foreign: false,
            driver: Some(Driver::default()),
            belief: Belief::Unmounted,
            pod: Pod::Wanted,
            asks,
            asks_again: true,
            gives: Some(1),
            latest: 1,
            emptied: false,
            audited: 0,
            revoked: 0,
            left,
        }
    }

    pub fn volume(&self) -> Option<&Volume> {
        self.driver.as_ref()?.volume.as_ref()
    }

    pub fn later(&self) -> Option<Later> {
        self.driver.as_ref()?.later
    }

    /// The folder that is mounted at the target.
    pub fn mounted_folder(&self) -> Option<Folder> {
        let is_mounted = |folder: &Folder| self.mounts.all().any(|root| root == Root::Folder(folder.number));
        [self.folder, self.behind].into_iter().flatten().find(is_mounted)
    }

    /// The driver's way to the folder is lost. The mount at the target stays.
    pub fn lose_folder(&mut self) {
        self.behind = self.mounted_folder();
        (self.folder, self.is_clone) = (None, false);
    }

    /// A tmpfs without a mount is gone.
    pub fn forget_unmounted(&mut self) {
        self.behind = self.behind.filter(|_| self.mounted_folder() == self.behind);
    }

    /// Generations that the pod can read; one bit each.
    pub fn readable(&self) -> u8 {
        self.mounted_folder().map_or(0, |folder| folder.readable())
    }

    pub fn is_published_as(&self, spec: Spec) -> bool {
        self.disk.is_some_and(|record| record.phase == Phase::Ready && record.spec == spec)
    }

    /// Whether the pod has one mount with either a complete set of files, the agent's directory, or nothing after a
    /// withdrawal.
    pub fn is_whole(&self) -> bool {
        let mut mounts = self.mounts.all();
        match (mounts.next(), mounts.next(), self.mounted_folder()) {
            (Some(Root::Agent), None, _) => true,
            (Some(Root::Folder(_)), None, Some(folder)) => match folder.shown {
                Some((_, spec)) => folder.shows(spec),
                None => self.emptied,
            },
            _ => false,
        }
    }

    /// Whether the names of A and those of B exist and lead nowhere.
    pub fn dangling_names(&self) -> [bool; 2] {
        let folder = self.mounted_folder();
        let leads = |names| folder.and_then(|it| it.shown).is_some_and(|(_, spec)| names_of(spec) == names);
        [0, 1].map(|n| folder.is_some_and(|folder| folder.names[n]) && !leads(n))
    }

    /// A number that no record and no mount refers to.
    pub fn new_number(&self) -> u8 {
        let of = |record: Option<Remembered>| record.map_or([None, None], |record| [record.root, record.formerly]);
        let known = of(self.disk).into_iter().chain(of(self.volume().map(|volume| volume.record)));
        let used: Vec<_> = known.flatten().chain(self.mounts.all()).collect();
        (0..).find(|number| !used.contains(&Root::Folder(*number))).expect("few are in use")
    }
}

impl fmt::Display for World {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        let or_nothing = |record: Option<Remembered>| record.map_or("nothing".to_owned(), |record| record.to_string());
        write!(to, "The record on disk: {}. In memory: ", or_nothing(self.disk))?;
        match &self.driver {
            None => write!(to, "the driver is down. ")?,
            Some(driver) => {
                let record = or_nothing(driver.volume.map(|volume| volume.record));
                let renewal = driver.volume.and_then(|volume| volume.renewal);
                write!(to, "{record}; the renewal: {renewal:?}; to look at: {:?}. ", driver.later)?;
            }
        }
        let mounts: Vec<_> = self.mounts.all().collect();
        write!(to, "Mounted: {mounts:?}; in the folder: {:?}. ", self.folder)?;
        if let Some(behind) = self.behind {
            write!(to, "Behind the mount: {behind:?}. ")?;
        }
        write!(
            to,
            "The source gives {:?}. The pod: {:?}; the kubelet believes: {:?}.",
            self.gives, self.pod, self.belief
        )
    }
}
