//! `kubectl sink`: syslog sinks from the command line. kubectl runs it where
//! `kubectl-sink` is in a folder of PATH.
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

use std::io;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::access::Cluster;
use crate::cli::{Cli, Command, Delete};
use crate::failure::Failure;

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
        Command::Create(command) => print!("{}", create::create(&access, &command).await?),
        Command::List(command) => {
            let cluster = Cluster::connect(&access).await?;
            print!("{}", list::list(&cluster, &command).await?);
        }
        Command::Describe(command) => {
            let cluster = Cluster::connect(&access).await?;
            print!("{}", describe::describe(&cluster, &command).await?);
        }
        Command::Delete(command) => delete(&Cluster::connect(&access).await?, &command).await?,
        Command::Test(command) => {
            test::test(&Cluster::connect(&access).await?, &command).await?;
        }
        Command::Migrate(command) => migrate::migrate(&access, &command).await?,
        Command::Completion { completer } => match completer.shell() {
            Some(shell) => {
                let command = &mut Cli::command();
                clap_complete::generate(shell, command, "kubectl-sink", &mut io::stdout());
            }
            None => print!("{}", complete::SCRIPT),
        },
        Command::Complete { words } => print!("{}", complete::complete(&words).await),
    }
    Ok(())
}

/// All that can be; the last that could not is the failure.
async fn delete(cluster: &Cluster, command: &Delete) -> Result<(), Failure> {
    let scope = cluster.scope(command.kind.cluster);
    let mut failure = None;
    for name in &command.names {
        match cluster.delete(&scope, name).await {
            Ok(()) => println!("{} deleted", scope.name(name)),
            Err(error) => {
                if let Some(before) = failure.replace(error) {
                    eprintln!("error: {before}");
                }
            }
        }
    }
    failure.map_or(Ok(()), Err)
}
