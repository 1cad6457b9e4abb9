//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::Arg;
use thiserror::Error;

/// Printed for `--help`, and behind a usage error.
pub(crate) const HELP: &str = "\
Starts Fluent Bit after two checks. A database of positions in files (*.db) that
Fluent Bit cannot use is renamed to <name>.corrupt-<time>. Where no log of a
container can be read, Fluent Bit is not started. Where the variable HTTP_LISTEN is
an address of IPv6 and the kernel has no IPv6, Fluent Bit gets 0.0.0.0 instead.

Usage: sink-agent [--state FOLDER] [--logs FOLDER] -- PROGRAM [ARGUMENT]...
       sink-agent [--state FOLDER] --remove

Options:
    --state FOLDER   The folder with the databases. The variable STATE_DIR by
                     default; nothing is checked where both are absent.
    --logs FOLDER    The folder with the logs of containers, such as
                     /var/log/containers. The variable CONTAINER_LOGS by default;
                     nothing is checked where both are absent.
    --remove         Remove what agents wrote into the state folder, queues with
                     undelivered messages included, and the folder. Fails while an
                     agent uses it.
    --help           Print this help.
    --version        Print the version.

PROGRAM replaces this process, so signals and exit codes are its own.
Exit codes of sink-agent itself: 1 no log can be read, or something was not
removed; 2 usage error; 126 PROGRAM cannot be started; 127 PROGRAM was not found.
";

/// The parsed command line.
#[derive(Debug, PartialEq)]
pub(crate) enum Arguments {
    Start(Start),
    /// Remove the state folder.
    Remove(PathBuf),
    Help,
    Version,
}

/// A program to start, and the folders to check before.
#[derive(Debug, PartialEq)]
pub(crate) struct Start {
    pub(crate) state: Option<PathBuf>,
    pub(crate) logs: Option<PathBuf>,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
}

/// The values of variables that stand for options. Empty ones are absent.
#[derive(Debug, Default)]
pub(crate) struct Variables {
    /// `STATE_DIR`.
    pub(crate) state: Option<OsString>,
    /// `CONTAINER_LOGS`.
    pub(crate) logs: Option<OsString>,
}

/// A usage error.
#[derive(Debug, Error)]
pub(crate) enum UsageError {
    #[error(transparent)]
    Option(#[from] lexopt::Error),
    #[error("missing folder: --remove needs --state FOLDER, or STATE_DIR")]
    NoState,
    #[error("missing program: expected -- PROGRAM [ARGUMENT]...")]
    NoProgram,
}

impl Arguments {
    /// Parses the command line.
    ///
    /// # Errors
    ///
    /// Names the option that is unknown or incomplete, or the missing program.
    pub(crate) fn parse(
        mut parser: lexopt::Parser,
        variables: Variables,
    ) -> Result<Self, UsageError> {
        let folder = |value: Option<OsString>| {
            let value = value.filter(|folder| !folder.is_empty());
            value.map(PathBuf::from)
        };
        let (mut state, mut logs) = (folder(variables.state), folder(variables.logs));
        let mut remove = false;
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("state") => state = Some(parser.value()?.into()),
                Arg::Long("logs") => logs = Some(parser.value()?.into()),
                Arg::Long("remove") => remove = true,
                Arg::Long("help") | Arg::Short('h') => return Ok(Self::Help),
                Arg::Long("version") | Arg::Short('V') => return Ok(Self::Version),
                // The program. All behind it is its own.
                Arg::Value(program) if !remove => {
                    return Ok(Self::Start(Start {
                        state,
                        logs,
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
            logs: None,
        };
        Arguments::parse(lexopt::Parser::from_args(words), variables)
    }

    fn start(state: Option<&str>, program: &str, arguments: &[&str]) -> Arguments {
        Arguments::Start(Start {
            state: state.map(PathBuf::from),
            logs: None,
            program: program.into(),
            arguments: arguments.iter().map(OsString::from).collect(),
        })
    }

    #[test]
    fn arguments_behind_the_program_are_passed_on() {
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
    fn usage_errors_say_what_is_wrong() {
        for (words, problem) in [
            (&["--state"][..], "missing argument for option '--state'"),
            (&["--stat", "/s", "--", "x"], "invalid option '--stat'"),
            (&["--state", "/s"], "missing program"),
            (&[], "missing program"),
            (&["--remove"], "missing folder"),
            (&["--remove", "--", "x"], "unexpected argument \"x\""),
        ] {
            let error = parse(words, None).unwrap_err().to_string();
            assert!(error.contains(problem), "{words:?}: {error}");
        }
    }
}
