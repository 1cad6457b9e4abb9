//! `sink-controller run` runs the controller; `sink-controller crds` prints the
//! CRDs.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use controller::lease::{Candidate, Terms};
use controller::plan::Settings;
use controller::resources::{crds, yaml};
use controller::run::{Pace, run};
use kube::Client;
use out_syslog_sink::hostname;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["crds"] => {
            for crd in crds() {
                println!("---\n{}", yaml(&crd));
            }
            ExitCode::SUCCESS
        }
        ["run", namespace, image] => start(&Settings {
            namespace: (*namespace).to_owned(),
            image: (*image).to_owned(),
            ..Settings::default()
        }),
        _ => {
            eprintln!("usage: sink-controller crds | run NAMESPACE AGENT-IMAGE");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn start(settings: &Settings) -> ExitCode {
    tracing_subscriber::fmt().json().init();
    let client = match Client::try_default().await {
        Ok(client) => client,
        Err(error) => {
            eprintln!("sink-controller: there is no API server to talk to: {error}");
            return ExitCode::FAILURE;
        }
    };
    let identity = format!("{}-{}", hostname::own(), std::process::id());
    let candidate = Candidate::new(
        client.clone(),
        &settings.namespace,
        &identity,
        Terms::default(),
    );
    match run(client, settings, Pace::default(), candidate, stopped()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sink-controller: {error}");
            ExitCode::FAILURE
        }
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
