//! A reader of every running volume, each second, on a separate thread: it continues while the driver is stopped or gone.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use svid_csi_testkit::agent::Agent;

use super::beliefs::{Belief, Slot, Tampering};
use super::calls::{Verdict, violated};
use super::calm::waited;
use super::plan::VOLUMES_A_POD;
use super::sight::{self, Sight, Wrong};
use super::world::Shared;

/// What the driver and this program have waited for a processor counts that often, because threads that have ended are not
/// asked any more.
const UNSEEN: u32 = 2;

/// A violation that a reader has seen.
#[derive(Debug, Clone)]
struct Seen {
    volume: usize,
    what: String,
}

/// What the reader has found.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// How often it has looked at all volumes.
    rounds: usize,
    pub(crate) looks: usize,
    pub(crate) renewals: usize,
    pub(crate) serials: HashSet<String>,
    violation: Option<Seen>,
}

pub(crate) struct Reader {
    notes: Arc<Mutex<Notes>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    /// Starts it. It also has the agent renew what it has issued, a few times in each lifetime.
    pub(crate) fn start(shared: Arc<Mutex<Shared>>, agent: Arc<Agent>, lifetime: Duration) -> Self {
        let (notes, stop) = (Arc::<Mutex<Notes>>::default(), Arc::<AtomicBool>::default());
        let (its_notes, its_stop) = (notes.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let mut last = HashMap::new();
            let mut rotated = Instant::now();
            let (mut process, mut before) = (None, [Duration::ZERO; 2]);
            while !its_stop.load(Ordering::Relaxed) {
                let began = Instant::now();
                if rotated.elapsed() > lifetime / 3 {
                    agent.rotate_all();
                    rotated = began;
                }
                runtime.block_on(look_at_all(&shared, &its_notes, &mut last, lifetime));
                its_notes.lock().unwrap_or_else(PoisonError::into_inner).rounds += 1;
                std::thread::sleep(Duration::from_secs(1).saturating_sub(began.elapsed()));
                let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
                let now = [shared.process.map_or(Duration::ZERO, |pid| waited(&pid.to_string())), waited("self")];
                if std::mem::replace(&mut process, shared.process) != shared.process {
                    before[0] = Duration::ZERO;
                }
                let more: Duration = (0..2).map(|one| now[one].saturating_sub(before[one])).sum();
                shared.calm.lagged((more * UNSEEN).min(began.elapsed()), Instant::now());
                before = now;
            }
        });
        Reader { notes, stop, thread: Some(thread) }
    }

    pub(crate) fn notes<T>(&self, look: impl FnOnce(&mut Notes) -> T) -> T {
        look(&mut self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The first violation until now.
    pub(crate) fn verdict(&self) -> Verdict {
        match self.notes(|notes| notes.violation.take()) {
            Some(Seen { volume, what }) => Err(violated(volume, format!("a reader: {what}"))),
            None => Ok(()),
        }
    }

    /// Waits until it has looked at everything as it is now.
    pub(crate) async fn looks_again(&self) {
        // The round that has begun may be past a volume.
        let enough = self.notes(|notes| notes.rounds) + 2;
        let runs = || self.thread.as_ref().is_some_and(|thread| !thread.is_finished());
        while self.notes(|notes| notes.rounds) < enough && runs() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A volume, and what was seen in it last.
type Last = HashMap<std::path::PathBuf, Sight>;

async fn look_at_all(shared: &Mutex<Shared>, notes: &Mutex<Notes>, last: &mut Last, lifetime: Duration) {
    let lock = || shared.lock().unwrap_or_else(PoisonError::into_inner);
    let (slots, targets) = {
        let shared = lock();
        (shared.beliefs.slots.clone(), shared.targets.clone())
    };
    for (index, (slot, target)) in slots.iter().zip(&targets).enumerate() {
        let Some(shape) = slot.shape().filter(|shape| is_readable(slot) && (shape.is_files() || shape.is_socket()))
        else {
            continue;
        };
        let pod = index / VOLUMES_A_POD;
        let seen = sight::look(target, pod, shape).await;
        let shared = lock();
        // A volume that has changed meanwhile proves nothing.
        let is_same = |now: &Slot| now.calls == slot.calls && is_readable(now) && now.shape() == Some(shape);
        if shared.targets[index] != *target || !is_same(&shared.beliefs.slots[index]) {
            continue;
        }
        let disturbed = shared.calm.disturbed_within(lifetime, Instant::now());
        drop(shared);
        let mut notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.looks += 1;
        let what = match seen {
            Ok(None) => None,
            Ok(Some(sight)) => {
                let before = last.insert(target.clone(), sight.clone());
                notes.renewals += usize::from(before.as_ref().is_some_and(|before| before.serial != sight.serial));
                notes.serials.insert(sight.serial.clone());
                let is_older = before.as_ref().is_some_and(|before| sight.made.is_some() && before.made > sight.made);
                if is_older {
                    Some(format!("the files went back: {before:?}, then {sight:?}"))
                } else if sight.is_expired() && slot.tampered.is_none() && disturbed < lifetime / 8 {
                    Some(format!("expired after a disturbance of {disturbed:?}: {sight:?}"))
                } else {
                    None
                }
            }
            Err(Wrong::Broken(what)) => Some(what),
            // The driver may be down, or its source have nothing.
            Err(Wrong::Absent(_)) if shape.is_socket() || shape.is_of_agent() => None,
            Err(Wrong::Absent(what)) => Some(what),
        };
        if let Some(what) = what {
            notes.violation.get_or_insert(Seen { volume: index, what });
        }
    }
}

fn is_readable(slot: &Slot) -> bool {
    slot.belief == Belief::Mounted && slot.tampered != Some(Tampering::Mount) && slot.calls.is_multiple_of(2)
}
