//! A node: folders, the small kubelet, and the driver as a child process.

mod process;

use std::fs;
use std::future::Future;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
use svid_csi::demo::kubelet::{InlineVolume, Kubelet, KubeletError, Plugin};
use svid_csi::host::seal;
use svid_csi::spiffe::svid::Svid;
pub(crate) use svid_csi_testkit::{TestName, pod};
use tempfile::TempDir;
use tonic::{Code, Request, Status};

use self::process::Process;

pub(crate) const FILES: &[&str] = &["--source=local-ca", "--delivery=files", "--driver-name=demo.svid-csi"];
pub(crate) const PASSTHROUGH: &[&str] = &["--profile=csi.spiffe.io", "-workload-api-socket-dir={dir}/run/agent"];

const LIMIT: Duration = Duration::from_secs(120);

/// Runs an asynchronous test in a mount namespace of its own.
pub(crate) fn test<F: Future<Output = ()>>(body: impl FnOnce() -> F) {
    named_test(&TestName::of(&body), body);
}

/// The same in a process namespace of its own, like a container: a data root on a shared mount reaches the host, as far as the
/// driver can see.
pub(crate) fn container_test<F: Future<Output = ()>>(body: impl FnOnce() -> F) {
    svid_csi_testkit::in_container_as(&TestName::of(&body), || block_on(body));
}

/// The same for fixtures that wrap the body of a test in a closure of their own.
pub(crate) fn named_test<F: Future<Output = ()>>(name: &TestName, body: impl FnOnce() -> F) {
    svid_csi_testkit::in_mount_ns_as(name, || block_on(body));
}

fn block_on<F: Future<Output = ()>>(body: impl FnOnce() -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(body());
}

/// Whether this process is the real root, not only that of a user namespace.
pub(crate) fn is_root_outside() -> bool {
    let map = fs::read_to_string("/proc/self/gid_map").unwrap();
    let is_root = map.split_whitespace().last() == Some("4294967295");
    assert!(is_root || std::env::var("CI").as_deref() != Ok("true"), "this test needs the real root");
    is_root
}

/// A node with one driver. Dropping it kills the driver; the mounts go with the namespace.
pub(crate) struct Node {
    pub(crate) dir: TempDir,
    pub(crate) kubelet: Kubelet,
    args: Vec<String>,
    variables: Vec<(String, String)>,
    without: Option<CapabilitySet>,
    descriptors: Option<u32>,
    driver: Option<Process>,
}

impl Node {
    /// A node whose driver is not started yet. `{dir}` in an argument is the node's folder.
    pub(crate) fn new(args: &[&[&str]]) -> Self {
        let dir = tempfile::Builder::new().prefix("svid").tempdir().unwrap();
        let kubelet = Kubelet::new(&dir.path().join("kubelet")).unwrap();
        fs::create_dir_all(dir.path().join("run")).unwrap();
        let common: &[&str] = &["--node-id=n1", "--endpoint=unix://{dir}/csi.sock", "--metrics-address=0"];
        let args = common.iter().chain(args.iter().flat_map(|args| args.iter()));
        let args = args.map(|arg| arg.replace("{dir}", dir.path().to_str().unwrap())).collect();
        Node { dir, kubelet, args, variables: Vec::new(), without: None, descriptors: None, driver: None }
    }

    /// A node with the local CA and a data root, its driver running.
    pub(crate) async fn files(more: &[&str]) -> Self {
        let mut node = Node::new(&[FILES, &["--data-root={dir}/root", "--trust-domain=example.org"], more]);
        node.start().await;
        node
    }

    /// A node that passes the agent's sockets through, its driver running.
    pub(crate) async fn passthrough(more: &[&str]) -> Self {
        let mut node = Node::new(&[PASSTHROUGH, &["--data-root={dir}/root"], more]);
        node.start().await;
        node
    }

    /// For the next start. A flag given earlier is overridden.
    pub(crate) fn add_args(&mut self, args: &[&str]) {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
    }

    /// Removes a flag for the next start.
    pub(crate) fn drop_arg(&mut self, flag: &str) {
        self.args.retain(|arg| arg.split('=').next() != Some(flag));
    }

    /// An environment variable, for the next start.
    pub(crate) fn variable(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// The next starts are without this capability.
    pub(crate) fn take_away(&mut self, capability: CapabilitySet) {
        self.without = Some(capability);
    }

    /// The next starts have at most that many descriptors.
    pub(crate) fn limit_descriptors(&mut self, most: u32) {
        self.descriptors = Some(most);
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    pub(crate) fn command(&self) -> Command {
        let binary = program();
        let command = match self.descriptors {
            None => Command::new(binary),
            Some(most) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("ulimit -n {most}; exec \"$0\" \"$@\""), &binary]);
                shell
            }
        };
        self.completed(command)
    }

    fn completed(&self, mut command: Command) -> Command {
        command.arg("driver").args(&self.args).stdin(Stdio::null()).envs(self.variables.iter().cloned());
        command
    }

    /// Starts the driver and waits until it answers.
    pub(crate) async fn start(&mut self) {
        self.spawn();
        self.answers().await.unwrap_or_else(|ended| panic!("the driver ended: {ended}: {}", self.log()));
    }

    /// Waits until the driver answers; how it has ended, if it has.
    pub(crate) async fn answers(&mut self) -> Result<(), ExitStatus> {
        let deadline = Instant::now() + LIMIT;
        while self.connect().await.is_err() {
            if let Some(ended) = self.driver.as_mut().unwrap().ended() {
                return Err(ended);
            }
            assert!(Instant::now() < deadline, "the driver does not answer: {}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Starts the driver, whether it succeeds or not.
    pub(crate) fn spawn(&mut self) {
        let log = self.open_log();
        let (mut command, without) = (self.command(), self.without);
        // On a separate thread, because children do not get a capability that their thread has dropped.
        let spawned = std::thread::spawn(move || {
            without.map_or(Ok(()), remove_capability_from_bounding_set).unwrap();
            command.stderr(log).spawn().unwrap()
        });
        self.driver = Some(Process::Free(spawned.join().unwrap()));
    }

    fn open_log(&self) -> fs::File {
        fs::OpenOptions::new().create(true).append(true).open(self.path("log")).unwrap()
    }

    async fn connect(&self) -> Result<Plugin, KubeletError> {
        Plugin::connect(&self.endpoint()).await
    }

    /// The CSI socket: the last one given.
    fn endpoint(&self) -> PathBuf {
        let given = self.args.iter().rev().find_map(|arg| arg.strip_prefix("--endpoint=")).expect("it is always given");
        PathBuf::from(given.trim_start_matches("unix://"))
    }

    pub(crate) async fn plugin(&self) -> Plugin {
        self.connect().await.unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.driver.as_ref().unwrap().id()
    }

    /// Whether the driver has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.driver.as_mut().unwrap().ended().is_some()
    }

    pub(crate) fn kill(&mut self) {
        let mut driver = self.driver.take().unwrap();
        driver.kill();
        driver.wait();
    }

    /// SIGKILL without waiting, for use while calls are in flight.
    pub(crate) fn driver_kill(&self) {
        let pid = self.driver.as_ref().unwrap().id().to_string();
        run("kill", &["-KILL", &pid]);
    }

    /// Sends a signal, unless the driver has ended.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.driver.as_ref().unwrap().id().to_string();
        let _ = Command::new("kill").args(["-s", name, &pid]).stderr(Stdio::null()).status();
    }

    /// The exit status of the driver, once it has ended.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        self.driver.take().unwrap().wait()
    }

    pub(crate) fn reap(&mut self) {
        self.driver.take().unwrap().wait();
    }

    /// Sends SIGTERM, and waits for the end. The log shows whether the driver waited for calls, and which.
    pub(crate) async fn terminate(&mut self) {
        let mut driver = self.driver.take().unwrap();
        let pid = driver.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        // Without blocking this thread: the driver closes open connections gracefully, and waits for a response.
        let ended = tokio::task::spawn_blocking(move || driver.wait()).await.unwrap();
        assert!(ended.success(), "{}", self.log());
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    pub(crate) async fn publish(&self, volume: &InlineVolume) -> PathBuf {
        let published = self.kubelet.publish(&self.plugin().await, volume).await;
        published.unwrap_or_else(|error| panic!("{error}\n{}", self.log()))
    }

    /// Publishes a volume that must be refused; returns the code and message.
    pub(crate) async fn refused(&self, volume: &InlineVolume) -> (Code, String) {
        let error = self.kubelet.publish(&self.plugin().await, volume).await.expect_err("published");
        (error.code().unwrap(), error.to_string())
    }

    /// Publishes like a kubelet that waits only that long; longer if the machine is too busy to receive the driver's
    /// answer.
    pub(crate) async fn publish_within(&self, volume: &InlineVolume, mut deadline: Duration) -> Result<(), Status> {
        let target = self.kubelet.target(volume);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        let mut node = self.plugin().await.node().await.unwrap();
        loop {
            let mut request = Request::new(volume.publish_request(target.to_str().unwrap(), false));
            request.set_timeout(deadline);
            match node.node_publish_volume(request).await {
                // This is the client's own error, not the driver's.
                Err(error) if error.message() == "Timeout expired" => deadline *= 2,
                answer => return answer.map(drop),
            }
        }
    }

    /// As [`refused`](Self::refused), by a kubelet that waits only that long. A driver that still waits reports only
    /// what for.
    pub(crate) async fn refused_within(&self, volume: &InlineVolume, deadline: Duration) -> (Code, String) {
        let status = self.publish_within(volume, deadline).await.expect_err("published");
        (status.code(), status.message().to_owned())
    }

    pub(crate) async fn unpublish(&self, volume: &InlineVolume) {
        let unpublished = self.kubelet.unpublish(&self.plugin().await, volume).await;
        unpublished.unwrap_or_else(|error| panic!("{error}\n{}", self.log()));
    }

    /// Why the volume is abnormal, if it is.
    pub(crate) async fn trouble(&self, volume: &InlineVolume) -> Option<String> {
        let stats = self.kubelet.stats(&self.plugin().await, volume).await.unwrap();
        let condition = stats.volume_condition.unwrap();
        condition.abnormal.then_some(condition.message)
    }

    /// The record of a volume, as it is on disk.
    pub(crate) fn record(&self, volume: &InlineVolume) -> String {
        fs::read_to_string(self.path("root/records").join(format!("{}.json", volume.id()))).unwrap()
    }

    /// The number of mounts at or below a path.
    pub(crate) fn mounts(&self, at: &Path) -> usize {
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
        points.filter(|point| Path::new(point).starts_with(at)).count()
    }

    pub(crate) fn agent(&self) -> UnixListener {
        fs::create_dir_all(self.path("run/agent")).unwrap();
        UnixListener::bind(self.path("run/agent/agent.sock")).unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(driver) = &mut self.driver {
            driver.kill();
            driver.wait();
        }
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mut points: Vec<_> = mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).collect();
        points.retain(|point| Path::new(point).starts_with(self.dir.path()));
        for point in points.into_iter().rev() {
            let _ = Command::new("umount").args(["-l", point]).stderr(Stdio::null()).status();
        }
        unseal_below(self.dir.path());
    }
}

/// The driver: this build, or another one that is measured.
pub(crate) fn program() -> String {
    std::env::var("SVID_CSI_MEASURED").unwrap_or_else(|_| env!("CARGO_BIN_EXE_svid-csi").to_owned())
}

/// The files in volumes stay sealed when their driver ends, and cannot be removed.
pub(crate) fn unseal_below(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        unseal_below(&entry.path());
    }
    let _ = fs::File::open(folder).and_then(seal::unseal);
}

pub(crate) fn volume(pod_name: &str) -> InlineVolume {
    InlineVolume::new(&pod(pod_name), "spiffe")
}

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !condition().await {
        assert!(Instant::now() < deadline, "still waiting: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Runs a program that must succeed.
pub(crate) fn run(program: &str, args: &[&str]) {
    let status = Command::new(program).args(args).status().unwrap();
    assert!(status.success(), "{program} {args:?}: {status}");
}

/// The SVID in a volume, read like a careful reader: all files through one resolution of `..data`, and again if the
/// folder was replaced in the meantime.
pub(crate) fn svid(target: &Path) -> Svid {
    let read = || Svid::read(&fs::canonicalize(target.join("..data")).ok()?).ok();
    let svid = (0..50).find_map(|_| read()).unwrap_or_else(|| Svid::read(target).unwrap());
    svid.check_key().unwrap();
    svid
}

pub(crate) fn serial(target: &Path) -> String {
    svid(target).leaf().unwrap().serial
}
