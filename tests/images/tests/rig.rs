//! Tests of docker/: the Dockerfiles build, the libraries load on the oldest base image
//! of Fluent Bit, and the compose rig loses nothing when its receiver and its agent are
//! killed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic fails the test")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use images::{Engine, RUST, root};
use receiver::{Listen, Options, Receiver};
use rig::event::{chunk_file, event, map};
use rig::process::run;
use rig::wait::until;

/// The time limit for everything that the test waits for.
const BOUND: Duration = Duration::from_secs(180);
/// The number of lines of each pod between two kills.
const MORE: u64 = 200;
/// Three pods over RELP, and one of them over TLS.
const ROWS: usize = 4;

/// Loads the library that is its argument, and prints the name that it registers.
const REGISTER: &str = r#"
#include "fluent_bit_proxy.h"

#include <dlfcn.h>
#include <stdio.h>

int main(int count, char **arguments)
{
    struct flb_plugin_proxy_def definition = {0};
    void *library = dlopen(arguments[count - 1], RTLD_NOW);
    int (*enroll)(struct flb_plugin_proxy_def *);

    if (library == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    enroll = (int (*)(struct flb_plugin_proxy_def *)) dlsym(library, "FLBPluginRegister");
    if (enroll(&definition) != 0) {
        return 1;
    }
    printf("registered %s\n", definition.name);
    return 0;
}
"#;

#[test]
fn images_are_built_and_nothing_is_lost_in_the_rig() {
    let Some(engine) = Engine::find() else {
        return;
    };
    engine.build("agent");
    engine.build("receiver");
    the_libraries_load_on_the_oldest_base(&engine);
    the_rig_loses_nothing(&engine);
}

/// Loads the libraries of the agent's image in a Debian 11: the output with the C host (as
/// Fluent Bit does), which is compiled there too, and the input with a program that calls its
/// registration.
fn the_libraries_load_on_the_oldest_base(engine: &Engine) {
    let folder = tempfile::tempdir().unwrap();
    let agent = concat!("syslog-sink-agent:", env!("CARGO_PKG_VERSION"));
    let container = run(engine.docker().args(["create", agent]));
    let container = container.trim();
    for library in ["out_syslog_sink.so", "in_pod_logs.so"] {
        let library = format!("{container}:/fluent-bit/plugins/{library}");
        run(engine.docker().args(["cp", &library]).arg(folder.path()));
    }
    fs::write(folder.path().join("register.c"), REGISTER).unwrap();
    let header = "fluent_bit_proxy.h";
    let include = root().join("fluent-bit/include");
    fs::copy(include.join(header), folder.path().join(header)).unwrap();
    run(engine.docker().args(["rm", container]));

    let body = map(vec![("log", "from Debian 11".into())]);
    let chunk = event(1_772_366_400, 0, body);
    let chunks = chunk_file(&[("kube.x".to_owned(), chunk)]);
    fs::write(folder.path().join("chunks"), chunks).unwrap();
    let receiver = Receiver::start(Options::new(Listen::Tcp)).unwrap();
    let script = format!(
        "set -e; ldd --version | head -n 1; \
         cc -std=gnu11 /given/register.c -o /tmp/register -ldl; \
         /tmp/register /given/in_pod_logs.so; \
         cc -std=gnu11 -rdynamic /host/*.c -o /tmp/host -ldl -lpthread; \
         exec /tmp/host run /given/out_syslog_sink.so --chunks /given/chunks --output old \
         --option servers={} --option transport=tcp --option identity=none",
        receiver.address()
    );
    let mount = |source: PathBuf, target: &str| {
        let source = source.canonicalize().unwrap();
        format!("{}:{target}:ro", source.display())
    };
    let said = run(engine
        .docker()
        .args(["run", "--rm", "--network", "host", "--volume"])
        .arg(mount(root().join("tests/host/src/c"), "/host"))
        .arg("--volume")
        .arg(mount(folder.path().to_owned(), "/given"))
        .args([RUST, "sh", "-c", &script]));
    assert!(said.contains("2.31"), "{said}");
    assert!(said.contains("registered pod_logs"), "{said}");
    let received = receiver.wait_for(1, BOUND).unwrap();
    let message = received[0].message.as_ref().unwrap();
    assert_eq!(message.msg.as_deref(), Some(&b"from Debian 11"[..]));
}

/// A row of the output of `arrived`.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    sink: String,
    pod: String,
    written: u64,
    arrived: u64,
    missing: u64,
    twice: u64,
}

/// The compose rig, as users run it. It is removed when it is dropped.
struct Rig<'e> {
    engine: &'e Engine,
}

impl<'e> Rig<'e> {
    fn up(engine: &'e Engine) -> Self {
        let rig = Self { engine };
        // Services that are not started here must at least be valid.
        run(&mut rig.compose(&["--profile", "metrics", "config", "-q"]));
        run(&mut rig.compose(&["up", "-d", "--no-build"]));
        rig
    }

    fn compose(&self, arguments: &[&str]) -> Command {
        let file = root().join("docker/compose.yaml");
        let mut command = self.engine.compose(&file);
        // Separate from a rig that a user runs.
        command.env("COMPOSE_PROJECT_NAME", "syslog-sink-test");
        command.args(arguments);
        command
    }

    fn rows(&self) -> Vec<Row> {
        // Empty while the receiver is down.
        let mut arrived = self.compose(&["exec", "-T", "receiver", "arrived"]);
        let text = String::from_utf8(arrived.output().unwrap().stdout).unwrap();
        let rows = text.lines().skip(1).map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let number = |place: usize| words[place].parse().unwrap();
            Row {
                sink: words[0].to_owned(),
                pod: words[1].to_owned(),
                written: number(2),
                arrived: number(3),
                missing: number(4),
                twice: number(5),
            }
        });
        rows.collect()
    }

    fn until(&self, what: &str, condition: impl Fn(&[Row]) -> bool) -> Vec<Row> {
        let look = || {
            let rows = self.rows();
            condition(&rows).then_some(rows)
        };
        until(BOUND, look).unwrap_or_else(|error| {
            let log = run(&mut self.compose(&["logs", "--no-color", "--tail", "40"]));
            panic!("{what}: {error}\n{:#?}\n{log}", self.rows())
        })
    }

    /// Waits until [`MORE`] additional lines have arrived in every row.
    fn until_more(&self) {
        let before = self.rows();
        self.until("more lines", |rows| {
            let arrived = |rows: &[Row], row: &Row| {
                let same = |other: &&Row| (&other.sink, &other.pod) == (&row.sink, &row.pod);
                rows.iter().find(same).map_or(0, |row| row.arrived)
            };
            let has_more = |row: &Row| row.arrived >= arrived(&before, row) + MORE;
            rows.len() == ROWS && rows.iter().all(has_more)
        });
    }
}

impl Drop for Rig<'_> {
    fn drop(&mut self) {
        // Errors during the removal are ignored.
        let _ = self.compose(&["down", "-v", "-t", "2"]).output();
    }
}

fn the_rig_loses_nothing(engine: &Engine) {
    let rig = Rig::up(engine);
    rig.until_more();
    for service in ["receiver", "agent", "receiver"] {
        run(&mut rig.compose(&["kill", "-s", "KILL", service]));
        run(&mut rig.compose(&["start", service]));
        rig.until_more();
    }
    run(&mut rig.compose(&["stop", "pods"]));
    let rows = rig.until("all lines that were written", |rows| {
        rows.len() == ROWS && rows.iter().all(|row| row.arrived == row.written)
    });
    for row in &rows {
        println!("{row:?}");
        assert_eq!(row.missing, 0, "{row:?}");
    }
    // The namespace's sink gets only its own lines.
    let of_shop = rows.iter().filter(|row| row.sink == "tls");
    let pods: Vec<&str> = of_shop.map(|row| row.pod.as_str()).collect();
    assert_eq!(pods, ["pod.log/shop/web-0/main"]);
}
