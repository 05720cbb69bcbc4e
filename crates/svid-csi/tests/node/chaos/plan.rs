//! The plan of a run: a header, then one line for each step, as JSON. The file is the test: it is replayed without the seed.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Volumes of each pod.
pub(crate) const VOLUMES_A_POD: usize = 3;

/// The first line: the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    /// Where the plan came from.
    pub(crate) seed: u64,
    pub(crate) pods: usize,
    /// The lifetime of certificates, in seconds.
    pub(crate) lifetime: u64,
    /// Whether the data root survives the driver's container.
    pub(crate) survives: bool,
    /// Nothing ends the driver, so that its memory and descriptors can be compared.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) soak: bool,
}

/// A step: operations at the same time, a fault during them, and a pause after them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    #[serde(rename = "do")]
    pub(crate) operations: Vec<Operation>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) fault: Option<Fault>,
    /// In milliseconds.
    pub(crate) wait: u64,
}

/// What a volume is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Shape {
    /// Files of the local CA.
    Files,
    /// The same with other names.
    OtherNames,
    /// The same in many formats, with a password and tokens.
    Formats,
    /// A Workload API of the local CA.
    Sockets,
    /// The agent's sockets.
    Passthrough,
    /// Files of the agent.
    BrokerFiles,
    /// A Workload API of the agent.
    BrokerSockets,
    /// Files of cert-manager.
    CertManager,
    /// A Workload API of cert-manager.
    CertManagerSockets,
    /// Nothing that the driver accepts.
    Nonsense,
}

impl Shape {
    /// Those that can be published.
    pub(crate) const ALL: [Shape; 9] = [
        Shape::Files,
        Shape::OtherNames,
        Shape::Formats,
        Shape::Sockets,
        Shape::Passthrough,
        Shape::BrokerFiles,
        Shape::BrokerSockets,
        Shape::CertManager,
        Shape::CertManagerSockets,
    ];

    /// Whether its identity comes from the agent.
    pub(crate) fn is_of_agent(self) -> bool {
        matches!(self, Shape::BrokerFiles | Shape::BrokerSockets)
    }

    /// Whether each certificate needs a token of the pod, which only the kubelet's calls bring.
    pub(crate) fn needs_token(self) -> bool {
        matches!(self, Shape::CertManager | Shape::CertManagerSockets)
    }

    /// Whether pods read it without the driver.
    pub(crate) fn is_files(self) -> bool {
        matches!(self, Shape::Files | Shape::OtherNames | Shape::Formats | Shape::BrokerFiles | Shape::CertManager)
    }

    /// Whether pods ask the driver for it.
    pub(crate) fn is_socket(self) -> bool {
        matches!(self, Shape::Sockets | Shape::BrokerSockets | Shape::CertManagerSockets)
    }
}

/// What of the driver can be hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Supervision {
    /// Only the process; it runs at full speed and can be stopped.
    Nothing,
    /// Calls that change something.
    Effects,
    /// Those that look, too.
    Looks,
}

impl Supervision {
    pub(crate) const ALL: [Supervision; 3] = [Supervision::Nothing, Supervision::Effects, Supervision::Looks];
}

/// How the API server fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ApiTrouble {
    Stopped,
    TooManyRequests,
    Gone,
    Silent,
    InternalError,
    AnswersLost,
    Denied,
    NothingIssued,
}

impl ApiTrouble {
    pub(crate) const ALL: [ApiTrouble; 8] = [
        ApiTrouble::Stopped,
        ApiTrouble::TooManyRequests,
        ApiTrouble::Gone,
        ApiTrouble::Silent,
        ApiTrouble::InternalError,
        ApiTrouble::AnswersLost,
        ApiTrouble::Denied,
        ApiTrouble::NothingIssued,
    ];
}

/// An operation of the kubelet, of an administrator, or of a peer. One that does not apply is skipped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Operation {
    /// The kubelet publishes a volume, for the first time or again, and waits that many milliseconds.
    Publish {
        volume: usize,
        shape: Shape,
        patience: u64,
    },
    Unpublish {
        volume: usize,
        patience: u64,
    },
    /// The pod ends: all of its volumes are unpublished, and its folder is removed. The next one has another UID.
    End {
        pod: usize,
    },
    /// The pod's mounts and folder disappear, and no one unpublishes.
    Vanish {
        pod: usize,
    },
    /// An administrator asks for a renewal, of one pod or of all.
    Renew {
        pod: Option<usize>,
    },
    Stats {
        volume: usize,
    },
    Start {
        under: Supervision,
    },
    Kill,
    Terminate,
    RestartKubelet,
    StopAgent,
    StartAgent,
    /// The agent's directory is re-created.
    ReplaceAgent,
    /// The agent issues to everyone again.
    RotateAgent,
    /// The agent has one root more, which signs from now on.
    AgentRoot,
    Withdraw {
        pod: usize,
    },
    Entitle {
        pod: usize,
    },
    Api {
        trouble: ApiTrouble,
    },
    /// cert-manager has one root more, which signs from now on.
    CertManagerRoot,
    /// All faults end; then every wanted volume becomes fresh, and nothing else is left.
    Heal,
}

/// The errors that a call is made to fail with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Error {
    Enospc,
    Eio,
    Emfile,
    Enomem,
    Eacces,
}

impl Error {
    pub(crate) const ALL: [Error; 5] = [Error::Enospc, Error::Eio, Error::Emfile, Error::Enomem, Error::Eacces];
}

/// A call that an operation makes on its volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Aim {
    /// A write of the record takes effect: of a first publish, the first says that it has begun, the second that it is ready.
    Record,
    /// A file of an identity is made.
    File,
    /// A link or socket of the pod is replaced, such as `..data`.
    Switch,
    /// A file, link or socket of the pod is removed.
    Remove,
    /// A mount is prepared.
    Clone,
    /// A mount is attached.
    Attach,
    /// A mount is detached.
    Detach,
    /// A check of what exists.
    Look,
    Open,
    List,
    Read,
}

/// What happens at that call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Hit {
    KillBefore,
    KillAfter,
    FailOnce(Error),
    /// It fails, and so do all such calls on the volume during this step.
    KeepFailing(Error),
}

/// What happens during a step. Numbers count the driver's effects from 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Fault {
    KillBefore {
        effect: usize,
    },
    KillAfter {
        effect: usize,
    },
    /// An effect fails; from then on all of its class, or only the one.
    Fail {
        effect: usize,
        error: Error,
        lasting: bool,
    },
    /// The n-th such call on a volume is hit, in an operation of the same step that makes it.
    Aimed {
        volume: usize,
        aim: Aim,
        nth: usize,
        hit: Hit,
    },
    /// SIGKILL after that many milliseconds.
    KillAt {
        after: u64,
    },
    TerminateAt {
        after: u64,
    },
    /// SIGSTOP for that many milliseconds.
    Stop {
        millis: u64,
    },
    /// For that many lines, the data root has no page left.
    Full {
        lines: usize,
    },
    /// The same with inodes.
    NoInodes {
        lines: usize,
    },
    /// For that many lines, the clock of a supervised driver is that many hours ahead.
    Clock {
        hours: i64,
        lines: usize,
    },
    /// The driver can open that many files more.
    Descriptors {
        more: u64,
    },
    /// Another program unmounts a volume.
    Unmount {
        volume: usize,
    },
    /// Another program mounts something over a volume.
    Cover {
        volume: usize,
    },
    /// While the driver is down, a record is cut.
    CutRecord {
        volume: usize,
    },
    /// While the driver is down, two records take each other's place.
    SwapRecords {
        volume: usize,
        with: usize,
    },
    /// The data root goes with the driver's container.
    LoseData,
}

impl Fault {
    /// Its name in a plan; for one that is aimed, with its aim.
    pub(crate) fn name(&self) -> String {
        if let Fault::Aimed { aim, .. } = self {
            return format!("aimed-{}", format!("{aim:?}").to_lowercase());
        }
        match serde_json::to_value(self) {
            Ok(serde_json::Value::Object(named)) => named.keys().next().cloned().unwrap_or_default(),
            Ok(serde_json::Value::String(name)) => name,
            _ => String::new(),
        }
    }
}

/// Reads a plan.
pub(crate) fn read(path: &Path) -> io::Result<(Header, Vec<Line>)> {
    let mut lines = BufReader::new(File::open(path)?).lines();
    let header = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let header = serde_json::from_str(&header)?;
    let lines = lines.map(|line| Ok(serde_json::from_str(&line?)?));
    Ok((header, lines.collect::<io::Result<_>>()?))
}

/// A plan's file. Each line is in it before it is done.
#[derive(Debug)]
pub(crate) struct Writer(File);

impl Writer {
    pub(crate) fn create(path: &Path, header: &Header) -> io::Result<Self> {
        std::fs::create_dir_all(path.parent().unwrap_or(path))?;
        let mut file = File::create(path)?;
        writeln!(file, "{}", serde_json::to_string(header)?)?;
        Ok(Self(file))
    }

    pub(crate) fn put(&mut self, line: &Line) -> io::Result<()> {
        writeln!(self.0, "{}", serde_json::to_string(line)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_reads_back_as_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("below/plan.jsonl");
        let header = Header { seed: 7, pods: 3, lifetime: 30, survives: true, soak: false };
        let publish = Operation::Publish { volume: 4, shape: Shape::OtherNames, patience: 2000 };
        let fault = Fault::Fail { effect: 3, error: Error::Eio, lasting: true };
        let lines = [
            Line { operations: vec![publish, Operation::Renew { pod: None }], fault: Some(fault), wait: 5 },
            Line { operations: vec![Operation::Heal], fault: None, wait: 0 },
        ];
        let mut writer = Writer::create(&path, &header).unwrap();
        lines.iter().for_each(|line| writer.put(line).unwrap());
        assert_eq!(read(&path).unwrap(), (header, lines.to_vec()));
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().nth(2), Some(r#"{"do":["heal"],"wait":0}"#), "{text}");
    }

    #[test]
    fn a_file_that_is_not_a_plan_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plan.jsonl");
        let header = r#"{"seed":1,"pods":1,"lifetime":30,"survives":false}"#;
        for text in ["", "{}", &format!("{header}\n{{\"do\":[\"dance\"],\"wait\":0}}"), &format!("{header}\n\n")] {
            std::fs::write(&path, text).unwrap();
            assert!(read(&path).is_err(), "{text}");
        }
    }
}
