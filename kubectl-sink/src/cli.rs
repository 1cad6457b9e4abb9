//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

const EXAMPLES: &str = "\
Examples:
  kubectl sink create siem --host logs.example.com --ca-secret logs-ca -n shop
  kubectl sink test siem -n shop
  kubectl sink list -A -o wide
  kubectl sink migrate -A | kubectl apply --server-side -f -

Exit status:
  0  success
  1  failure, explained on standard error
  2  usage error
  3  migrate: some sinks could not be converted, or only in part
  4  test: the sink is rejected, or its server cannot be reached";

/// Manages syslog sinks for the logs and events of namespaces.
#[derive(Debug, Parser)]
#[command(
    name = "kubectl-sink",
    bin_name = "kubectl sink",
    version,
    after_help = EXAMPLES,
    disable_help_subcommand = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) access: Access,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The cluster and the namespace.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Access {
    /// The namespace (default: the namespace of the context).
    #[arg(short, long, global = true, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// The context of the kubeconfig (default: the current one).
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// The kubeconfig (default: `$KUBECONFIG` or `~/.kube/config`).
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Creates a sink.
    #[command(after_help = CREATE_EXAMPLES)]
    Create(Box<Create>),
    /// Lists sinks and whether they deliver.
    List(List),
    /// Shows the state of a sink, with advice if it does not deliver.
    Describe(Named),
    /// Deletes sinks. Messages that wait for them on the nodes are lost.
    Delete(Delete),
    /// Tests a sink from a node: name look-up, TCP, TLS, and a message.
    #[command(after_help = TEST_EXAMPLES)]
    Test(Test),
    /// Converts PKS sinks to `LogSink`s.
    #[command(after_help = MIGRATE_EXAMPLES)]
    Migrate(Migrate),
    /// Prints a completion script for a shell or for kubectl.
    #[command(after_help = COMPLETION_EXAMPLES)]
    Completion {
        /// The program to complete for: kubectl, or a shell that runs `kubectl-sink`.
        completer: Completer,
    },
    /// Prints completions of the last word.
    #[command(name = "__complete", hide = true)]
    Complete {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
}

const CREATE_EXAMPLES: &str = "\
Examples:
  kubectl sink create siem --host logs.example.com --ca-file ca.pem --wait 2m
  kubectl sink create siem --server a.example.com --server b.example.com:6515 \\
      --ca-secret logs-ca/ca.crt --client-certificate-secret own
  kubectl sink create audit --cluster --host 10.0.0.7 --transport relp+tls \\
      --exclude-namespace kube-system
  kubectl sink create siem --host logs.example.com --dry-run > siem.yaml";

const TEST_EXAMPLES: &str = "\
Examples:
  kubectl sink test siem -n shop
  kubectl sink test audit --cluster --node node-7
  kubectl sink test siem --local

The test runs in a pod of the controller's image: in the sink's namespace, whose
Secrets it mounts, or in the controller's namespace for a ClusterLogSink. The pod is
deleted afterwards.";

const MIGRATE_EXAMPLES: &str = "\
Examples:
  kubectl sink migrate -A > sinks.yaml
  kubectl sink migrate -f pks-sinks.yaml

Reads LogSink and ClusterLogSink of observability.knative.dev and pksapi.io, and Sink
and ClusterSink of apps.pivotal.io. Changes nothing in the cluster.";

const COMPLETION_EXAMPLES: &str = "\
Examples:
  kubectl sink completion kubectl > kubectl_complete-sink
  chmod +x kubectl_complete-sink   # into a folder of PATH: kubectl runs it
  kubectl sink completion bash > /etc/bash_completion.d/kubectl-sink";

/// The kind of a sink.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Kind {
    /// Use a `ClusterLogSink` instead of a `LogSink`.
    #[arg(long)]
    pub(crate) cluster: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Named {
    /// The name of the sink.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) kind: Kind,
}

#[derive(Args, Debug)]
pub(crate) struct Delete {
    /// The names of the sinks.
    #[arg(value_name = "NAME", required = true)]
    pub(crate) names: Vec<String>,
    #[command(flatten)]
    pub(crate) kind: Kind,
}

#[derive(Args, Debug)]
pub(crate) struct List {
    /// List across all namespaces, including `ClusterLogSink`s.
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,
    #[command(flatten)]
    pub(crate) kind: Kind,
    /// The output format.
    #[arg(short, long, value_enum)]
    pub(crate) output: Option<ListOutput>,
}

/// The format of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListOutput {
    /// With more columns.
    Wide,
    /// The objects in JSON.
    Json,
    /// The objects in YAML.
    Yaml,
    /// Kinds and names only.
    Name,
}

/// The format of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Json,
    Yaml,
}

#[derive(Args, Debug)]
pub(crate) struct Create {
    #[command(flatten)]
    pub(crate) sink: Named,
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[command(flatten)]
    pub(crate) tls: Tls,
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// The maximum size of the queue on each node's disk, such as 512M or 2G.
    #[arg(long, value_name = "SIZE")]
    pub(crate) buffer_limit: Option<String>,
    /// The maximum size of a message in bytes (8000 by default; 1180 for UDP).
    #[arg(long, value_name = "BYTES")]
    pub(crate) max_message_size: Option<u32>,
    /// Wait until the sink delivers, at most for this time, such as 90s or 2m.
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with = "dry_run")]
    pub(crate) wait: Option<std::time::Duration>,
    /// Print the object without creating it.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print the created object in this format.
    #[arg(short, long, value_enum)]
    pub(crate) output: Option<Output>,
}

/// The servers and the transport.
#[derive(Args, Debug)]
#[command(next_help_heading = "Server")]
pub(crate) struct Connection {
    /// The server's name or address.
    #[arg(long, required_unless_present = "servers", conflicts_with = "servers")]
    pub(crate) host: Option<String>,
    /// The server's port (default: the port of the transport).
    #[arg(long, requires = "host")]
    pub(crate) port: Option<u16>,
    /// A server; repeat for several, the preferred one first.
    #[arg(long = "server", value_name = "HOST[:PORT]", value_parser = server)]
    pub(crate) servers: Vec<(String, Option<u16>)>,
    /// Balance messages between the servers: each container's log goes to one of them.
    #[arg(long, conflicts_with = "host")]
    pub(crate) balance: bool,
    /// The transport protocol (default: tls).
    #[arg(long, value_parser = ["tls", "tcp", "udp", "relp", "relp+tls"])]
    pub(crate) transport: Option<String>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "TLS")]
pub(crate) struct Tls {
    /// The Secret with the CA certificate (default key: ca.crt).
    #[arg(long, value_name = "NAME[/KEY]", group = "ca")]
    pub(crate) ca_secret: Option<String>,
    /// The `ConfigMap` with the CA certificate (default key: ca.crt).
    #[arg(long, value_name = "NAME[/KEY]", group = "ca")]
    pub(crate) ca_config_map: Option<String>,
    /// The file with the CA certificate, which is copied into the sink.
    #[arg(long, value_name = "FILE", group = "ca")]
    pub(crate) ca_file: Option<PathBuf>,
    /// The Secret with the client certificate (tls.crt) and its key (tls.key).
    #[arg(long, value_name = "NAME")]
    pub(crate) client_certificate_secret: Option<String>,
    /// The name that the server's certificate must have (default: the host).
    #[arg(long, value_name = "NAME")]
    pub(crate) server_name: Option<String>,
    /// The SHA-256 fingerprint of an accepted server certificate; may be repeated.
    #[arg(long = "pin", value_name = "FINGERPRINT")]
    pub(crate) pins: Vec<String>,
    /// The minimum version of TLS.
    #[arg(long, value_parser = ["1.2", "1.3"])]
    pub(crate) min_tls_version: Option<String>,
    /// Accept any certificate, without verification.
    #[arg(long)]
    pub(crate) insecure_skip_verify: bool,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Selection")]
pub(crate) struct Selection {
    /// Only containers with this name, in which * stands for any characters.
    #[arg(long = "container", value_name = "NAME")]
    pub(crate) containers: Vec<String>,
    /// Exclude containers with this name.
    #[arg(long = "exclude-container", value_name = "NAME")]
    pub(crate) excluded_containers: Vec<String>,
    /// Only pods with this label.
    #[arg(long = "pod-label", value_name = "KEY=VALUE", value_parser = label)]
    pub(crate) pod_labels: Vec<(String, String)>,
    /// Only this output stream of the containers.
    #[arg(long, value_parser = ["stdout", "stderr"])]
    pub(crate) stream: Option<String>,
    /// Send no Kubernetes events.
    #[arg(long)]
    pub(crate) no_events: bool,
    /// Send only events of the type Warning.
    #[arg(long, conflicts_with = "no_events")]
    pub(crate) only_warnings: bool,
    /// Only namespaces with this label.
    #[arg(long = "namespace-label", value_name = "KEY=VALUE", value_parser = label, requires = "cluster")]
    pub(crate) namespace_labels: Vec<(String, String)>,
    /// Exclude this namespace.
    #[arg(long = "exclude-namespace", value_name = "NAME", requires = "cluster")]
    pub(crate) excluded_namespaces: Vec<String>,
    /// Send the agents' own log as well.
    #[arg(long, requires = "cluster")]
    pub(crate) include_agent_logs: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Test {
    #[command(flatten)]
    pub(crate) sink: Named,
    /// The node to test from (default: any).
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<String>,
    /// Test from this machine instead of a node.
    #[arg(long, conflicts_with_all = ["node", "image"])]
    pub(crate) local: bool,
    /// The controller's image (default: the image of its Deployment, if that can be read).
    #[arg(long)]
    pub(crate) image: Option<String>,
    /// The controller's namespace.
    #[arg(long, value_name = "NAME", default_value = "syslog-sink")]
    pub(crate) controller_namespace: String,
    /// The maximum time for the test, such as 90s or 2m.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "90s")]
    pub(crate) timeout: std::time::Duration,
    /// Print the report in this format.
    #[arg(short, long, value_enum)]
    pub(crate) output: Option<Output>,
}

#[derive(Args, Debug)]
pub(crate) struct Migrate {
    /// Convert the sinks of all namespaces and of the cluster.
    #[arg(short = 'A', long, conflicts_with = "file")]
    pub(crate) all_namespaces: bool,
    /// Read a file instead of the cluster; - is standard input.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// The output format.
    #[arg(short, long, value_enum, default_value = "yaml")]
    pub(crate) output: Output,
}

/// A program that completes command lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Completer {
    /// kubectl, whose completion runs `kubectl_complete-sink`.
    Kubectl,
    Bash,
    Zsh,
    Fish,
    Elvish,
    #[value(name = "powershell")]
    PowerShell,
}

impl Completer {
    /// Returns the shell; none for kubectl.
    pub(crate) const fn shell(self) -> Option<Shell> {
        match self {
            Self::Kubectl => None,
            Self::Bash => Some(Shell::Bash),
            Self::Zsh => Some(Shell::Zsh),
            Self::Fish => Some(Shell::Fish),
            Self::Elvish => Some(Shell::Elvish),
            Self::PowerShell => Some(Shell::PowerShell),
        }
    }
}

fn duration(text: &str) -> Result<std::time::Duration, String> {
    let (digits, unit) = match text.strip_suffix('m') {
        Some(minutes) => (minutes, 60),
        None => (text.strip_suffix('s').unwrap_or(text), 1),
    };
    match digits.parse::<u64>() {
        Ok(number @ 1..=86_400) => Ok(std::time::Duration::from_secs(number * unit)),
        _ => Err("expected a number of seconds or minutes, such as 90s or 2m".to_owned()),
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

/// Parses `HOST[:PORT]`. An IPv6 address with a port is in brackets.
fn server(text: &str) -> Result<(String, Option<u16>), String> {
    let is_bare = text.parse::<std::net::Ipv6Addr>().is_ok();
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !is_bare && !text.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port = port.map(str::parse).transpose();
    let port = port.map_err(|_| "expected a port from 1 to 65535".to_owned())?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::time::Duration;

    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// Returns the commands in a text, each on one line.
    fn lines_of(text: &str) -> Vec<String> {
        let text = text.replace("\\\n", " ");
        let lines = text.lines().map(str::trim);
        let lines = lines.filter_map(|line| line.strip_prefix("kubectl sink "));
        let ours = lines.map(|line| line.split(&['|', '>', '#']).next().unwrap_or_default());
        ours.map(str::to_owned).collect()
    }

    #[test]
    fn every_command_in_help_and_docs_is_valid() {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
        let docs = fs::read_dir(docs).unwrap();
        let docs = docs.map(|file| file.unwrap().path());
        let docs = docs.filter(|path| path.extension().is_some_and(|end| end == "md"));
        let docs: String = docs.map(|path| fs::read_to_string(path).unwrap()).collect();
        let help = [
            EXAMPLES,
            CREATE_EXAMPLES,
            TEST_EXAMPLES,
            MIGRATE_EXAMPLES,
            COMPLETION_EXAMPLES,
        ];
        let lines = lines_of(&(docs + &help.join("\n")));
        assert!(lines.len() > 20, "{lines:?}");
        for line in lines {
            let words = std::iter::once("kubectl-sink").chain(line.split_whitespace());
            match Cli::try_parse_from(words) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::DisplayHelp => {}
                Err(error) => panic!("{line}: {error}"),
            }
        }
    }

    #[test]
    fn durations_labels_and_servers_are_read() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for text in ["", "0s", "2h", "-1", "m"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert_eq!(label("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(label("a").is_err() && label("=b").is_err());
        for (text, host, port) in [
            ("logs.example", "logs.example", None),
            ("logs.example:6515", "logs.example", Some(6515)),
            ("::1", "::1", None),
            ("[::1]", "::1", None),
            ("[::1]:514", "::1", Some(514)),
        ] {
            assert_eq!(server(text), Ok((host.to_owned(), port)), "{text}");
        }
        assert!(server("a:b").is_err() && server("a:70000").is_err());
    }
}
