//! The name of this machine.

/// As the kernel has it; empty where it has none. In a pod it is the pod's.
#[must_use]
pub fn own() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .unwrap_or_default()
}
