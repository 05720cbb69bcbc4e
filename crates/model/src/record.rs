//! Records that are small enough to compare millions of times. The real [`Record`] changes them and decides on them.

use std::fmt;
use std::sync::{Arc, LazyLock};

use svid_csi_core::files::{FileName, FileNames};
use svid_csi_core::identity::Validity;
use svid_csi_core::plan::Issuer;
use svid_csi_core::state::{FileId, Issued, Phase, Record};
use svid_csi_core::target::TargetPath;
use svid_csi_core::volume::{Content, FilesSpec, Subject, VolumeSpec};
use svid_csi_core::volume_id::VolumeId;

use crate::world::{Generation, Root, Spec};

/// The known facts about the volume, on disk or in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Remembered {
    pub spec: Spec,
    pub phase: Phase,
    pub root: Option<Root>,
    pub formerly: Option<Root>,
    pub formerly_filled: bool,
    pub unsettled: bool,
    pub issued: Option<Generation>,
    /// Whether the identity was delivered for certain.
    pub delivered: bool,
    pub withdrawn: bool,
}

const AGENT: FileId = FileId { device: 1, inode: 1 };
const FOREIGN: FileId = FileId { device: 2, inode: 1 };
const DATA: u64 = 3;

impl Root {
    pub fn id(self) -> FileId {
        match self {
            Root::Folder(number) => FileId { device: DATA, inode: number.into() },
            Root::Agent => AGENT,
            Root::Foreign => FOREIGN,
        }
    }

    fn of(id: FileId) -> Self {
        match id {
            AGENT => Root::Agent,
            FOREIGN => Root::Foreign,
            FileId { inode, .. } => Root::Folder(inode.try_into().expect("few folders")),
        }
    }
}

impl Remembered {
    pub fn of(record: &Record) -> Self {
        let serial = |issued: &Issued| issued.serial.parse().expect("a generation");
        Remembered {
            spec: Spec::of(&record.spec),
            phase: record.phase,
            root: record.root.map(Root::of),
            formerly: record.formerly.map(Root::of),
            formerly_filled: record.formerly_filled,
            unsettled: record.unsettled,
            issued: record.issued.as_ref().map(serial),
            delivered: record.issued.as_ref().is_some_and(|issued| issued.digest.is_some()),
            withdrawn: record.withdrawn,
        }
    }

    pub fn real(self) -> Record {
        Record {
            phase: self.phase,
            root: self.root.map(Root::id),
            formerly: self.formerly.map(Root::id),
            formerly_filled: self.formerly_filled,
            unsettled: self.unsettled,
            issued: self.issued.map(|generation| {
                let issued = issued(generation);
                Issued { digest: issued.digest.filter(|_| self.delivered), ..issued }
            }),
            withdrawn: self.withdrawn,
            ..Record::intended("csi.spiffe.io", self.spec.real(), Some(FileId { device: 4, inode: 1 }))
        }
    }

    /// The record of a volume whose publishing begins.
    pub fn intended(spec: Spec, root: Root) -> Self {
        let mut record = Record::intended("csi.spiffe.io", spec.real(), None);
        record.root = Some(root.id());
        Self::of(&record)
    }

    pub fn is_settled(self) -> bool {
        self.real().is_settled()
    }

    /// The folder mounted at the target, if this driver writes its files.
    pub fn filled(self) -> Option<Root> {
        self.real().filled().map(Root::of)
    }
}

impl fmt::Display for Remembered {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        write!(to, "{:?} as {:?}, mounted {:?}", self.phase, self.spec, self.root)?;
        if let Some(formerly) = self.formerly {
            write!(to, " after {formerly:?}")?;
        }
        if self.unsettled {
            write!(to, ", unsettled")?;
        }
        match (self.issued, self.withdrawn) {
            (Some(generation), _) if self.delivered => write!(to, ", with identity {generation}"),
            (Some(generation), _) => write!(to, ", possibly with identity {generation}"),
            (None, true) => write!(to, ", withdrawn"),
            (None, false) => write!(to, ", without identity"),
        }
    }
}

/// The known facts about that generation.
pub fn issued(generation: Generation) -> Issued {
    let moment = std::time::SystemTime::UNIX_EPOCH;
    Issued {
        serial: generation.to_string(),
        validity: Validity { not_before: moment, not_after: moment },
        spiffe_id: None,
        bundle_digest: String::new(),
        bundle_text: None,
        digest: Some(generation.to_string()),
        untrusted: None,
        jwt: None,
    }
}

static SPECS: LazyLock<[Arc<VolumeSpec>; 3]> = LazyLock::new(|| {
    let files = |prefix: &str| {
        let name = |name| FileName::parse(&format!("{prefix}.{name}")).expect("a name");
        Content::Files(FilesSpec {
            subject: Subject { issuer: Issuer::Broker, identity: None, hint: None },
            names: FileNames { cert: Some(name("crt")), key: Some(name("key")), bundle: None },
            extras: Box::default(),
            fs_group: None,
        })
    };
    [files("a"), files("b"), Content::Passthrough].map(|content| {
        Arc::new(VolumeSpec {
            id: VolumeId::parse("csi-1").expect("an id"),
            target: TargetPath::parse("/pods/u/volumes/kubernetes.io~csi/v/mount").expect("a target"),
            read_only: true,
            pod: None,
            content,
        })
    })
});

impl Spec {
    pub(crate) fn real(self) -> Arc<VolumeSpec> {
        SPECS[self as usize].clone()
    }

    fn of(spec: &Arc<VolumeSpec>) -> Self {
        [Spec::A, Spec::B, Spec::Passthrough]
            .into_iter()
            .find(|known| Arc::ptr_eq(&SPECS[*known as usize], spec))
            .expect("one of three")
    }
}
