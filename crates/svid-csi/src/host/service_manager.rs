//! Notifies the service manager that started the process about its state, with systemd's protocol sd_notify(3).
//!
//! Existing libraries cannot send to abstract sockets, which some service managers use.

use std::convert::Infallible;
use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::tasks::Tasks;

/// The service manager, if it wants notifications.
#[derive(Debug)]
pub(crate) struct ServiceManager {
    socket: Option<UnixDatagram>,
    /// How long it waits for a keep-alive before it ends the process.
    patience: Option<Duration>,
}

impl ServiceManager {
    /// Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID.
    pub(crate) fn find(environment: impl Fn(&str) -> Option<OsString>) -> Self {
        let socket = environment("NOTIFY_SOCKET").filter(|address| !address.is_empty()).and_then(|address| {
            let connected = connect(address.as_bytes());
            connected.inspect_err(|error| warn!(?address, %error, "cannot write to NOTIFY_SOCKET")).ok()
        });
        let number = |name| environment(name)?.to_str()?.parse().ok();
        let is_ours = number("WATCHDOG_PID").is_none_or(|pid: u64| pid == u64::from(std::process::id()));
        let patience = number("WATCHDOG_USEC").filter(|micros| *micros > 0 && is_ours).map(Duration::from_micros);
        Self { patience: patience.filter(|_| socket.is_some()), socket }
    }

    /// Reports that the process is ready, and keeps reporting that it is alive as long as its tasks run.
    pub(crate) fn ready(self, status: &str, tasks: &Tasks) {
        if self.socket.is_none() {
            return;
        }
        self.notify(&format!("READY=1\nSTATUS={status}"));
        let stop = tasks.stopping();
        tasks.essential("service manager", async move { self.keep_notified(stop).await });
    }

    /// A task like all others: it runs only if those can, too.
    async fn keep_notified(self, stop: CancellationToken) -> Result<(), Infallible> {
        let beats = async {
            let Some(patience) = self.patience else { return std::future::pending().await };
            info!(seconds = patience.as_secs_f64(), "the service manager's watchdog is active");
            let mut beat = interval(patience / 2);
            beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                beat.tick().await;
                self.notify("WATCHDOG=1");
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = beats => {}
        }
        self.notify("STOPPING=1\nSTATUS=stopping; volumes stay mounted");
        Ok(())
    }

    fn notify(&self, state: &str) {
        if let Some(Err(error)) = self.socket.as_ref().map(|socket| socket.send(state.as_bytes())) {
            warn!(%error, state, "cannot notify the service manager");
        }
    }
}

/// A path, or the name of an abstract socket after `@`.
fn connect(address: &[u8]) -> io::Result<UnixDatagram> {
    let address = match address.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(std::path::Path::new(std::ffi::OsStr::from_bytes(address)))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    // A service manager that does not read must not block the tasks.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(variables: &[(&str, &str)]) -> ServiceManager {
        let variables: Vec<_> = variables.iter().map(|(name, value)| ((*name).to_owned(), value.into())).collect();
        ServiceManager::find(move |wanted| {
            variables.iter().find(|(name, _)| name == wanted).map(|(_, value): &(_, OsString)| value.clone())
        })
    }

    #[test]
    fn without_a_socket_nothing_is_sent() {
        for variables in [&[][..], &[("NOTIFY_SOCKET", ""), ("WATCHDOG_USEC", "1000")], &[("NOTIFY_SOCKET", "/none")]] {
            let manager = find(variables);
            assert!(manager.socket.is_none() && manager.patience.is_none(), "{variables:?}");
        }
    }

    #[test]
    fn the_watchdog_applies_to_the_process_it_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let _socket = UnixDatagram::bind(&path).unwrap();
        let patience = |pid: &str, micros| {
            find(&[("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", micros), ("WATCHDOG_PID", pid)])
                .patience
        };
        let own = std::process::id().to_string();
        assert_eq!(patience(&own, "30000000"), Some(Duration::from_secs(30)));
        assert_eq!(patience("1", "30000000"), None);
        assert_eq!(patience(&own, "0"), None);
        assert_eq!(patience(&own, "soon"), None);
    }
}
