//! A test of a sink from where it runs: `sink-controller test`, which `kubectl sink
//! test` starts in a pod.
//!
//! The sink is checked as it is for an agent, each step to each of its servers is taken
//! and explained, and a message is delivered as the plugin delivers.
//!
//! The test uses the production code: the plan checks the sink, the plugin's parser parses its
//! options, the sender's TLS connects, and the message goes through a
//! `transport::Destination`. Only the explanation of each step (`transport::connection_test`)
//! is separate code, because a sink that delivers does not need to describe a certificate
//! chain.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use api::{EventFormat, LogSinkSpec};
use kube::Client;
use mapper::config::Config;
use mapper::hostname;
use mapper::notice::push_notice;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use syslog::{Batch, Framing, Outcome};
use transport::connection_test::{Finding, Step, test_connection};
use transport::{DeliveryEvent, Endpoint, Error, Observer, Sender, Target, Transport};

use crate::events::EventOutput;
use crate::names::MANAGER;
use crate::plan::{Scope, check, explanation, field_of};
pub use crate::references::ObjectNames;
use crate::references::{Objects, References};
use crate::settings::Settings;
use crate::snapshot::{Data, Lookup, ObjectName, Snapshot};

/// The timeout for closing a connection.
const EXIT: Duration = Duration::from_secs(2);
/// The folder with the Secrets that a sink refers to, one subfolder for each.
pub const SECRETS: &str = "secrets";
/// The folder with the `ConfigMap`s, like [`SECRETS`].
pub const CONFIG_MAPS: &str = "configmaps";
/// The environment variable with the [`SinkTest`] in JSON.
pub const SINK: &str = "SINK";
/// The environment variable with the name of the node.
pub const NODE: &str = "NODE";

/// A sink to be tested.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct SinkTest {
    /// The sink's name.
    pub sink: String,
    /// The namespace of the objects that it refers to.
    pub namespace: String,
    /// The spec of the sink.
    pub spec: LogSinkSpec,
}

impl SinkTest {
    /// Returns the names of the objects that the sink refers to.
    #[must_use]
    pub fn names(&self) -> ObjectNames {
        let mut names = ObjectNames::default();
        names.add(&self.spec, &self.namespace);
        names
    }
}

/// The result of a test.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct TestReport {
    /// The sink's name.
    pub sink: String,
    /// The node or machine where the test ran.
    pub from: String,
    /// Whether every server accepted a message.
    pub passed: bool,
    /// Why the sink is refused; then no server is tested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// The results, server by server.
    #[serde(default)]
    pub servers: Vec<ServerReport>,
}

/// The result for one server.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ServerReport {
    /// The server's host and port.
    pub server: String,
    /// The steps taken. Only the last one can have failed.
    pub steps: Vec<TestStep>,
}

/// A step of the test of a server.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct TestStep {
    /// `name`, `connect`, `tls` or `message`.
    pub name: String,
    /// Whether it succeeded.
    pub passed: bool,
    /// The finding, or the reason of the failure.
    pub text: String,
    /// Details, one line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
    /// Advice, if there is any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Reads the objects that a sink refers to from the API server.
pub async fn objects(client: &Client, test: &SinkTest) -> Objects {
    let mut references = References::default();
    let names = test.names();
    references.look_up(client, names, Duration::ZERO).await
}

/// Reads the objects that a sink refers to from a folder into which a kubelet mounted them:
/// [`SECRETS`] and [`CONFIG_MAPS`].
///
/// # Errors
///
/// Returns an error if a file cannot be read.
pub fn objects_in(folder: &Path, namespace: &str) -> io::Result<Objects> {
    let secrets = objects_of(&folder.join(SECRETS), namespace)?;
    Ok((secrets, objects_of(&folder.join(CONFIG_MAPS), namespace)?))
}

fn objects_of(folder: &Path, namespace: &str) -> io::Result<BTreeMap<ObjectName, Lookup>> {
    let mut objects = BTreeMap::new();
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(objects);
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let data = data(&entry.path())?;
        // A kubelet makes an empty folder of what does not exist.
        let found = if data.is_empty() {
            Lookup::Missing
        } else {
            Lookup::Found(data)
        };
        objects.insert(ObjectName::new(namespace, &name), found);
    }
    Ok(objects)
}

fn data(folder: &Path) -> io::Result<Data> {
    let mut data = Data::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // The kubelet's own begin with two dots.
        if !name.starts_with("..") && path.is_file() {
            data.insert(name.into_owned(), fs::read(&path)?);
        }
    }
    Ok(data)
}

/// Runs a test. It blocks, for a few times the sink's timeouts at most.
///
/// # Errors
///
/// Returns an error if the event loop's thread cannot be started.
pub fn run_test(test: &SinkTest, objects: Objects, from: &str) -> io::Result<TestReport> {
    let mut report = TestReport {
        sink: test.sink.clone(),
        from: from.to_owned(),
        passed: false,
        refused: None,
        servers: Vec::new(),
    };
    let config = match config(test, objects) {
        Ok(config) => config,
        Err(why) => {
            report.refused = Some(why);
            return Ok(report);
        }
    };
    let sender = Sender::start()?;
    let text = format!("test message for the sink {} from {from}", test.sink);
    for target in &config.targets {
        for server in &target.servers {
            let steps = steps(target, server, config.framing, &sender, &text);
            report.servers.push(ServerReport {
                server: server.to_string(),
                steps,
            });
        }
    }
    let mut steps = report.servers.iter().flat_map(|server| &server.steps);
    report.passed = steps.all(|step| step.passed);
    Ok(report)
}

/// Returns the plugin's configuration of the sink, or the reason why there is none.
fn config(test: &SinkTest, objects: Objects) -> Result<Config, String> {
    let (secrets, config_maps) = objects;
    let snapshot = Snapshot {
        secrets,
        config_maps,
        ..Snapshot::default()
    };
    let settings = Settings::default();
    let scope = Scope::Namespace(&test.namespace);
    let accepted = check(&test.spec, scope, None, &snapshot, &settings);
    let accepted = accepted.map_err(|refusal| format!("{}: {refusal}", refusal.reason))?;
    let output = EventOutput {
        keys: accepted.keys,
        files: accepted.files,
        format: EventFormat::Text,
    };
    Config::parse(&output).map_err(|error| explanation(&error))
}

fn steps(
    target: &Target,
    server: &Endpoint,
    framing: Framing,
    sender: &Arc<Sender>,
    text: &str,
) -> Vec<TestStep> {
    let mut steps: Vec<TestStep> = test_connection(target, server)
        .into_iter()
        .map(TestStep::from)
        .collect();
    if steps.iter().all(|step| step.passed) {
        let target = Target {
            servers: vec![server.clone()],
            ..target.clone()
        };
        steps.push(deliver(target, framing, sender, text));
    }
    steps
}

/// Delivers a message as the plugin does.
fn deliver(target: Target, framing: Framing, sender: &Arc<Sender>, text: &str) -> TestStep {
    let mut batch = Batch::new(framing);
    let hostname = hostname::own();
    push_notice(&mut batch, &hostname, MANAGER, SystemTime::now(), text);
    let delivered = acknowledged_by(&target.transport);
    let failure = Failure::default();
    let sink = sender.open(target, Box::new(failure.clone()), EXIT);
    let (outcome, _) = sink.deliver(batch, 0);
    drop(sink);
    let (text, hint) = failure.take();
    let passed = outcome == Outcome::Delivered;
    TestStep {
        name: "message".to_owned(),
        passed,
        text: if passed { delivered.to_owned() } else { text },
        details: Vec::new(),
        hint: hint.filter(|_| !passed),
    }
}

const fn acknowledged_by(transport: &Transport) -> &'static str {
    match transport {
        Transport::Tcp | Transport::Tls(_) => {
            "sent, and acknowledged by the receiver's kernel; what its program does with it, its own log shows"
        }
        Transport::Udp => "sent; UDP acknowledges nothing",
        Transport::Relp { .. } => "sent, and acknowledged by the receiver's program (RELP)",
    }
}

/// Records the last failure of a delivery, with advice.
#[derive(Clone, Debug, Default)]
struct Failure(Arc<Mutex<Option<Problem>>>);

/// An explanation for people, and advice.
type Problem = (String, Option<String>);

impl Failure {
    fn take(&self) -> Problem {
        let unknown = || ("the connection ended".to_owned(), None);
        self.0.lock().take().unwrap_or_else(unknown)
    }
}

impl Observer for Failure {
    fn on_event(&mut self, event: &DeliveryEvent<'_>) {
        if let DeliveryEvent::AttemptFailed(error)
        | DeliveryEvent::ConnectFailed { error, .. }
        | DeliveryEvent::Disconnected { error, .. }
        | DeliveryEvent::MessageTooLong(error) = event
        {
            *self.0.lock() = Some((error.chain(), error.hint().map(|hint| hint.text(field_of))));
        }
    }
}

impl From<Finding> for TestStep {
    fn from(finding: Finding) -> Self {
        let hint = finding.result.as_ref().err().and_then(Error::hint);
        Self {
            name: match finding.step {
                Step::Name => "name",
                Step::Connect => "connect",
                Step::Tls => "tls",
            }
            .to_owned(),
            passed: finding.result.is_ok(),
            text: finding.result.unwrap_or_else(|error| error.chain()),
            details: finding.details,
            hint: hint.map(|hint| hint.text(field_of)),
        }
    }
}

#[cfg(test)]
mod tests;
