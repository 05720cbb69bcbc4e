//! The flags that a driver's container was started with.

use k8s_openapi::api::core::v1::Container;

/// Flags and environment of a container.
pub(crate) struct ContainerFlags<'a> {
    words: Vec<String>,
    container: &'a Container,
}

impl<'a> ContainerFlags<'a> {
    pub(crate) fn of(container: &'a Container) -> Self {
        let words = container.command.iter().chain(&container.args).flatten();
        Self { words: words.map(|word| expanded(container, word)).collect(), container }
    }

    /// Whether a word is given.
    pub(crate) fn has(&self, word: &str) -> bool {
        self.words.iter().any(|given| given == word)
    }

    /// The values of a flag with one dash or two, the last one last; those of the environment if there is none.
    pub(crate) fn values(&self, name: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut words = self.words.iter().peekable();
        while let Some(word) = words.next() {
            let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else { continue };
            match flag.split_once('=') {
                Some((given, value)) if given == name => found.push(value.to_owned()),
                None if flag == name => found.extend(words.peek().map(|value| (*value).clone())),
                _ => {}
            }
        }
        found.retain(|value| !value.is_empty());
        if found.is_empty() {
            let variable = format!("SVID_CSI_{}", name.to_uppercase().replace('-', "_"));
            found.extend(variable_of(self.container, &variable).map(str::to_owned));
        }
        found
    }

    /// The value that counts.
    pub(crate) fn value(&self, name: &str) -> Option<String> {
        self.values(name).pop()
    }
}

fn variable_of<'a>(container: &'a Container, name: &str) -> Option<&'a str> {
    let mut variables = container.env.iter().flatten();
    variables.find(|variable| variable.name == name)?.value.as_deref().filter(|value| !value.is_empty())
}

/// A word in which Kubernetes has replaced `$(VARIABLE)`.
fn expanded(container: &Container, word: &str) -> String {
    container
        .env
        .iter()
        .flatten()
        .filter_map(|variable| Some((&variable.name, variable.value.as_ref()?)))
        .fold(word.to_owned(), |word, (name, value)| word.replace(&format!("$({name})"), value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn flags_are_read_as_the_driver_reads_them() {
        let container: Container = serde_json::from_value(json!({
            "name": "driver",
            "command": ["/bin/svid-csi", "driver"],
            "args": ["--data-root=/a", "-data-root", "$(ROOT)/b", "--driver-name=one", "--flag", "--admin-socket="],
            "env": [{"name": "ROOT", "value": "/r"}, {"name": "SVID_CSI_ADMIN_SOCKET", "value": "/s"}],
        }))
        .unwrap();
        let flags = ContainerFlags::of(&container);
        assert_eq!(flags.value("data-root").as_deref(), Some("/r/b"));
        assert_eq!(flags.value("driver-name").as_deref(), Some("one"));
        assert_eq!(flags.value("admin-socket").as_deref(), Some("/s"));
        assert_eq!(flags.value("endpoint"), None);
        assert!(flags.has("driver") && !flags.has("approver"));
    }
}
