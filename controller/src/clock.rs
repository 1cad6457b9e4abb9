//! The API server's clock.
//!
//! Objects have timestamps of this clock. The controller's own may be minutes off, and then
//! every new pod would count as late, or none ever would.

use http::Request;
use http::header::DATE;
use k8s_openapi::jiff::{SignedDuration, Timestamp, fmt::rfc2822};
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;

/// The smallest difference that counts: the header has a resolution of seconds, and an
/// answer takes time.
const EXACT: SignedDuration = SignedDuration::from_secs(2);

/// The API server's clock, as an offset from the controller's own.
#[derive(Debug, Default)]
pub struct Clock {
    /// The offset by which the controller's clock is ahead.
    ahead: Mutex<SignedDuration>,
}

impl Clock {
    /// Sets the clock by the API server's.
    ///
    /// # Errors
    ///
    /// Returns an error if the API server cannot be reached.
    pub async fn set(&self, client: &Client) -> kube::Result<()> {
        // A proxy may take the date away. Ours is the best that there is then.
        let ahead = ask(client).await?.map_or(SignedDuration::ZERO, |date| {
            Timestamp::now().duration_since(date)
        });
        let is_other = ahead.abs() >= EXACT;
        let ahead = if is_other {
            ahead
        } else {
            SignedDuration::ZERO
        };
        let before = std::mem::replace(&mut *self.ahead.lock(), ahead);
        if is_other && before.is_zero() {
            let seconds = ahead.as_secs();
            tracing::warn!(
                seconds,
                "the controller's clock is ahead of the API server's clock, which is used"
            );
        }
        Ok(())
    }

    /// Returns the API server's current time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp::now() - *self.ahead.lock()
    }
}

/// Returns the API server's time from the header Date, with a resolution of seconds (RFC
/// 9110, section 6.6.1).
///
/// # Errors
///
/// Returns an error if the API server cannot be reached.
pub async fn ask(client: &Client) -> kube::Result<Option<Timestamp>> {
    let request = Request::get("/version").body(Body::empty());
    let request = request.map_err(kube::Error::HttpError)?;
    let answer = client.send(request).await?;
    let date = answer.headers().get(DATE);
    let date = date.and_then(|date| date.to_str().ok());
    let parser = rfc2822::DateTimeParser::new();
    Ok(date.and_then(|date| parser.parse_timestamp(date).ok()))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::Response;
    use tower::service_fn;

    use super::*;

    /// Returns a client of an API server whose responses have this date.
    fn client_with_date(date: Option<String>) -> Client {
        let answer = move |_: Request<Body>| {
            let mut response = Response::new(Body::empty());
            if let Some(date) = &date {
                response.headers_mut().insert(DATE, date.parse().unwrap());
            }
            async move { Ok::<_, Infallible>(response) }
        };
        Client::new(service_fn(answer), "syslog-sink")
    }

    async fn ahead_of(date: Option<String>) -> SignedDuration {
        let clock = Clock::default();
        clock.set(&client_with_date(date)).await.unwrap();
        let ahead = *clock.ahead.lock();
        let seen = Timestamp::now().duration_since(clock.now());
        assert!((seen - ahead).abs() < SignedDuration::from_millis(100));
        ahead
    }

    #[tokio::test]
    async fn the_clock_follows_the_api_server() {
        let http_date = |ahead: i64| {
            let time = Timestamp::now() - SignedDuration::from_secs(ahead);
            time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
        };
        for ahead in [-7200, -30, 30, 7200] {
            let seen = ahead_of(Some(http_date(ahead))).await;
            let error = seen - SignedDuration::from_secs(ahead);
            assert!(error.abs() < EXACT, "{ahead}: {seen}");
        }
        for ahead in [-1, 0] {
            assert!(ahead_of(Some(http_date(ahead))).await.is_zero(), "{ahead}");
        }
    }

    #[tokio::test]
    async fn without_a_valid_date_the_controllers_clock_is_used() {
        for date in [None, Some("yesterday".to_owned())] {
            assert!(ahead_of(date.clone()).await.is_zero(), "{date:?}");
        }
    }
}
