//! `svid-csi page`: the status page of this node with the findings about it, as an HTML file.

use std::io;
use std::path::PathBuf;

use svid_csi_core::findings::Report;
use svid_csi_core::findings::facts::NoDriver;

use super::gather;
use crate::host::fsx::{self, FsError};
use crate::node::admin::page;

/// What the page is made from, and where it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageOptions {
    /// The driver's admin socket.
    pub socket: PathBuf,
    /// The file; stdout without one.
    pub output: Option<PathBuf>,
    /// A kubeconfig in place of the driver's own access to the API server.
    pub kubeconfig: Option<PathBuf>,
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// The driver does not answer.
    #[error("{0}")]
    Driver(String),
    /// It cannot be printed.
    #[error("cannot write to stdout")]
    Print(#[from] io::Error),
    /// It cannot be saved.
    #[error(transparent)]
    Save(#[from] FsError),
}

/// Examines the node, and writes the page.
///
/// # Errors
/// [`PageError`].
pub async fn run(options: PageOptions) -> Result<(), PageError> {
    let (facts, paths) = gather::of_driver(&options.socket).await;
    if let Err(NoDriver::Unreachable(why) | NoDriver::OtherVersion(why)) = facts.driver {
        return Err(PageError::Driver(why));
    }
    let facts = gather::look_around(facts, &paths, &options.socket, options.kubeconfig).await;
    let Ok(driver) = &facts.driver else { return Ok(()) };
    let html = page::html(driver, Some(&Report::of(&facts)), facts.now);
    match options.output {
        Some(path) => fsx::write_atomic(&path, html.as_bytes(), 0o600)?,
        None => _ = super::write(&html)?,
    }
    Ok(())
}
