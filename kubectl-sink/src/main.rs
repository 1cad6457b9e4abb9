//! `kubectl sink`: syslog sinks from the command line. kubectl runs the program
//! `kubectl-sink` in a folder of PATH.
#![forbid(unsafe_code)]

mod access;
mod cli;
mod complete;
mod create;
mod describe;
mod failure;
mod list;
mod manifest;
mod migrate;
mod output;
mod test;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::access::Cluster;
use crate::cli::{Cli, Command, Delete};
use crate::failure::Failure;
use crate::output::print;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match Box::pin(run(Cli::parse())).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            failure.exit_code()
        }
    }
}

async fn run(Cli { access, command }: Cli) -> Result<(), Failure> {
    match command {
        Command::Create(command) => print(&create::create(&access, &command).await?)?,
        Command::List(command) => {
            let cluster = Cluster::connect(&access).await?;
            print(&list::list(&cluster, &command).await?)?;
        }
        Command::Describe(command) => {
            let cluster = Cluster::connect(&access).await?;
            print(&describe::describe(&cluster, &command).await?)?;
        }
        Command::Delete(command) => delete(&Cluster::connect(&access).await?, &command).await?,
        Command::Test(command) => {
            test::test(&Cluster::connect(&access).await?, &command).await?;
        }
        Command::Migrate(command) => migrate::migrate(&access, &command).await?,
        Command::Completion { completer } => match completer.shell() {
            Some(shell) => {
                let command = &mut Cli::command();
                let mut script = Vec::new();
                clap_complete::generate(shell, command, "kubectl-sink", &mut script);
                print(&String::from_utf8_lossy(&script))?;
            }
            None => print(complete::SCRIPT)?,
        },
        Command::Complete { words } => print(&complete::complete(&words).await)?,
    }
    Ok(())
}

/// Deletes all sinks that can be deleted. The last failure is returned, others are
/// printed.
async fn delete(cluster: &Cluster, command: &Delete) -> Result<(), Failure> {
    let scope = cluster.scope(command.kind.cluster);
    let mut failure = None;
    for name in &command.names {
        match cluster.delete(&scope, name).await {
            Ok(()) => print(&format!("{} deleted\n", scope.name(name)))?,
            Err(error) => {
                if let Some(before) = failure.replace(error) {
                    eprintln!("error: {before}");
                }
            }
        }
    }
    failure.map_or(Ok(()), Err)
}
