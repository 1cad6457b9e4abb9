//! Scrapes the agents' metrics, a bounded number at a time.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::delivery::{Observations, parse};
use crate::fleet::Agent;
use crate::monitor::Monitor;
use crate::settings::Settings;
use crate::watch::Watched;

/// The number of agents scraped in an interval: the metrics of an agent with 500 sinks are
/// larger than half a megabyte.
const EACH_INTERVAL: usize = 100;
/// The maximum number of concurrent scrapes.
const MAX_CONCURRENT: usize = 16;
/// The timeout of a scrape.
const PATIENCE: Duration = Duration::from_secs(5);
/// The maximum size of an agent's metrics in bytes.
const LARGEST: usize = 64 * 1024 * 1024;

type Http = Client<HttpConnector, Empty<&'static [u8]>>;

/// Scrapes all agents in turn, for as long as it is polled.
pub async fn scrape(
    watched: &Watched,
    settings: &Settings,
    observations: &Mutex<Observations>,
    monitor: &Monitor,
) {
    let http: Http = Client::builder(TokioExecutor::new()).build_http();
    loop {
        let agents = watched.agents();
        let pods: BTreeSet<&str> = agents.iter().map(|agent| agent.pod.as_str()).collect();
        observations.lock().retain(|pod| pods.contains(pod));
        for group in agents.chunks(EACH_INTERVAL) {
            let next = Instant::now() + settings.timing.scrape_interval;
            let asked = group
                .iter()
                .map(|agent| one(&http, agent, settings, observations, monitor));
            let asked: Vec<_> = asked.collect();
            futures::stream::iter(asked)
                .buffer_unordered(MAX_CONCURRENT)
                .collect::<()>()
                .await;
            sleep_until(next).await;
        }
        if agents.is_empty() {
            sleep(settings.timing.scrape_interval).await;
        }
    }
}

async fn one(
    http: &Http,
    agent: &Agent,
    settings: &Settings,
    observations: &Mutex<Observations>,
    monitor: &Monitor,
) {
    let Some(address) = &agent.address else {
        return;
    };
    let asked = timeout(PATIENCE, ask(http, address, settings.agent.metrics_port)).await;
    let is_answered = match asked.unwrap_or_else(|late| Err(late.into())) {
        Ok(text) => {
            let answer = parse(&text);
            observations.lock().take(&agent.pod, &agent.node, &answer);
            true
        }
        // It may have just begun, or be about to end.
        Err(error) => {
            tracing::debug!(node = agent.node, error, "cannot read an agent's metrics");
            observations.lock().forget(&agent.pod);
            false
        }
    };
    monitor.scraped(is_answered);
}

async fn ask(
    http: &Http,
    address: &str,
    port: u16,
) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let host = if address.contains(':') {
        format!("[{address}]")
    } else {
        address.to_owned()
    };
    let uri = format!("http://{host}:{port}/api/v2/metrics/prometheus").parse()?;
    let answer = http.get(uri).await?;
    if !answer.status().is_success() {
        return Err(format!("it answered with {}", answer.status()).into());
    }
    let body = Limited::new(answer.into_body(), LARGEST).collect().await?;
    Ok(String::from_utf8(body.to_bytes().into())?)
}
