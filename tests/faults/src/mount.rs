//! Mount namespaces: another process sees other files.

use std::process::{Command, Stdio};

use crate::Skipped;

/// The command that runs another one after these shell commands, whose mounts
/// nobody else sees.
///
/// # Errors
///
/// Where that is not allowed.
pub(crate) fn wrapper(commands: &str) -> Result<Vec<String>, Skipped> {
    let script = format!("{commands} && exec \"$0\" \"$@\"");
    let wrapper = ["unshare", "--mount", "sh", "-c", &script].map(str::to_owned);
    let works = Command::new(&wrapper[0])
        .args(&wrapper[1..])
        .arg("true")
        .stderr(Stdio::null())
        .status();
    if works.is_ok_and(|status| status.success()) {
        Ok(wrapper.into())
    } else {
        Err(Skipped("mount namespaces cannot be made here".to_owned()))
    }
}
