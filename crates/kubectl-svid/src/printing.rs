//! Output for people: it may be narrow, without colours, or have no reader any more.

use std::io::{self, ErrorKind, IsTerminal, Write};

use anyhow::{Context, Result};
use svid_csi_core::quoted::one_line;
use terminal_size::{Width, terminal_size_of};

/// Where output of a command in a container goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// Prints text that is safe to print. A reader that has gone, such as `head`, has read what it wanted.
pub(crate) fn write(text: &str) -> Result<()> {
    unless_closed(&mut io::stdout().lock(), text.as_bytes()).context("cannot write to stdout")
}

/// Prints output of a command in a container. It has lines, and nothing else that a terminal obeys.
pub(crate) fn foreign(stream: Stream, bytes: &[u8]) -> io::Result<()> {
    let safe = harmless(bytes);
    match stream {
        Stream::Stdout => unless_closed(&mut io::stdout().lock(), &safe),
        Stream::Stderr => unless_closed(&mut io::stderr().lock(), &safe),
    }
}

/// Reports why the command fails.
pub(crate) fn failure(error: &anyhow::Error) {
    note(&format!("error: {error:#}"));
}

/// A line beside the output, which may be for a program.
pub(crate) fn note(text: &str) {
    let _ = unless_closed(&mut io::stderr().lock(), (one_line(text) + "\n").as_bytes());
}

fn unless_closed(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    match to.write_all(bytes).and_then(|()| to.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

fn harmless(bytes: &[u8]) -> Vec<u8> {
    let mut safe = Vec::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'\n' | b'\t' | b' '..=b'~' => safe.push(*byte),
            byte => safe.extend(byte.escape_ascii()),
        }
    }
    safe
}

/// How many characters a line may have, if that is known.
pub(crate) fn width() -> Option<usize> {
    let given = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    given.or_else(|| terminal_size_of(io::stdout()).map(|(Width(columns), _)| columns.into()))
}

/// Whether colours are wanted.
pub(crate) fn is_coloured() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_of_others_cannot_move_the_cursor() {
        assert_eq!(harmless(b"a\tb\n\x1b[2J\r\xc3\xbc"), b"a\tb\n\\x1b[2J\\r\\xc3\\xbc");
    }
}
