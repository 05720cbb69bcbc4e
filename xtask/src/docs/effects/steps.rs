//! The lines of a trace as sentences.

/// One line of a trace.
struct Line<'a> {
    class: &'a str,
    path: &'a str,
    rest: &'a str,
}

impl<'a> Line<'a> {
    /// `None` for a call that failed, because it changed nothing.
    fn read(line: &'a str) -> Option<Self> {
        let (class, rest) = line.split_once(' ')?;
        let (path, rest) = rest.trim_start().split_once(' ').unwrap_or((rest.trim_start(), ""));
        (!line.contains(" = E")).then_some(Line { class, path, rest })
    }

    fn name(&self) -> &'a str {
        self.path.rsplit('/').next().unwrap_or(self.path)
    }

    /// The sentence, with `{}` for the name of the file where there may be several in a row.
    fn sentence(&self) -> String {
        self.of_node().or_else(|| self.of_folder()).map_or_else(|| self.raw(), str::to_owned)
    }

    /// Effects outside of the volume's folder.
    fn of_node(&self) -> Option<&'static str> {
        let is_record = self.path.starts_with("<records>/");
        Some(match (self.class, self.path) {
            ("create" | "write" | "rename", _) if is_record => {
                "Write the volume's record, and replace the former one in one step."
            }
            ("unlink", _) if is_record => "Remove the record.",
            ("create" | "write" | "rename", path) if path.starts_with("<data>/kept/") => {
                "Store the response for the pod's socket, for the next startup."
            }
            ("unlink", path) if path.starts_with("<data>/kept/") => "Remove the stored response.",
            ("create" | "write" | "rename", path) if path.starts_with("<data>/passwords/") => "Store the password.",
            ("unlink", path) if path.starts_with("<data>/passwords/") => "Remove the password.",
            ("create" | "write" | "rename", _) if self.is_next_to_its_target() => {
                "Write {}, and replace the former one in one step."
            }
            ("sync", _) => "Flush {} to disk.",
            ("mkdir", "<target>") => "Create the target.",
            ("rmdir", "<target>") => "Remove the target.",
            ("clone-mount", "<target>") => "Clone the mount at the target.",
            ("clone-mount", path) if path.starts_with("<data>/agent") => {
                "Clone a mount of the directory with the agent's sockets."
            }
            ("clone-mount", path) if path.starts_with("<data>/read-only") => {
                "Clone a read-only mount of the volume's folder."
            }
            ("move-mount", "<target>") => "**Mount the clone at the target.**",
            ("umount", "<target>") => "**Unmount the target.**",
            _ => return None,
        })
    }

    /// Effects in the volume's folder.
    fn of_folder(&self) -> Option<&'static str> {
        let below = self.path.strip_prefix("<data>/volumes/<volume>")?;
        let is_old = self.class == "seal" && self.rest == "off";
        Some(match (self.class, below.strip_prefix('/').unwrap_or(below)) {
            ("mkdir", "") => "Create the volume's folder.",
            ("rmdir", "") => "Remove the volume's folder.",
            ("chmod" | "chown", "") => "Set the mode of the volume's folder.",
            ("seal", "") if is_old => "Unseal the volume's folder.",
            ("seal", "") => "Seal the volume's folder.",
            ("mount" | "umount" | "move-mount", "") => return None,
            ("rename", "..data_tmp") => "**Point `..data` at the new files: from now on, the pod reads these.**",
            ("symlink" | "unlink", "..data_tmp") => return Some(""),
            ("unlink", "..data") => "**Remove `..data`: from now on, the pod reads no files.**",
            ("unlink" | "rmdir", path) if path.starts_with("..<moment") => "Remove the former files and their folder.",
            ("seal", path) if path.starts_with("..<moment") && is_old => "Remove the former files and their folder.",
            ("mkdir", path) if path.starts_with("..<moment") => "Create a folder `..<moment>`.",
            ("seal", path) if path.starts_with("..<moment") && !path.contains('/') => "Seal that folder.",
            ("create" | "write" | "chmod" | "chown" | "seal", path) if path.starts_with("..<moment") => {
                "Write and seal {} in it."
            }
            ("bind" | "chmod", "..next") => "Bind a socket beside the others.",
            ("link", "..next") => return Some(""),
            ("rename", "..link") => "**Give it the name {}: from now on, the pod can connect.**",
            ("unlink", "..next" | "..link") => return Some(""),
            ("symlink", _) => "Link {} to the file of that name behind `..data`.",
            ("unlink", _) => "Remove {}.",
            _ => return None,
        })
    }

    fn raw(&self) -> String {
        let rest = if self.rest.is_empty() { String::new() } else { format!(" {}", self.rest) };
        match self.class {
            "request" => format!("Send `{} {}` to the API server.", self.rest, self.path),
            class => format!("`{class} {}{rest}`", self.path),
        }
    }

    /// Whether it is `.name.new`, which is about to be renamed.
    fn is_next_to_its_target(&self) -> bool {
        self.name().starts_with('.') && self.name().ends_with(".new")
    }

    /// The name that a sentence has in place of `{}`: of what is renamed, the new one.
    fn named(&self) -> &'a str {
        match self.class {
            "rename" => self.rest.rsplit('/').next().unwrap_or_default(),
            _ if self.is_next_to_its_target() => self.name().trim_start_matches('.').trim_end_matches(".new"),
            _ => self.name(),
        }
    }
}

/// The sentences of a trace. Equal ones in a row become one.
pub fn steps(trace: &str) -> Vec<String> {
    // Which of several folders it is does not matter here.
    let trace = (1..10).fold(trace.to_owned(), |trace, n| trace.replace(&format!("<moment {n}>"), "<moment>"));
    let mut steps: Vec<(String, Vec<&str>)> = Vec::new();
    for line in trace.lines().filter_map(Line::read) {
        let sentence = line.sentence();
        if sentence.is_empty() {
            continue;
        }
        match steps.last_mut() {
            Some((last, names)) if *last == sentence => {
                if !names.contains(&line.named()) {
                    names.push(line.named());
                }
            }
            _ => steps.push((sentence, vec![line.named()])),
        }
    }
    steps.into_iter().map(|(sentence, names)| with_names(&sentence, &names)).collect()
}

fn with_names(sentence: &str, names: &[&str]) -> String {
    let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    let listed = match names.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} and {last}", others.join(", ")),
        _ => names.concat(),
    };
    sentence.replace("{}", &listed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_in_a_row_that_do_one_thing_are_one_step() {
        let trace = "\
create      <records>/.<volume>.json.new
write       <records>/.<volume>.json.new
rename      <records>/.<volume>.json.new -> <records>/<volume>.json
unlink      <data>/volumes/<volume>/tls.crt = ENOENT
symlink     <data>/volumes/<volume>/tls.crt -> ..data/tls.crt
unlink      <data>/volumes/<volume>/tls.key = ENOENT
symlink     <data>/volumes/<volume>/tls.key -> ..data/tls.key
unlink      <data>/volumes/<volume>/..link = ENOENT
link        <data>/volumes/<volume>/..next -> <data>/volumes/<volume>/..link
rename      <data>/volumes/<volume>/..link -> <data>/volumes/<volume>/agent.sock
create      <data>/volumes/<volume>/..<moment 1>/tls.crt
seal        <data>/volumes/<volume>/..<moment 1>/tls.crt on
create      <data>/ca/.ca.key.new
rename      <data>/ca/.ca.key.new -> <data>/ca/ca.key
sync        <data>/ca/ca.key
sync        <data>/ca
request     /apis/cert-manager.io/v1/namespaces/shop/certificaterequests POST
mount       <data> remount
";
        let expected = [
            "Write the volume's record, and replace the former one in one step.",
            "Link `tls.crt` and `tls.key` to the file of that name behind `..data`.",
            "**Give it the name `agent.sock`: from now on, the pod can connect.**",
            "Write and seal `tls.crt` in it.",
            "Write `ca.key`, and replace the former one in one step.",
            "Flush `ca.key` and `ca` to disk.",
            "Send `POST /apis/cert-manager.io/v1/namespaces/shop/certificaterequests` to the API server.",
            "`mount <data> remount`",
        ];
        assert_eq!(steps(trace), expected);
    }
}
