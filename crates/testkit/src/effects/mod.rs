//! A supervisor of the real driver, by ptrace: it sees each system call with which the driver changes something on the
//! node, and can end the driver before it or after it, let it fail, or hold the thread that makes it. Requests that change
//! something on an API server can count too.
//!
//! The tested bytes are those that are shipped, and a call that no one has thought of is a point like every other. It needs
//! neither root nor `unsafe`, as the calls of nix are safe. Tested on x86-64; see `registers` for arm64.
//!
//! ```no_run
//! # use svid_csi_testkit::effects::{self, Act, At, Point, Scope, Watched};
//! # fn main() -> std::io::Result<()> {
//! let driver = effects::stopped("target/debug/svid-csi".as_ref());
//! let driver = Watched::spawn(driver, Scope::of("/tmp/node"), None)?;
//! driver.watch(Some(Point { at: At::Nth(3), act: Act::KillBefore }));
//! // Ask the driver for something.
//! let run = driver.finish();
//! assert!(run.fired);
//! # Ok(())
//! # }
//! ```

mod calls;
mod clock;
mod registers;
mod requests;
mod supervisor;
mod trace;
mod tracee;

use std::ffi::OsStr;
use std::io;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub use self::calls::Class;
use self::clock::Clock;
pub use self::trace::{Effect, Names};

/// Which calls count.
#[derive(Debug, Clone)]
pub struct Scope {
    folder: PathBuf,
    ignored: Vec<PathBuf>,
    others: Vec<String>,
    reads: bool,
    server: Option<SocketAddr>,
    clock: Option<i64>,
}

impl Scope {
    /// Those that change something below a folder.
    pub fn of(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), ignored: Vec::new(), others: Vec::new(), reads: false, server: None, clock: None }
    }

    /// But none on this path below it.
    #[must_use]
    pub fn ignoring(mut self, path: impl Into<PathBuf>) -> Self {
        self.ignored.push(path.into());
        self
    }

    /// But none on paths with this text in them: other volumes do not shift the numbers.
    #[must_use]
    pub fn without(mut self, text: impl Into<String>) -> Self {
        self.others.push(text.into());
        self
    }

    /// Also those that only look.
    #[must_use]
    pub fn with_reads(mut self) -> Self {
        self.reads = true;
        self
    }

    /// Also requests that change something on this server, to which the connections are not encrypted.
    #[must_use]
    pub fn with_requests_to(mut self, server: SocketAddr) -> Self {
        self.server = Some(server);
        self
    }

    /// And its wall clock is that many seconds ahead of the machine's, until [`Watched::set_clock`]. Reading it costs a system
    /// call then.
    #[must_use]
    pub fn with_clock(mut self, seconds: i64) -> Self {
        self.clock = Some(seconds);
        self
    }

    fn covers(&self, class: Class, paths: &[PathBuf]) -> bool {
        let is_other = |path: &Path| {
            let text = path.to_string_lossy();
            self.others.iter().any(|other| text.contains(other))
        };
        (self.reads || !class.is_read())
            && paths.iter().any(|path| path.starts_with(&self.folder) && !self.ignored.contains(path))
            && !paths.iter().any(|path| is_other(path))
    }
}

/// A call among those that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// The n-th of all, from 1.
    Nth(usize),
    /// The n-th of a class, from 1.
    Matching(Class, usize),
}

/// What happens there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// The driver ends, and the call is not made.
    KillBefore,
    /// The driver ends, and the call was made.
    KillAfter,
    /// The call is not made and ends with an error.
    Fail(Errno, Span),
    /// The thread stays before the call until [`Watched::release`] or the end of the watch; all others continue.
    Hold,
}

/// For how long calls fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// The one call.
    Once,
    /// From then on, all calls of its class, until the watch is finished.
    ForGood,
}

/// What to do, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// When.
    pub at: At,
    /// What.
    pub act: Act,
}

/// What a driver is watched for.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    /// What to do, and when; nothing if the calls are only traced.
    pub point: Option<Point>,
    /// Only calls on paths with one of these texts in them count for the point; all calls if there are none.
    pub about: Vec<String>,
}

impl From<Option<Point>> for Watch {
    fn from(point: Option<Point>) -> Self {
        Watch { point, about: Vec::new() }
    }
}

impl Watch {
    fn is_about(&self, effect: &Effect) -> bool {
        let is_named = |text: &String| effect.paths.iter().any(|path| path.to_string_lossy().contains(text.as_str()));
        self.about.is_empty() || self.about.iter().any(is_named)
    }
}

/// What happened while the driver was watched.
#[derive(Debug, Clone)]
pub struct Run {
    /// The calls that counted, in order.
    pub trace: Vec<Effect>,
    /// Whether the point was reached.
    pub fired: bool,
}

/// A driver under supervision. Dropping it kills it.
#[derive(Debug)]
pub struct Watched {
    pid: Pid,
    shared: Arc<Shared>,
}

/// What the supervisor and the test both know.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    ended: Condvar,
    clock: Clock,
}

#[derive(Debug, Default)]
struct State {
    watching: bool,
    watch: Watch,
    trace: Vec<Effect>,
    /// How many calls have counted for the point.
    counted: usize,
    fired: bool,
    /// The class whose calls keep failing, if they count for the point.
    failing: Option<(Class, Errno)>,
    /// A thread is held.
    holding: bool,
    ended: Option<ExitStatus>,
}

impl State {
    /// Adds a call to the trace. Returns what happens at it, if it is the point.
    fn add(&mut self, effect: Effect) -> Option<Act> {
        let act = self.watch.point.filter(|_| self.watch.is_about(&effect)).and_then(|Point { at, act }| {
            let nth = match at {
                At::Nth(nth) => nth,
                At::Matching(class, nth) if class == effect.class => nth,
                At::Matching(..) => return None,
            };
            self.counted += 1;
            (self.counted == nth).then_some(act)
        });
        self.fired |= act.is_some();
        self.trace.push(effect);
        act
    }

    /// The error with which a call keeps failing.
    fn failing(&self, effect: &Effect) -> Option<Errno> {
        let (class, errno) = self.failing?;
        (class == effect.class && self.watch.is_about(effect)).then_some(errno)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A command that stops itself before it becomes `program`, so that the supervisor sees its first call.
pub fn stopped(program: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c".as_ref(), "kill -STOP $$; exec \"$0\" \"$@\"".as_ref(), program.as_os_str()] as [&OsStr; 3]);
    command
}

/// Why ptrace cannot be used here, if it cannot.
pub fn forbidden() -> Option<io::Error> {
    let probe = Watched::spawn(stopped("true".as_ref()), Scope::of("/nowhere"), None);
    probe.and_then(|probe| if probe.wait().success() { Ok(()) } else { Err(io::Error::other("it failed")) }).err()
}

impl Watched {
    /// Starts a program that [`stopped`] has prepared. If a watch is given, it begins with the program's first call.
    ///
    /// # Errors
    /// It cannot be started, or not be traced.
    pub fn spawn(command: Command, scope: Scope, watch: Option<Watch>) -> io::Result<Self> {
        let shared = Arc::new(Shared { clock: Clock::ahead(scope.clock.unwrap_or_default()), ..Shared::default() });
        if let Some(watch) = watch {
            *shared.lock() = State { watching: true, watch, ..State::default() };
        }
        let (report, started) = mpsc::channel();
        let with = shared.clone();
        // All requests must come from the one thread that seized the process.
        thread::spawn(move || supervisor::run(command, scope, &with, &report));
        let pid = started.recv().map_err(io::Error::other)??;
        Ok(Self { pid, shared })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.pid.as_raw().cast_unsigned()
    }

    /// Counts from 1 from now on, and acts at the point.
    pub fn watch(&self, watch: impl Into<Watch>) {
        let mut state = self.shared.lock();
        *state = State { watching: true, watch: watch.into(), ended: state.ended, ..State::default() };
    }

    /// Whether the point was reached.
    pub fn has_fired(&self) -> bool {
        self.shared.lock().fired
    }

    /// Sets its wall clock, if its scope is one [`with_clock`](Scope::with_clock), that many seconds ahead of the machine's.
    ///
    /// # Errors
    /// It has ended, or its timers cannot be reached.
    pub fn set_clock(&self, seconds: i64) -> io::Result<()> {
        self.shared.clock.set(self.pid, seconds)
    }

    /// The thread that is held continues.
    pub fn release(&self) {
        self.shared.lock().holding = false;
    }

    /// Ends the watch: nothing fails any longer, and nothing is held.
    pub fn finish(&self) -> Run {
        let mut state = self.shared.lock();
        let ended = state.ended;
        let State { trace, fired, .. } = std::mem::replace(&mut *state, State { ended, ..State::default() });
        Run { trace, fired }
    }

    /// How it has ended, if it has.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.shared.lock().ended
    }

    /// Waits for its end.
    pub fn wait(&self) -> ExitStatus {
        let mut state = self.shared.lock();
        loop {
            match state.ended {
                Some(status) => return status,
                None => state = self.shared.ended.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Sends SIGKILL, unless it has ended.
    pub fn kill(&self) {
        if self.ended().is_none() {
            let _ = kill(self.pid, Signal::SIGKILL);
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.kill();
        self.wait();
    }
}

/// An exit status as wait(2) has it.
fn status_of(code: i32, signal: Option<Signal>) -> ExitStatus {
    ExitStatus::from_raw(signal.map_or(code << 8, |signal| signal as i32))
}
