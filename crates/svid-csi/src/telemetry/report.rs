//! Errors and times in a form for people.

use std::error::Error;

pub use svid_csi_core::quoted::one_line;
pub use svid_csi_core::unix_time::rfc3339;

/// An error and its causes on one line, without repetitions.
pub fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.ends_with(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        cause = error.source();
    }
    line
}

/// Reports why the process ends: in the log if there is one, otherwise as a line on stderr.
#[expect(clippy::print_stderr, reason = "a command without a log still says why it failed")]
pub fn failure(error: &dyn Error) {
    if tracing::dispatcher::has_been_set() {
        tracing::error!("{}", chain(error));
    } else {
        eprintln!("error: {}", chain(error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        #[source]
        cause: Option<Box<Layer>>,
    }

    fn reported(texts: &[&'static str]) -> String {
        let error = texts.iter().rev().fold(None, |cause, text| Some(Box::new(Layer { text, cause })));
        chain(&*error.expect("at least one text"))
    }

    #[test]
    fn every_cause_is_reported_once() {
        assert_eq!(reported(&["start"]), "start");
        assert_eq!(reported(&["start", "bind /x", "address in use"]), "start: bind /x: address in use");
        assert_eq!(reported(&["start", "bind: address in use", "address in use"]), "start: bind: address in use");
    }
}
