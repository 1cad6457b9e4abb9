//! The logs of containers of two namespaces.

/// A line in a container's log.
pub(crate) struct Line {
    pub(crate) namespace: &'static str,
    pub(crate) pod: &'static str,
    pub(crate) container: &'static str,
    pub(crate) stream: &'static str,
    pub(crate) text: &'static str,
    /// The time: seconds since 1970, and nanoseconds within the second.
    pub(crate) time: (u32, u32),
}

/// The time of the first line: 2026-03-01T12:00:00Z.
const START: u32 = 1_772_366_400;

impl Line {
    /// Returns the time in the format of a container runtime.
    pub(crate) fn rfc3339(&self) -> String {
        let (seconds, nanos) = self.time;
        format!("2026-03-01T12:00:{:02}.{nanos:09}Z", seconds - START)
    }
}

/// Returns all lines, in the order of their times.
pub(crate) fn lines() -> Vec<Line> {
    let shop = ("shop", "web-6d4cf56db6-x2k8p", "nginx");
    let cart = ("shop", "cart-0", "app");
    let pay = ("payments", "ledger-7f9c5d-4qz", "api");
    [
        (
            shop,
            "stdout",
            r#"10.1.2.3 - - "GET /cart HTTP/1.1" 200 5316"#,
        ),
        (
            cart,
            "stdout",
            r#"{"level":"info","msg":"item added","sku":"A-42"}"#,
        ),
        (pay, "stdout", "payment 7781 accepted: 12.90 EUR"),
        (
            cart,
            "stderr",
            "panic: runtime error: index out of range [3] with length 3",
        ),
        (cart, "stderr", "goroutine 1 [running]:"),
        (cart, "stderr", "\tmain.total(0xc000012345)"),
        (
            pay,
            "stderr",
            "retrying ledger write (2 of 5): connection reset by peer",
        ),
        (
            shop,
            "stdout",
            "<13>1 - - - - - - a line that looks like a syslog message",
        ),
        (
            pay,
            "stdout",
            "42 <14>1 2026-01-01T00:00:00Z forged shop - - - me too",
        ),
        (shop, "stdout", "Bezahlt: 12,90 € · 支払い済み"),
    ]
    .into_iter()
    .enumerate()
    .map(
        |(number, ((namespace, pod, container), stream, text))| Line {
            namespace,
            pod,
            container,
            stream,
            text,
            time: (START + number as u32, 123_456_789),
        },
    )
    .collect()
}
