//! The driver as a process of the host, started with the unit and the environment file in `deploy/systemd`, edited like
//! an administrator would.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use svid_csi_cluster::program::Program;
use svid_csi_cluster::session::NODE;
use svid_csi_cluster::{files, images, process};
use tokio::net::UnixDatagram;

use crate::eventually::SOON;
use crate::files::ensure_verified;
use crate::mountpoints::ensure_single;
use crate::pods::PodSpec;
use crate::restart::{ensure_always_verified, wait_renewal};
use crate::scene::{Scene, play};

const NAME: &str = "host.svid-csi";
const PROGRAM: &str = "svid-csi";
/// The last block of the environment file, uncommented as an administrator would.
const BLOCK: [&str; 4] = [
    "SVID_CSI_SOURCE=local-ca",
    "SVID_CSI_DRIVER_NAME=demo.svid-csi",
    "SVID_CSI_TRUST_DOMAIN=example.org",
    "SVID_CSI_CERTIFICATE_REQUEST_DURATION=1h",
];

#[tokio::test]
async fn the_unit_serves_pods_and_its_restart_harms_none() {
    play("e2e-host", async |scene: &Scene| {
        // The leftover of a killed test. Its arguments do not identify it, but the path of its program does.
        process::sweep(&[PROGRAM], &scene.folder)?;
        scene.announce_files(NAME).await?;
        let unit = Unit::install(scene)?;
        let service = unit.start().await?;
        scene.wait_registered(NAME).await?;
        let pod = scene.run(&PodSpec::on_files("user", NAME)).await?;
        ensure_verified(scene, &pod.verify_files().await?)?;
        ensure_single(scene, &pod)?;

        service.end().await?;
        let seen = pod.lines().await?.len();
        ensure_verified(scene, &pod.verify_files().await?).context("while the unit is stopped")?;
        let _service = unit.start().await?;
        unit.renew_all()?;
        wait_renewal(scene, &pod, seen).await?;
        ensure_always_verified(scene, &pod).await?;
        // While the driver is still running.
        scene.end_users().await
    })
    .await;
}

/// The unit as installed by a package, below a folder of the test.
struct Unit<'a> {
    scene: &'a Scene,
    text: String,
    variables: String,
}

impl<'a> Unit<'a> {
    fn install(scene: &'a Scene) -> Result<Self> {
        let read = |name: &str| {
            let path = scene.layout.repo.join("deploy/systemd").join(name);
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        let (text, variables) = (read("svid-csi.service")?, read("driver.env")?);
        let unit = Self { scene, text, variables: edited(scene, &variables)? };
        let program = unit.program()?;
        fs::create_dir_all(Path::new(&program[0]).parent().context("a program lies in a folder")?)?;
        fs::copy(images::binary(&scene.layout), &program[0])?;
        files::write(&scene.folder.join("driver.env"), &unit.variables)?;
        Ok(unit)
    }

    /// The command of the unit, below the test's folder.
    fn program(&self) -> Result<Vec<String>> {
        let line = self.setting("ExecStart").next().context("the unit starts nothing")?;
        let mut words = line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        words[0] = format!("{}{}", self.scene.folder.display(), words[0]);
        Ok(words)
    }

    fn setting(&self, name: &str) -> impl Iterator<Item = &str> {
        self.text.lines().filter_map(move |line| line.strip_prefix(name)?.strip_prefix('='))
    }

    /// Starts it like systemd, and waits for the notification that it is ready.
    async fn start(&self) -> Result<Program> {
        ensure!(self.setting("Type").eq(["notify"]), "it would be taken for ready at once");
        let notices = self.scene.folder.join("notify.sock");
        let _ = fs::remove_file(&notices);
        let socket = UnixDatagram::bind(&notices)?;
        let words = self.program()?;
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env_clear().env("NOTIFY_SOCKET", &notices);
        let given = self.setting("Environment").chain(self.variables.lines());
        command.envs(given.filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('=')));
        let mut service = Program::spawn(&mut command, &self.scene.folder.join("driver.log"))?;
        let ready = tokio::time::timeout(SOON, wait_notice(&socket, "READY=1")).await;
        service.check()?;
        ready.context("it does not say that it is ready")??;
        Ok(service)
    }

    /// With the command in docs/systemd.md.
    fn renew_all(&self) -> Result<()> {
        let data = self.scene.folder.join("data");
        let output = Command::new(&self.program()?[0]).args(["renew", "--all", "--data-root"]).arg(data).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }
}

async fn wait_notice(socket: &UnixDatagram, wanted: &str) -> Result<()> {
    loop {
        let mut bytes = [0; 4096];
        let length = socket.recv(&mut bytes).await?;
        if String::from_utf8_lossy(&bytes[..length]).lines().any(|line| line == wanted) {
            return Ok(());
        }
    }
}

/// The environment file for this node: one block enabled, and all paths below the test's folder.
fn edited(scene: &Scene, variables: &str) -> Result<String> {
    let folder = scene.folder.display();
    let commented = BLOCK.map(|line| format!("#{line}\n")).concat();
    ensure!(variables.contains(&commented), "the file of variables has no such block: {commented}");
    let block = BLOCK.join("\n").replace("demo.svid-csi", NAME) + "\n";
    let text = variables
        .replace(&commented, &block)
        .replace("/var/lib/svid-csi", &format!("{folder}/data"))
        .replace("/run/svid-csi", &format!("{folder}/run"))
        .replace("/var/lib/kubelet", &scene.kubelet().display().to_string());
    // The unit's RuntimeDirectory and StateDirectory.
    for made in ["run", "data"] {
        fs::create_dir_all(scene.folder.join(made))?;
    }
    Ok(text + &format!("SVID_CSI_NODE_ID={NODE}\n"))
}
