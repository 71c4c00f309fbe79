//! Tries: when a failed request is made again, and after what pause.
//!
//! In: failures. Out: a pause, or the failure where another try would not help. Pauses double from the first one, with
//! up to a quarter taken off by chance, so that many clients do not come back at the same instant; a registry that says
//! when to come back is not asked before that, nor before our own pause. No clock: its date is told against the date of its own answer.

use std::time::Duration;

use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

use crate::endpoint::Endpoint;
use crate::watch::Notice;
use crate::{Limits, RegistryError, Watch};

/// The tries of one thing at one endpoint.
pub(crate) struct Tries<'a> {
    limits: Limits,
    endpoint: &'a Endpoint,
    watch: &'a dyn Watch,
    allowed: u32,
    made: u32,
}

impl<'a> Tries<'a> {
    /// Starts to count. A mirror that fails twice is left for the next one.
    pub(crate) fn new(limits: Limits, endpoint: &'a Endpoint, watch: &'a dyn Watch) -> Self {
        let allowed = if endpoint.is_mirror { limits.tries.min(2) } else { limits.tries };
        Self { limits, endpoint, watch, allowed, made: 0 }
    }

    /// Counts anew: the last try brought something.
    pub(crate) fn progressed(&mut self) {
        self.made = 0;
    }

    /// Waits before another try, or returns the failure where there is none to be made.
    pub(crate) async fn pause(&mut self, failure: RegistryError) -> Result<(), RegistryError> {
        self.made += 1;
        if !failure.is_transient() || self.made >= self.allowed {
            return Err(failure);
        }
        let asked = match &failure {
            RegistryError::Busy { retry_after, .. } => *retry_after,
            _ => None,
        };
        if asked.is_some_and(|asked| asked > self.limits.longest_pause) {
            return Err(failure);
        }
        let doubled = self.limits.first_pause.saturating_mul(1 << (self.made - 1).min(16));
        let chance = doubled.min(self.limits.longest_pause).mul_f64(0.75 + fastrand::f64() / 4.0);
        let pause = asked.map_or(chance, |asked| asked.max(chance));
        // What many requests meet at once is told once.
        if self.endpoint.tells_of(self.made, pause) {
            self.watch.notice(&Notice::Again {
                host: self.endpoint.name.clone(),
                reason: failure.to_string(),
                pause,
                number: self.made + 1,
                allowed: self.allowed,
            });
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

/// Reads `Retry-After`: seconds, or a date.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let now = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    // A date that is past means now.
    Some(httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_asks_for_no_pause_gets_our_own() {
        let limits = Limits { first_pause: Duration::from_millis(80), tries: 9, ..Limits::default() };
        let endpoint = Endpoint::registry(&crate::RegistryOptions::default(), "r.example");
        let mut tries = Tries::new(limits, &endpoint, &crate::NoWatch);
        let busy = |seconds| RegistryError::Busy {
            host: "r.example".to_owned(),
            status: 503,
            said: String::new(),
            retry_after: Some(Duration::from_secs(seconds)),
        };
        for (asked, least_ms) in [(0, 60), (0, 120), (1, 1000)] {
            let before = std::time::Instant::now();
            tries.pause(busy(asked)).await.expect("is tried again");
            assert!(before.elapsed() >= Duration::from_millis(least_ms), "{asked}: {:?}", before.elapsed());
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let read = |after: &'static str, date: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, after.parse().unwrap());
            headers.insert(DATE, date.parse().unwrap());
            retry_after(&headers)
        };
        let date = "Wed, 21 Oct 2015 07:28:00 GMT";
        assert_eq!(read("7", date), Some(Duration::from_secs(7)));
        assert_eq!(read("Wed, 21 Oct 2015 07:28:09 GMT", date), Some(Duration::from_secs(9)));
        assert_eq!(read("Wed, 21 Oct 2015 07:00:00 GMT", date), Some(Duration::ZERO));
        assert_eq!(read("soon", date), None);
        assert_eq!(read("99999999999999999999999", date), None);
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
