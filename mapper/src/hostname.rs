//! The host name of this machine.

/// Returns the host name that the kernel reports, or an empty string if there is
/// none. In a pod, this is the pod's host name.
#[must_use]
pub fn own() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .unwrap_or_default()
}
