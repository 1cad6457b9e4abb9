//! Runs a test in its own namespaces (mounts, network, processes). When the test ends,
//! all its containers, network devices, mounts and temporary files are removed.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitStatus};

use rig::process;

use crate::node::{ADDRESS, DNS};

const INSIDE: &str = "SYSLOG_SINK_SANDBOX";
/// The programs that a real node needs besides Kubernetes, and their Debian packages.
const PROGRAMS: [(&str, &str); 6] = [
    ("unshare", "util-linux"),
    ("ip", "iproute2"),
    ("iptables", "iptables"),
    ("containerd", "containerd"),
    ("runc", "runc"),
    ("busybox", "busybox-static"),
];

/// The fixed folders of a kubelet and of network plug-ins: containers' logs, network
/// namespaces, allocated addresses.
const FOLDERS: [&str; 3] = ["/var/log", "/run/netns", "/var/lib/cni"];
/// The control groups of containers, which are not part of a namespace.
const GROUPS: &str = "k8s.io";

/// Returns whether the test continues in this process. If not, it has run in the
/// sandbox, or was skipped with a printed reason.
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

/// The result of [`enter_with`].
#[derive(Debug)]
pub enum Entered {
    /// This process is in a sandbox.
    Inside,
    /// This program has run with the arguments in a sandbox, and exited.
    Ended(ExitStatus),
    /// A sandbox is not possible here. The reason was printed.
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
    // Built before, because there is no network in the sandbox.
    if crate::programs().is_none() {
        return Entered::Impossible;
    }
    // Removed here, because containers that still run inside would prevent it there.
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let this = std::env::current_exe().expect("the path of the executable is known");
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
        .expect("unshare exists");
    temporary.close().expect("the folder is unused");
    sweep();
    Entered::Ended(status)
}

/// Removes the control groups of terminated containers. Those of other containers are
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

/// Sets up a network with one address, which forwards to 127.0.0.1.
fn furnish() {
    let run = |command: &str| {
        let mut words = command.split(' ');
        let program = words.next().expect("a word");
        process::run(Command::new(program).args(words));
    };
    run("mount --make-rshared /");
    for folder in FOLDERS {
        fs::create_dir_all(folder).expect("root has the rights");
        run(&format!("mount -t tmpfs tmpfs {folder}"));
    }
    run("ip link set lo up");
    run(&format!("ip address add {ADDRESS}/32 dev lo"));
    run(&format!("ip address add {DNS}/32 dev lo"));
    for key in ["ip_forward", "conf/all/route_localnet"] {
        fs::write(format!("/proc/sys/net/ipv4/{key}"), "1").expect("root has the rights");
    }
    // Servers on 127.0.0.1 can be reached under this address, both from pods and from
    // the sandbox itself.
    for chain in ["PREROUTING", "OUTPUT"] {
        run(&format!(
            "iptables -t nat -A {chain} -d {ADDRESS} -p tcp -j DNAT --to-destination 127.0.0.1"
        ));
    }
}
