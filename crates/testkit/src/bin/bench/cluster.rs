//! A cluster in which cert-manager signs at once, and an administrator changes the trust bundle.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use anyhow::Result;
use svid_csi::demo::kubelet::InlineVolume;
use svid_csi_testkit::api_server::{ApiServer, Issuing, Mode, TOKEN_LIFETIME, User};
use svid_csi_testkit::{TestCa, tokens_json};

use crate::stage::Stage;

const DRIVER_TOKEN: &str = "token-of-the-driver";

/// The scripted API server, and the files that the driver reads.
pub(crate) struct Cluster {
    server: ApiServer,
    ca: Arc<TestCa>,
    changes: Arc<AtomicUsize>,
}

impl Cluster {
    /// Starts it, with kubeconfig and trust bundle at the paths of [`crate::driver::Mode::CertManager`].
    pub(crate) fn start() -> Result<Self> {
        let server = ApiServer::start();
        server.users.accept(DRIVER_TOKEN, User::service_account("cert-manager", "svid-csi"));
        let ca = Arc::new(TestCa::new("root"));
        server.cert_manager.mode(Mode::Issue(Issuing::by(&ca)));
        fs::write(Stage::path("kubeconfig"), server.kubeconfig(DRIVER_TOKEN))?;
        fs::write(Stage::path("ca.crt"), ca.bundle_pem())?;
        Ok(Self { server, ca, changes: Arc::default() })
    }

    /// As the kubelet would.
    pub(crate) fn give_token(&self, volume: &mut InlineVolume) {
        let token = self.server.token_of(&volume.pod, "bench");
        volume.tokens = Some(tokens_json(&[("", &token, SystemTime::now() + TOKEN_LIFETIME)]));
    }

    /// Adds a root to the trust bundle, in one step.
    pub(crate) fn change_bundle(&self) -> impl FnOnce() -> Result<()> + Send + use<> {
        let other = TestCa::new(&format!("other-{}", self.changes.fetch_add(1, Ordering::Relaxed)));
        let text = self.ca.bundle_pem() + &other.bundle_pem();
        move || {
            fs::write(Stage::path("ca.crt.next"), text)?;
            Ok(fs::rename(Stage::path("ca.crt.next"), Stage::path("ca.crt"))?)
        }
    }
}
