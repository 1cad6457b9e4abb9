//! The command-line arguments.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::{Arg, ValueExt};
use thiserror::Error;

/// The help text, printed for `--help` and after a usage error.
pub(crate) const HELP: &str = "\
Starts Fluent Bit after these checks:
- If the state folder cannot be written to, a warning is logged. Databases of file
  positions that an earlier version has left in it (lane-<n>.db, cluster-<name>.db) are
  removed once they have not changed for a day.
- If no container log can be read, Fluent Bit is not started.
- If HTTP_LISTEN is an IPv6 address and the kernel does not support IPv6, Fluent Bit
  listens on 0.0.0.0 instead.
With --pods, sink-agent continues to run, and keeps the labels of the node's pods in
files.

Usage: sink-agent [OPTION]... -- PROGRAM [ARGUMENT]...
       sink-agent [--state FOLDER] --remove

Options:
    --state FOLDER   The folder of the agents' files, such as the queues. Defaults to
                     the variable STATE_DIR; without either, it is not checked.
    --logs FOLDER    The kubelet's folder of all pods' logs, such as /var/log/pods.
                     Defaults to the variable CONTAINER_LOGS; without either, logs are
                     not checked.
    --pods FOLDER    The folder for the labels of the pods of the node NODE_NAME, as
                     <namespace>_<pod>.meta. They are read from the API server, with
                     the permission to watch pods. Without an API server, PROGRAM runs
                     all the same. Defaults to the variable POD_META_DIR; without
                     either, no files are written.
    --pods-retention SECONDS
                     The time for which the files of deleted pods are kept. Defaults
                     to 600.
    --remove         Remove all files of the agents from the state folder, including
                     queues with undelivered messages, and then the folder. Fails if
                     an agent uses a queue.
    --help           Print this help.
    --version        Print the version.

PROGRAM replaces this process: it receives signals, and its exit code is returned. With
--pods, PROGRAM is a child: TERM, INT, QUIT, HUP and CONT are forwarded to it, and
sink-agent exits with its exit code, or with 128 plus the number of the signal that
ended it.
Exit codes of sink-agent itself: 1 no log can be read, or a file could not be
removed; 2 usage error; 126 PROGRAM cannot be started; 127 PROGRAM not found.
";

/// The default time for which the files of deleted pods are kept: their last lines may still
/// be read.
const RETENTION: Duration = Duration::from_secs(600);

/// The parsed command line.
#[derive(Debug, PartialEq)]
pub(crate) enum Arguments {
    /// Start a program.
    Start(Start),
    /// Remove the agents' files from a state folder.
    Remove(PathBuf),
    Help,
    Version,
}

/// The program to start, and the folders to check first.
#[derive(Debug, PartialEq)]
pub(crate) struct Start {
    pub(crate) state: Option<PathBuf>,
    pub(crate) logs: Option<PathBuf>,
    pub(crate) pods: Option<PathBuf>,
    pub(crate) retention: Duration,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
}

/// The environment variables that are defaults of options. Empty values count as
/// absent.
#[derive(Debug, Default)]
pub(crate) struct Variables {
    /// `STATE_DIR`.
    pub(crate) state: Option<OsString>,
    /// `CONTAINER_LOGS`.
    pub(crate) logs: Option<OsString>,
    /// `POD_META_DIR`.
    pub(crate) pods: Option<OsString>,
}

/// A usage error.
#[derive(Debug, Error)]
pub(crate) enum UsageError {
    #[error(transparent)]
    Option(#[from] lexopt::Error),
    #[error("missing folder: --remove requires --state FOLDER or STATE_DIR")]
    NoState,
    #[error("missing program: expected -- PROGRAM [ARGUMENT]...")]
    NoProgram,
}

impl Arguments {
    /// Parses the command line.
    ///
    /// # Errors
    ///
    /// Returns an error if an option is unknown or incomplete, or if the program or the
    /// folder is missing.
    pub(crate) fn parse(
        mut parser: lexopt::Parser,
        variables: Variables,
    ) -> Result<Self, UsageError> {
        let folder = |value: Option<OsString>| {
            let value = value.filter(|folder| !folder.is_empty());
            value.map(PathBuf::from)
        };
        let (mut state, mut logs) = (folder(variables.state), folder(variables.logs));
        let (mut pods, mut retention) = (folder(variables.pods), RETENTION);
        let mut remove = false;
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("state") => state = Some(parser.value()?.into()),
                Arg::Long("logs") => logs = Some(parser.value()?.into()),
                Arg::Long("pods") => pods = Some(parser.value()?.into()),
                Arg::Long("pods-retention") => {
                    retention = Duration::from_secs(parser.value()?.parse::<u32>()?.into());
                }
                Arg::Long("remove") => remove = true,
                Arg::Long("help") | Arg::Short('h') => return Ok(Self::Help),
                Arg::Long("version") | Arg::Short('V') => return Ok(Self::Version),
                // All arguments after the program are passed to it.
                Arg::Value(program) if !remove => {
                    return Ok(Self::Start(Start {
                        state,
                        logs,
                        pods,
                        retention,
                        program: program.into(),
                        arguments: parser.raw_args()?.collect(),
                    }));
                }
                other => return Err(other.unexpected().into()),
            }
        }
        if remove {
            return state.map(Self::Remove).ok_or(UsageError::NoState);
        }
        Err(UsageError::NoProgram)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str], state: Option<&str>) -> Result<Arguments, UsageError> {
        let variables = Variables {
            state: state.map(OsString::from),
            ..Variables::default()
        };
        Arguments::parse(lexopt::Parser::from_args(words), variables)
    }

    fn start(state: Option<&str>, program: &str, arguments: &[&str]) -> Arguments {
        Arguments::Start(Start {
            state: state.map(PathBuf::from),
            logs: None,
            pods: None,
            retention: Duration::from_secs(600),
            program: program.into(),
            arguments: arguments.iter().map(OsString::from).collect(),
        })
    }

    #[test]
    fn arguments_after_the_program_are_passed_to_it() {
        let words = ["--state", "/s", "--", "fluent-bit", "-e", "x.so", "--help"];
        assert_eq!(
            parse(&words, Some("/other")).unwrap(),
            start(Some("/s"), "fluent-bit", &["-e", "x.so", "--help"])
        );
        assert_eq!(
            parse(&["--", "fluent-bit", "--", "-x"], Some("/v")).unwrap(),
            start(Some("/v"), "fluent-bit", &["--", "-x"])
        );
        assert_eq!(
            parse(&["fluent-bit"], Some("")).unwrap(),
            start(None, "fluent-bit", &[])
        );
        assert_eq!(parse(&["--help"], None).unwrap(), Arguments::Help);
        assert_eq!(
            parse(&["--remove"], Some("/s")).unwrap(),
            Arguments::Remove("/s".into())
        );
    }

    #[test]
    fn the_folder_of_labels_is_an_option_or_a_variable() {
        let start = |words: &[&str]| {
            let variables = Variables {
                pods: Some("/variable".into()),
                ..Variables::default()
            };
            let parser = lexopt::Parser::from_args(words);
            let Arguments::Start(start) = Arguments::parse(parser, variables).unwrap() else {
                panic!("{words:?}");
            };
            (start.pods.unwrap(), start.retention.as_secs())
        };
        assert_eq!(start(&["--", "x"]), ("/variable".into(), 600));
        let words = ["--pods", "/option", "--pods-retention=5", "x"];
        assert_eq!(start(&words), ("/option".into(), 5));
    }

    #[test]
    fn usage_errors_describe_the_problem() {
        for (words, problem) in [
            (&["--state"][..], "missing argument for option '--state'"),
            (&["--stat", "/s", "--", "x"], "invalid option '--stat'"),
            (&["--state", "/s"], "missing program"),
            (&[], "missing program"),
            (&["--remove"], "missing folder"),
            (&["--pods-retention=1h"], "cannot parse argument \"1h\""),
            (&["--remove", "--", "x"], "unexpected argument \"x\""),
        ] {
            let error = parse(words, None).unwrap_err().to_string();
            assert!(error.contains(problem), "{words:?}: {error}");
        }
    }
}
