//! What could be the last of some words: `kubectl_complete-sink` asks this.

use clap::{Arg, Command, CommandFactory};

use crate::access::{Cluster, Scope};
use crate::cli::{Access, Cli};

/// Commands whose arguments are names of sinks.
const OF_SINKS: [&str; 3] = ["describe", "delete", "test"];

/// What kubectl runs: it stands in a folder of PATH.
pub(crate) const SCRIPT: &str = "\
#!/bin/sh
# kubectl asks this program what could be the last word of `kubectl sink ...`.
exec kubectl-sink __complete -- \"$@\"
";
/// Nothing else is to be offered (files): cobra's `ShellCompDirectiveNoFileComp`.
const NO_FILES: &str = ":4";

/// The answer is what is printed: an offer a line, and how to take them.
pub(crate) async fn complete(words: &[String]) -> String {
    let (last, before) = words
        .split_last()
        .map_or(("", words), |(last, before)| (last.as_str(), before));
    let mut offers = offers(last, before);
    if offers.is_empty() && !last.starts_with('-') {
        offers = names(before).await.unwrap_or_default();
    }
    offers.retain(|offer| offer.starts_with(last));
    offers.push(NO_FILES.to_owned());
    offers.join("\n") + "\n"
}

/// What the command line's own words are there.
fn offers(last: &str, before: &[String]) -> Vec<String> {
    let mut root = Cli::command();
    root.build();
    let command = command(&root, before);
    if last.starts_with('-') {
        let flags = command.get_arguments().filter(|flag| !flag.is_hide_set());
        let flags = flags.filter_map(|flag| flag.get_long());
        return flags.map(|flag| format!("--{flag}")).collect();
    }
    let flag = before.last().and_then(|word| word.strip_prefix("--"));
    let values = flag.and_then(|flag| {
        let mut flags = command.get_arguments();
        flags.find(|argument| argument.get_long() == Some(flag))
    });
    if let Some(flag) = values.filter(|flag| flag.get_action().takes_values()) {
        let values = flag.get_possible_values();
        return values
            .iter()
            .map(|value| value.get_name().to_owned())
            .collect();
    }
    let commands = command.get_subcommands().filter(|c| !c.is_hide_set());
    let commands = commands.map(|command| command.get_name().to_owned());
    let values = command.get_positionals().flat_map(Arg::get_possible_values);
    let values = values.map(|value| value.get_name().to_owned());
    commands.chain(values).collect()
}

/// The subcommand that these words are of.
fn command<'c>(root: &'c Command, words: &[String]) -> &'c Command {
    let found = words.iter().find_map(|word| root.find_subcommand(word));
    found.unwrap_or(root)
}

/// The names of the sinks that are meant, if the cluster says them.
async fn names(words: &[String]) -> Option<Vec<String>> {
    let has = |word: &str| words.iter().any(|other| other == word);
    if !OF_SINKS.iter().any(|command| has(command)) {
        return None;
    }
    let value = |names: &[&str]| {
        let place = words.iter().position(|word| names.contains(&word.as_str()));
        words.get(place? + 1).cloned()
    };
    let access = Access {
        namespace: value(&["-n", "--namespace"]),
        context: value(&["--context"]),
        kubeconfig: value(&["--kubeconfig"]).map(Into::into),
    };
    let cluster = Cluster::connect(&access).await.ok()?;
    let scope = if has("--cluster") {
        Scope::Cluster
    } else {
        cluster.scope(false)
    };
    let sinks = cluster.list(&scope).await.ok()?;
    Some(sinks.iter().map(|sink| sink.name().to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(line: &str) -> Vec<String> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let (last, before) = words.split_last().unwrap();
        let mut found = offers(last, before);
        found.retain(|offer| offer.starts_with(last.as_str()));
        found
    }

    #[test]
    fn commands_flags_and_values_are_offered() {
        assert_eq!(offered("de"), ["describe", "delete"]);
        assert_eq!(offered("create siem --ho"), ["--host"]);
        let transports = ["tls", "tcp", "udp", "relp", "relp+tls"];
        assert_eq!(offered("create siem --transport "), transports);
        assert_eq!(offered("list --output w"), ["wide"]);
        assert!(offered("").contains(&"migrate".to_owned()));
        assert!(!offered("").contains(&"__complete".to_owned()));
        assert!(offered("completion ").contains(&"kubectl".to_owned()));
        assert!(offered("create siem --host ").is_empty());
        assert!(offered("describe ").is_empty());
    }
}
