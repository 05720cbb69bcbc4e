//! Programs of others on volumes of the driver, as their users configure them: `just consumers`.

mod ghostunnel;
mod java;
mod nginx;
mod node_js;
mod spiffe_helper;
mod tls;

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::fixture::{Node, run};

/// The documentation whose examples run here.
const RELOAD: &str = include_str!("../../../../../docs/reload.md");

/// A program that runs beside a test. It ends with the value, and so do the programs that it has started.
struct Program {
    process: Child,
    log: PathBuf,
}

impl Program {
    fn start(node: &Node, name: &str, command: &mut Command) -> Self {
        let log = node.path(&format!("{name}.log"));
        let output = File::create(&log).unwrap();
        let command = command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        let process = command.process_group(0).spawn().unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        Self { process, log }
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.process), Signal::KILL);
        let _ = self.process.wait();
    }
}

/// Builds the program in Go that has the name of its module in `tests/cluster/tools`, and returns its path.
fn built(node: &Node, name: &str) -> PathBuf {
    let source = format!("{}/../../tests/cluster/tools/{name}", env!("CARGO_MANIFEST_DIR"));
    let folder = node.path("programs");
    fs::create_dir_all(&folder).unwrap();
    let build = ["CGO_ENABLED=0", "go", "-C", &source, "build", "-o", folder.to_str().unwrap(), "tool"];
    run("env", &build);
    folder.join(name)
}

/// The only example of [`RELOAD`] in that language that contains `part`, for a volume at `target`.
fn example(language: &str, part: &str, target: &Path) -> String {
    let opened = format!("```{language}\n");
    let blocks = RELOAD.split(&opened).skip(1).filter_map(|rest| rest.split("\n```").next());
    let mut found: Vec<_> = blocks.filter(|block| block.contains(part)).collect();
    assert_eq!(found.len(), 1, "examples in {language} with {part}");
    found.remove(0).replace("/identity", target.to_str().unwrap())
}

/// An address on which nothing listens.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).unwrap()
}
