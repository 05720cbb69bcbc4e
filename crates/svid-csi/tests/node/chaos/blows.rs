//! Faults: of the driver's calls, of its process, of its disk, and by other programs.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use svid_csi::demo::kubelet::InlineVolume;
use svid_csi_testkit::effects::{Act, At, Class, Point, Span, Watch};

use super::beliefs::{Belief, Tampering};
use super::plan::{Aim, Error, Fault, Hit};
use super::swarm::Driver;
use super::world::World;
use crate::restart::lose_data_root;

impl Fault {
    /// Where the supervisor acts among all effects, if it does.
    fn point(&self) -> Option<Point> {
        let (effect, act) = match *self {
            Fault::KillBefore { effect } => (effect, Act::KillBefore),
            Fault::KillAfter { effect } => (effect, Act::KillAfter),
            Fault::Fail { effect, error, lasting } => {
                (effect, Act::Fail(errno(error), if lasting { Span::ForGood } else { Span::Once }))
            }
            _ => return None,
        };
        Some(Point { at: At::Nth(effect), act })
    }

    /// Whether a mount and the one that it replaces may both fail.
    pub(crate) fn keeps_mounts_away(&self) -> bool {
        let aimed = matches!(self, Fault::Aimed { aim: Aim::Attach, hit: Hit::KeepFailing(_), .. });
        aimed || matches!(self, Fault::Fail { lasting: true, .. })
    }

    /// Whether it may end the driver.
    pub(crate) fn kills(&self) -> bool {
        use Fault::{KillAfter, KillAt, KillBefore, TerminateAt};
        matches!(self, KillBefore { .. } | KillAfter { .. } | KillAt { .. } | TerminateAt { .. })
            || matches!(self, Fault::Aimed { hit: Hit::KillBefore | Hit::KillAfter, .. })
    }
}

impl Hit {
    fn act(self) -> Act {
        match self {
            Hit::KillBefore => Act::KillBefore,
            Hit::KillAfter => Act::KillAfter,
            Hit::FailOnce(error) => Act::Fail(errno(error), Span::Once),
            Hit::KeepFailing(error) => Act::Fail(errno(error), Span::ForGood),
        }
    }
}

impl Aim {
    fn class(self) -> Class {
        match self {
            Aim::Record | Aim::Switch => Class::Rename,
            Aim::File => Class::Create,
            Aim::Remove => Class::Unlink,
            Aim::Clone => Class::CloneMount,
            Aim::Attach => Class::MoveMount,
            Aim::Detach => Class::Umount,
            Aim::Look => Class::Stat,
            Aim::Open => Class::Open,
            Aim::List => Class::List,
            Aim::Read => Class::Read,
        }
    }
}

fn errno(error: Error) -> Errno {
    match error {
        Error::Enospc => Errno::ENOSPC,
        Error::Eio => Errno::EIO,
        Error::Emfile => Errno::EMFILE,
        Error::Enomem => Errno::ENOMEM,
        Error::Eacces => Errno::EACCES,
    }
}

/// The folder of what fills the data root.
const FILLER: &str = "root/data/.filler";

impl World {
    /// What the supervisor watches for during a line with that fault.
    pub(crate) fn watch(&self, fault: Option<&Fault>) -> Watch {
        let Some(Fault::Aimed { volume, aim, nth, hit }) = fault else { return fault.and_then(Fault::point).into() };
        let InlineVolume { pod, .. } = self.any(*volume);
        let id = self.any(*volume).id();
        let about = match aim {
            Aim::Record => vec![format!("/.{id}.json.new")],
            Aim::File | Aim::Switch | Aim::Remove => vec![format!("/volumes/{id}/")],
            Aim::Clone | Aim::Attach | Aim::Detach => {
                vec![id.to_string(), self.shared().targets[*volume].display().to_string()]
            }
            Aim::Look | Aim::Open | Aim::List | Aim::Read => vec![id.to_string(), pod.uid],
        };
        Watch { point: Some(Point { at: At::Matching(aim.class(), *nth), act: hit.act() }), about }
    }

    /// Begins a fault that lasts for a while, or does what happens at once. Returns whether it applied.
    pub(crate) fn strike(&self, fault: &Fault) -> bool {
        match *fault {
            Fault::Full { .. } => self.fill(|folder| {
                let mut file = File::create(folder.join("pages"))?;
                [1 << 20, 1 << 12].into_iter().for_each(|size| while file.write_all(&vec![1; size]).is_ok() {});
                Ok(())
            }),
            Fault::NoInodes { .. } => self.fill(|folder| {
                let mut number = 0;
                while File::create(folder.join(format!("{number}"))).is_ok() {
                    number += 1;
                }
                Ok(())
            }),
            Fault::Descriptors { more } => self.limit(more),
            Fault::Clock { hours, .. } => self.driver == Driver::Supervised && self.set_clock(hours * 3600),
            Fault::Unmount { volume } => self.tamper(volume, Tampering::Mount, |target| {
                let status = Command::new("umount").arg("--lazy").arg(target).stderr(Stdio::null()).status();
                status.is_ok_and(|status| status.success())
            }),
            Fault::Cover { volume } => self.tamper(volume, Tampering::Mount, |target| {
                let status = Command::new("mount").args(["-t", "tmpfs", "foreign"]).arg(target).status();
                status.is_ok_and(|status| status.success())
            }),
            Fault::CutRecord { volume } => {
                self.driver == Driver::Down && self.tamper(volume, Tampering::Record, |_| self.cut(volume))
            }
            Fault::SwapRecords { volume, with } => {
                self.driver == Driver::Down
                    && volume != with
                    && self.tamper(volume, Tampering::Record, |_| true)
                    && self.tamper(with, Tampering::Record, |_| self.swap(volume, with))
            }
            Fault::LoseData => self.lose(),
            Fault::KillBefore { .. }
            | Fault::KillAfter { .. }
            | Fault::Fail { .. }
            | Fault::Aimed { .. }
            | Fault::KillAt { .. }
            | Fault::TerminateAt { .. }
            | Fault::Stop { .. } => false,
        }
    }

    /// What happens to the process while calls are on their way. Returns whether it applied.
    pub(crate) async fn during(&self, fault: &Fault) -> bool {
        let pause = |millis| tokio::time::sleep(Duration::from_millis(millis));
        match *fault {
            Fault::KillAt { after } if self.driver != Driver::Down => {
                pause(after).await;
                self.node.signal("KILL");
            }
            Fault::TerminateAt { after } if self.driver != Driver::Down => {
                pause(after).await;
                self.node.signal("TERM");
            }
            Fault::Stop { millis } if self.driver == Driver::Free => {
                self.node.signal("STOP");
                pause(millis).await;
                self.node.signal("CONT");
            }
            _ => return false,
        }
        true
    }

    /// Ends what lasts.
    pub(crate) fn relieve(&self, fault: &Fault) {
        match *fault {
            Fault::Full { .. } | Fault::NoInodes { .. } => {
                let _ = fs::remove_dir_all(self.node.path(FILLER));
            }
            Fault::Descriptors { .. } => self.unlimit(),
            Fault::Clock { .. } => {
                self.set_clock(0);
                // Identities that were issued for another time are replaced only now.
                self.shared().calm.disturbed_for(Duration::from_secs(self.header.lifetime), Instant::now());
            }
            Fault::Cover { volume } => {
                let target = self.shared().targets[volume].clone();
                let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap();
                let is_cover =
                    |line: &&str| line.split(' ').nth(4) == target.to_str() && line.contains(" - tmpfs foreign ");
                if mountinfo.lines().any(|line| is_cover(&line)) {
                    let _ = Command::new("umount").arg(target).stderr(Stdio::null()).status();
                }
            }
            _ => {}
        }
    }

    /// Also for a driver that is started later. Returns whether a running one has noticed.
    fn set_clock(&self, seconds: i64) -> bool {
        self.ahead.set(seconds);
        self.driver == Driver::Supervised && self.node.watched().set_clock(seconds).is_ok()
    }

    fn fill(&self, fill: impl FnOnce(&Path) -> std::io::Result<()>) -> bool {
        let folder = self.node.path(FILLER);
        World::mounts().contains_key(&self.node.path("root/data"))
            && fs::create_dir_all(&folder).is_ok()
            && fill(&folder).is_ok()
    }

    fn limit(&self, more: u64) -> bool {
        if self.driver == Driver::Down {
            return false;
        }
        let pid = self.node.pid();
        let open = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
        self.set_limit(u64::try_from(open).unwrap() + more)
    }

    fn unlimit(&self) {
        if self.driver != Driver::Down {
            self.set_limit(u64::MAX);
        }
    }

    /// At most the hard limit.
    fn set_limit(&self, most: u64) -> bool {
        let Some(pid) = Pid::from_raw(self.node.pid().cast_signed()) else { return false };
        let limits = format!("/proc/{}/limits", self.node.pid());
        let limits = fs::read_to_string(limits).unwrap_or_default();
        let line = limits.lines().find(|line| line.starts_with("Max open files"));
        let Some(maximum) = line.and_then(|line| line.split_whitespace().nth(4)?.parse().ok()) else { return false };
        let limit = Rlimit { current: Some(most.min(maximum)), maximum: Some(maximum) };
        prlimit(Some(pid), Resource::Nofile, limit).is_ok()
    }

    /// Another program changes a published volume.
    fn tamper(&self, volume: usize, how: Tampering, change: impl FnOnce(&Path) -> bool) -> bool {
        let target = {
            let mut shared = self.shared();
            let target = shared.targets[volume].clone();
            let slot = &mut shared.beliefs.slots[volume];
            if slot.belief != Belief::Mounted || slot.tampered.is_some() {
                return false;
            }
            slot.tampered = Some(how);
            target
        };
        change(&target)
    }

    fn record_of(&self, volume: usize) -> std::path::PathBuf {
        self.records().join(format!("{}.json", self.any(volume).id()))
    }

    fn cut(&self, volume: usize) -> bool {
        let path = self.record_of(volume);
        fs::read(&path).is_ok_and(|json| fs::write(path, &json[..json.len() / 2]).is_ok())
    }

    fn swap(&self, volume: usize, with: usize) -> bool {
        let (one, other) = (self.record_of(volume), self.record_of(with));
        match (fs::read(&one), fs::read(&other)) {
            (Ok(of_one), Ok(of_other)) => fs::write(one, of_other).is_ok() && fs::write(other, of_one).is_ok(),
            _ => false,
        }
    }

    fn lose(&self) -> bool {
        let is_there = World::mounts().contains_key(&self.node.path("root/data"));
        if self.header.survives || self.driver != Driver::Down || !is_there {
            return false;
        }
        lose_data_root(&self.node);
        true
    }
}
