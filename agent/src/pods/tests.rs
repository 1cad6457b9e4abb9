//! Tests of the files against a scripted API server, in virtual time.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};

use kube::client::Body;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tower::service_fn;

use super::*;
use crate::pods::state::tests::object;

/// A response of the API server: the status, and the lines of the body.
type Response = (u16, Vec<Value>);
/// A request: its query, and the time.
type Request = (String, Instant);

struct World {
    dir: TempDir,
    requests: UnboundedReceiver<Request>,
}

impl World {
    /// Starts the upkeep of the files with an API server that gives these responses, and then
    /// none.
    fn new(responses: Vec<Response>) -> (Self, impl Future<Output = Infallible>) {
        let dir = TempDir::new().unwrap();
        let (notify, requests) = unbounded_channel();
        let responses = Arc::new(Mutex::new(VecDeque::from(responses)));
        let settings = Settings {
            folder: dir.path().to_owned(),
            node: "node-1".to_owned(),
            retention: Duration::from_secs(600),
        };
        let connect = async move || Ok(client(notify.clone(), Arc::clone(&responses)));
        (Self { dir, requests }, keep(settings, connect))
    }

    fn labels(&self) -> Vec<(String, String)> {
        labels(self.dir.path())
    }

    /// Waits for the next request, and returns its version.
    async fn version(&mut self) -> String {
        let (query, _) = self.requests.recv().await.unwrap();
        assert!(query.contains("fieldSelector=spec.nodeName%3Dnode-1"));
        assert!(query.contains("allowWatchBookmarks=true"));
        let version = query
            .split('&')
            .find_map(|it| it.strip_prefix("resourceVersion="));
        version.unwrap().to_owned()
    }
}

fn client(notify: UnboundedSender<Request>, responses: Arc<Mutex<VecDeque<Response>>>) -> Client {
    let service = service_fn(move |request: http::Request<Body>| {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let _ = notify.send((query, Instant::now()));
        let response = responses.lock().unwrap().pop_front();
        async move {
            let Some((status, lines)) = response else {
                return std::future::pending().await;
            };
            let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
            let body = Body::from((lines.join("\n") + "\n").into_bytes());
            http::Response::builder().status(status).body(body)
        }
    });
    Client::new(service, "default")
}

/// Returns the names of the files with the values of the label `app`.
fn labels(folder: &Path) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut labels: Vec<(String, String)> = entries
        .map(|entry| {
            let path = entry.unwrap().path();
            let text = std::fs::read(&path).unwrap();
            let object: Value = serde_json::from_slice(&text).unwrap();
            let app = object["metadata"]["labels"]["app"].as_str().unwrap();
            let name = path.file_name().unwrap().to_str().unwrap();
            (name.to_owned(), app.to_owned())
        })
        .collect();
    labels.sort();
    labels
}

fn event(kind: &str, name: &str, app: &str, version: &str) -> Value {
    let mut object = object(name, app);
    object["metadata"]["resourceVersion"] = version.into();
    json!({"type": kind, "object": object})
}

fn bookmark(version: &str) -> Value {
    json!({"type": "BOOKMARK", "object": {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": version, "creationTimestamp": null},
    }})
}

fn failure(code: u16) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code})
}

/// Runs the upkeep of the files during a test. The test sees each request before its response
/// is read.
async fn during(upkeep: impl Future<Output = Infallible>, test: impl Future<Output = ()>) {
    tokio::select! {
        biased;
        () = test => {}
        _ = upkeep => unreachable!("the upkeep does not end"),
    }
}

fn pair(name: &str, app: &str) -> (String, String) {
    (name.to_owned(), app.to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_watch_is_resumed_only_from_a_bookmark() {
    let added = |app| event("ADDED", "a", app, "7");
    let (mut world, upkeep) = World::new(vec![
        (200, vec![added("1"), event("ADDED", "b", "1", "5")]),
        (200, vec![added("2"), bookmark("20")]),
        (200, vec![event("MODIFIED", "a", "3", "21")]),
        (200, vec![]),
    ]);
    during(upkeep, async {
        // The versions of the first events are not in order.
        assert_eq!(world.version().await, "0");
        assert_eq!(world.version().await, "0");
        let (a, b) = (pair("shop_a.meta", "1"), pair("shop_b.meta", "1"));
        assert_eq!(world.labels(), [a, b.clone()]);
        assert_eq!(world.version().await, "20");
        assert_eq!(world.labels(), [pair("shop_a.meta", "2"), b]);
        assert_eq!(world.version().await, "21");
        assert_eq!(world.version().await, "21");
        assert_eq!(world.labels()[0], pair("shop_a.meta", "3"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn files_are_removed_while_the_api_server_does_not_respond() {
    let added = event("ADDED", "a", "1", "7");
    let deleted = event("DELETED", "b", "1", "8");
    let (mut world, upkeep) = World::new(vec![(200, vec![added, deleted])]);
    let stays = pair("shop_a.meta", "1");
    during(upkeep, async {
        world.version().await;
        world.version().await;
        let begin = Instant::now();
        assert_eq!(world.labels(), [stays.clone(), pair("shop_b.meta", "1")]);
        while world.labels().len() > 1 {
            world.version().await;
        }
        assert!(begin.elapsed() >= Duration::from_secs(500));
        assert_eq!(world.labels(), [stays]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn pods_of_an_earlier_watch_that_are_gone_lose_their_files() {
    let (mut world, upkeep) = World::new(vec![
        (200, vec![event("ADDED", "a", "1", "7"), bookmark("20")]),
        // As an event and as a response.
        (200, vec![json!({"type": "ERROR", "object": failure(410)})]),
        (200, vec![event("ADDED", "b", "1", "25"), bookmark("30")]),
        (410, vec![failure(410)]),
    ]);
    during(upkeep, async {
        for version in ["0", "20", "0", "30", "0"] {
            assert_eq!(world.version().await, version);
        }
        assert_eq!(world.labels().len(), 2);
        while world.labels().len() > 1 {
            world.version().await;
        }
        assert_eq!(world.labels(), [pair("shop_b.meta", "1")]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn errors_keep_the_files_and_are_retried_with_longer_waits() {
    let mut responses = vec![(200, vec![event("ADDED", "a", "1", "7"), bookmark("20")])];
    responses.extend((0..9).map(|_| (403, vec![failure(403)])));
    let (mut world, upkeep) = World::new(responses);
    during(upkeep, async {
        world.version().await;
        let mut waits = Vec::new();
        let mut last = Instant::now();
        for _ in 0..10 {
            let (_, time) = world.requests.recv().await.unwrap();
            waits.push(time - last);
            last = time;
        }
        assert!(waits[0] < Duration::from_secs(3), "{waits:?}");
        let longest = Duration::from_secs(25)..Duration::from_secs(70);
        assert!(longest.contains(&waits[8]), "{waits:?}");
        assert_eq!(world.labels(), [pair("shop_a.meta", "1")]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_invalid_event_does_not_end_the_watch() {
    let invalid = json!({"type": "ADDED", "object": {"metadata": {"name": 1}}});
    let events = vec![invalid, event("ADDED", "a", "1", "7"), bookmark("20")];
    let (mut world, upkeep) = World::new(vec![(200, events)]);
    during(upkeep, async {
        assert_eq!(world.version().await, "0");
        assert_eq!(world.version().await, "20");
        assert_eq!(world.labels(), [pair("shop_a.meta", "1")]);
    })
    .await;
}
