//! A test in namespaces of its own (mounts, network, processes), which take
//! everything with them when it ends: containers, network devices, mounts. Its
//! temporary files go as well.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitStatus};

use rig::process;

use crate::node::{ADDRESS, DNS};

const INSIDE: &str = "SYSLOG_SINK_SANDBOX";
/// What a real node needs besides Kubernetes, and what Debian calls it.
const PROGRAMS: [(&str, &str); 6] = [
    ("unshare", "util-linux"),
    ("ip", "iproute2"),
    ("iptables", "iptables"),
    ("containerd", "containerd"),
    ("runc", "runc"),
    ("busybox", "busybox-static"),
];

/// Where a kubelet and the network's plugins always write: containers' logs,
/// network namespaces, addresses in use.
const FOLDERS: [&str; 3] = ["/var/log", "/run/netns", "/var/lib/cni"];
/// Where containers' control groups are, which belong to no namespace.
const GROUPS: &str = "k8s.io";

/// Whether the test goes on here. If not, it was run in the sandbox, or there
/// is none, which was said.
#[must_use]
pub fn enter(test: &str) -> bool {
    match enter_with(&[test, "--exact", "--nocapture"]) {
        Entered::Inside => true,
        Entered::Impossible => false,
        Entered::Ended(status) => {
            assert!(status.success(), "{test} failed in its sandbox");
            false
        }
    }
}

/// What came of a wish to be in a sandbox.
#[derive(Debug)]
pub enum Entered {
    /// It is one.
    Inside,
    /// This program, with the arguments, has ended in one.
    Ended(ExitStatus),
    /// There is none, which was said.
    Impossible,
}

/// Runs this program with these arguments in a sandbox.
#[must_use]
pub fn enter_with(arguments: &[&str]) -> Entered {
    if std::env::var_os(INSIDE).is_some() {
        furnish();
        return Entered::Inside;
    }
    if !process::is_root() {
        rig::skip("a real node needs root");
        return Entered::Impossible;
    }
    for (program, package) in PROGRAMS {
        if rig::program(program).is_none() {
            rig::skip(&format!("{program} is not installed (Debian: {package})"));
            return Entered::Impossible;
        }
    }
    if !fs::exists("/usr/lib/cni/bridge").unwrap_or(false) {
        rig::skip("/usr/lib/cni/bridge is missing (Debian: containernetworking-plugins)");
        return Entered::Impossible;
    }
    // There is no network inside to build it by.
    if crate::programs().is_none() {
        return Entered::Impossible;
    }
    // Containers that run to the end keep it from removing them itself.
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let this = std::env::current_exe().expect("this is a program");
    let status = Command::new("unshare")
        .args([
            "--mount",
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ])
        .arg(this)
        .args(arguments)
        .env(INSIDE, "1")
        .env("TMPDIR", temporary.path())
        .status()
        .expect("unshare was found");
    temporary.close().expect("nobody is left who uses it");
    sweep();
    Entered::Ended(status)
}

/// Removes the control groups of containers that are gone. Those of others are
/// not empty, and stay.
fn sweep() {
    fn remove(group: &Path) {
        for entry in fs::read_dir(group).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                remove(&entry.path());
            }
        }
        let _ = fs::remove_dir(group);
    }
    let root = Path::new("/sys/fs/cgroup");
    remove(&root.join(GROUPS));
    for controller in fs::read_dir(root).into_iter().flatten().flatten() {
        remove(&controller.path().join(GROUPS));
    }
}

/// A network with one address, whose port is this machine's own.
fn furnish() {
    let run = |command: &str| {
        let mut words = command.split(' ');
        let program = words.next().expect("a word");
        process::run(Command::new(program).args(words));
    };
    run("mount --make-rshared /");
    for folder in FOLDERS {
        fs::create_dir_all(folder).expect("root may");
        run(&format!("mount -t tmpfs tmpfs {folder}"));
    }
    run("ip link set lo up");
    run(&format!("ip address add {ADDRESS}/32 dev lo"));
    run(&format!("ip address add {DNS}/32 dev lo"));
    for key in ["ip_forward", "conf/all/route_localnet"] {
        fs::write(format!("/proc/sys/net/ipv4/{key}"), "1").expect("root may");
    }
    // What listens on 127.0.0.1 is there for pods as well, and under the same
    // address for who is no pod.
    for chain in ["PREROUTING", "OUTPUT"] {
        run(&format!(
            "iptables -t nat -A {chain} -d {ADDRESS} -p tcp -j DNAT --to-destination 127.0.0.1"
        ));
    }
}
