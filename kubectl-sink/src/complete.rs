//! Completion of command lines, for `kubectl_complete-sink`.

use std::iter;

use clap::builder::PossibleValue;
use clap::{Arg, Command, CommandFactory, FromArgMatches, ValueHint};

use crate::access::Cluster;
use crate::cli::{Access, Cli};

/// Commands that take names of sinks.
const OF_SINKS: [&str; 3] = ["describe", "delete", "test"];

/// The program `kubectl_complete-sink`, which kubectl runs from a folder of PATH.
pub(crate) const SCRIPT: &str = "\
#!/bin/sh
# kubectl runs this program to complete the last word of `kubectl sink ...`.
exec kubectl-sink __complete -- \"$@\"
";
/// Directives for kubectl's library (cobra): complete file names if there are no
/// completions, or nothing (`ShellCompDirectiveNoFileComp`).
const FILES: &str = ":0";
const NO_FILES: &str = ":4";

/// Returns the completions, one a line, and the directive.
pub(crate) async fn complete(words: &[String]) -> String {
    let (last, before) = words
        .split_last()
        .map_or(("", words), |(last, before)| (last.as_str(), before));
    let mut root = Cli::command();
    root.build();
    let command = command(&root, before);
    let flag = before.last().and_then(|word| flag(command, word));
    let is_path = flag.is_some_and(|flag| flag.get_value_hint() == ValueHint::AnyPath);
    let mut offers = offers(command, flag, last);
    if offers.is_empty() && flag.is_none() && !last.starts_with('-') {
        offers = names(before).await.unwrap_or_default();
    }
    offers.retain(|offer| offer.starts_with(last));
    offers.push(if is_path { FILES } else { NO_FILES }.to_owned());
    offers.join("\n") + "\n"
}

/// Returns the flag that a word names, if a value follows it.
fn flag<'c>(command: &'c Command, word: &str) -> Option<&'c Arg> {
    let mut flags = command.get_arguments();
    let matches = |flag: &&Arg| {
        let long = flag.get_long().map(|long| format!("--{long}"));
        let short = flag.get_short().map(|short| format!("-{short}"));
        [long, short].contains(&Some(word.to_owned()))
    };
    let found = flags.find(matches);
    found.filter(|flag| flag.get_action().takes_values())
}

/// Returns the completions that need no cluster.
fn offers(command: &Command, flag: Option<&Arg>, last: &str) -> Vec<String> {
    let names = |values: Vec<PossibleValue>| -> Vec<String> {
        let values = values.iter();
        values.map(|value| value.get_name().to_owned()).collect()
    };
    if let Some(flag) = flag {
        return names(flag.get_possible_values());
    }
    if last.starts_with('-') {
        let flags = command.get_arguments().filter(|flag| !flag.is_hide_set());
        let flags = flags.filter_map(|flag| flag.get_long());
        return flags.map(|flag| format!("--{flag}")).collect();
    }
    let commands = command.get_subcommands().filter(|c| !c.is_hide_set());
    let commands = commands.map(|command| command.get_name().to_owned());
    let values = command.get_positionals().flat_map(Arg::get_possible_values);
    commands.chain(names(values.collect())).collect()
}

/// Returns the subcommand of a command line.
fn command<'c>(root: &'c Command, words: &[String]) -> &'c Command {
    let found = words.iter().find_map(|word| root.find_subcommand(word));
    found.unwrap_or(root)
}

/// Returns the names of the sinks in the cluster, if it can be reached.
async fn names(words: &[String]) -> Option<Vec<String>> {
    // An unfinished command line is never valid.
    let command = Cli::command().ignore_errors(true);
    let words = iter::once("kubectl-sink").chain(words.iter().map(String::as_str));
    let matches = command.try_get_matches_from(words).ok()?;
    let (name, of_command) = matches.subcommand()?;
    if !OF_SINKS.contains(&name) {
        return None;
    }
    let access = Access::from_arg_matches(&matches).ok()?;
    let cluster = Cluster::connect(&access).await.ok()?;
    let scope = cluster.scope(of_command.get_flag("cluster"));
    let sinks = cluster.list(&scope).await.ok()?;
    Some(sinks.iter().map(|sink| sink.name().to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the completions without the directive.
    fn offered(line: &str) -> Vec<String> {
        let mut lines = completions(line);
        lines.pop();
        lines
    }

    fn completions(line: &str) -> Vec<String> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let answer = runtime.unwrap().block_on(complete(&words));
        answer.lines().map(str::to_owned).collect()
    }

    #[test]
    fn commands_flags_and_values_are_offered() {
        assert_eq!(offered("de"), ["describe", "delete"]);
        assert_eq!(offered("create siem --ho"), ["--host"]);
        let transports = ["tls", "tcp", "udp", "relp", "relp+tls"];
        assert_eq!(offered("create siem --transport "), transports);
        assert_eq!(offered("list --output w"), ["wide"]);
        assert_eq!(offered("list -o j"), ["json"]);
        assert!(offered("").contains(&"migrate".to_owned()));
        assert!(!offered("").contains(&"__complete".to_owned()));
        assert!(offered("completion ").contains(&"kubectl".to_owned()));
        assert!(offered("create siem --host ").is_empty());
        assert_eq!(completions("create siem --ca-file "), [FILES]);
        assert_eq!(completions("create siem --server-name "), [NO_FILES]);
    }
}
