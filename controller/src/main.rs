//! `sink-controller run` runs the controller, `sink-controller plan` prints what that
//! would change, `sink-controller crds` prints the CRDs, and `sink-controller test`
//! tests a sink.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use api::{crds, yaml};
use controller::endpoint::{listen, serve};
use controller::lease::{Candidate, Terms};
use controller::monitor::Monitor;
use controller::preview::preview;
use controller::run::run;
use controller::settings::{LogFormat, Settings};
use controller::sink_test::{NODE, SINK, SinkTest, objects_in, run_test};
use kube::Client;
use lexopt::{Arg, Parser, ValueExt};
use mapper::hostname;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

const HELP: &str = "\
sink-controller: from LogSinks and ClusterLogSinks to the agents of all nodes

usage:
  sink-controller run [--settings FILE]  runs until INT or TERM
  sink-controller plan [--settings FILE] prints what run would change, and how
                                         many agents it would replace; changes
                                         nothing
  sink-controller crds                   prints the CRDs, for kubectl apply
  sink-controller test FOLDER            tests the sink in the environment variable
                                         SINK, and prints a report in JSON; FOLDER
                                         has the Secrets and ConfigMaps that the
                                         sink names. kubectl sink test runs it in
                                         a pod
  sink-controller --help | --version

FILE is YAML; docs/CONTROLLER.md has its keys. RUST_LOG sets the log level
(default: info).
";

type Failure = Box<dyn std::error::Error>;

enum Command {
    Run { settings: Option<PathBuf> },
    Plan { settings: Option<PathBuf> },
    Crds,
    Test { objects: PathBuf },
    Help,
    Version,
}

fn main() -> ExitCode {
    let done = match command(std::env::args_os().skip(1)) {
        Err(error) => {
            eprintln!("sink-controller: {error}\n\n{HELP}");
            return ExitCode::from(2);
        }
        Ok(Command::Run { settings }) => start(settings.as_deref()),
        Ok(Command::Plan { settings }) => plan(settings.as_deref()),
        Ok(Command::Crds) => {
            let documents = crds().map(|crd| format!("---\n{}\n", yaml(&crd)));
            print(&documents.concat())
        }
        Ok(Command::Test { objects }) => test(&objects),
        Ok(Command::Help) => print(&HELP),
        Ok(Command::Version) => print(&concat!(
            "sink-controller ",
            env!("CARGO_PKG_VERSION"),
            "\n"
        )),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sink-controller: {error}");
            ExitCode::FAILURE
        }
    }
}

fn command(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, lexopt::Error> {
    let mut parser = Parser::from_args(arguments);
    let mut command = None;
    while let Some(argument) = parser.next()? {
        match (argument, &mut command) {
            (Arg::Short('h') | Arg::Long("help"), _) => return Ok(Command::Help),
            (Arg::Long("version"), _) => return Ok(Command::Version),
            (Arg::Value(name), None) if name == "run" => {
                command = Some(Command::Run { settings: None });
            }
            (Arg::Value(name), None) if name == "plan" => {
                command = Some(Command::Plan { settings: None });
            }
            (Arg::Value(name), None) if name == "crds" => command = Some(Command::Crds),
            (Arg::Value(name), None) if name == "test" => {
                let objects = parser.value()?.parse()?;
                command = Some(Command::Test { objects });
            }
            (
                Arg::Long("settings"),
                Some(Command::Run { settings } | Command::Plan { settings }),
            ) => {
                *settings = Some(parser.value()?.parse()?);
            }
            (other, _) => return Err(other.unexpected()),
        }
    }
    command.ok_or_else(|| "one of run, plan, crds and test is needed".into())
}

/// `kubectl sink test` reads the report, also that of a failure.
fn test(objects: &Path) -> Result<(), Failure> {
    let variable = |name| std::env::var(name).map_err(|_| format!("the variable {name} is needed"));
    let test: SinkTest = serde_json::from_str(&variable(SINK)?)?;
    let objects = objects_in(objects, &test.namespace)?;
    let report = run_test(&test, objects, &variable(NODE)?)?;
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

/// Writes to stdout, whose reader may have seen enough, as `head` does.
fn print(text: &impl Display) -> Result<(), Failure> {
    match write!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn settings_in(file: Option<&Path>) -> Result<Settings, Failure> {
    let text = match file {
        Some(file) => std::fs::read_to_string(file)
            .map_err(|error| format!("cannot read {}: {error}", file.display()))?,
        None => String::new(),
    };
    Ok(Settings::parse(&text)?)
}

async fn client() -> Result<Client, Failure> {
    let client = Client::try_default().await;
    Ok(client.map_err(|error| format!("there is no API server to talk to: {error}"))?)
}

#[tokio::main]
async fn plan(settings: Option<&Path>) -> Result<(), Failure> {
    let settings = settings_in(settings)?;
    print(&preview(client().await?, &settings).await?)
}

#[tokio::main]
async fn start(settings: Option<&Path>) -> Result<(), Failure> {
    let settings = settings_in(settings)?;
    log_as(settings.log);
    let client = client().await?;
    let listener = listen(settings.listen)
        .await
        .map_err(|error| format!("cannot listen on {}: {error}", settings.listen))?;
    let identity = format!("{}-{}", hostname::own(), std::process::id());
    let candidate = Candidate::new(&client, &settings, &identity, Terms::default());
    let monitor = Arc::new(Monitor::default());
    tokio::select! {
        ended = serve(listener, Arc::clone(&monitor)) => ended?,
        ended = run(client, &settings, candidate, &monitor, stopped()) => ended?,
    }
    Ok(())
}

fn log_as(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter);
    match format {
        LogFormat::Json => log.json().init(),
        LogFormat::Text => log.init(),
    }
}

/// Ready when the process shall end: INT, or TERM as a kubelet sends it.
async fn stopped() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        // It then ends at once, without giving up its Lease.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
