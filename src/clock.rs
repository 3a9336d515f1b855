//! The one place that reads the system clock. Everything else is handed a [`Clock`].
//! A test, a replay and a court hand in their own. And what hours are working hours in England.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970-01-01T00:00:00Z, from wherever the owner says.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl Clock {
    /// The machine's own clock.
    #[must_use]
    pub fn system() -> Self {
        Self::from_fn(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH);
            since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
        })
    }

    /// A clock that answers what `now_ms` answers.
    pub fn from_fn(now_ms: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now_ms))
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        (self.0)()
    }

    /// Whole seconds since the epoch, as JOSE's NumericDate has them.
    #[must_use]
    pub fn now_s(&self) -> u64 {
        self.now_ms() / 1000
    }
}

/// Whether it is night or weekend in England: from 20:00 to 07:00, Saturday or Sunday.
#[must_use]
pub fn is_out_of_hours(now_ms: u64) -> bool {
    let utc_s = now_ms / 1000;
    let local_s = utc_s + if is_summer(utc_s) { 3600 } else { 0 };
    let (day, hour) = (local_s / 86_400, local_s % 86_400 / 3600);
    // Why 4: the first of January 1970 was a Thursday.
    let weekday = (day + 4) % 7;
    !(7..20).contains(&hour) || weekday == 0 || weekday == 6
}

/// British Summer Time: from the last Sunday of March to the last Sunday of October, each at 01:00 UTC (Summer Time
/// Order 2002).
fn is_summer(utc_s: u64) -> bool {
    let turn = |month: i8| {
        let year = i16::try_from(1970 + utc_s / 31_556_952).ok()?;
        let last = jiff::civil::Date::new(year, month, 31).ok()?;
        let sunday = last.weekday().to_sunday_zero_offset();
        let sunday = last.checked_sub(jiff::Span::new().days(sunday)).ok()?;
        let turn = sunday
            .at(1, 0, 0, 0)
            .to_zoned(jiff::tz::TimeZone::UTC)
            .ok()?;
        u64::try_from(turn.timestamp().as_second()).ok()
    };
    match (turn(3), turn(10)) {
        (Some(begins), Some(ends)) => (begins..ends).contains(&utc_s),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may panic")]
    use super::*;

    fn at(text: &str) -> u64 {
        let moment: jiff::Timestamp = text.parse().unwrap();
        u64::try_from(moment.as_millisecond()).unwrap()
    }

    #[test]
    fn night_and_weekend_are_those_of_england() {
        // A Wednesday in summer, when 19:30 UTC is half past eight.
        assert!(is_out_of_hours(at("2026-07-15T19:30:00Z")));
        assert!(!is_out_of_hours(at("2026-07-15T06:30:00Z")));
        // A Wednesday in winter.
        assert!(!is_out_of_hours(at("2026-11-18T19:30:00Z")));
        assert!(is_out_of_hours(at("2026-11-18T06:30:00Z")));
        assert!(is_out_of_hours(at("2026-11-21T12:00:00Z")), "a Saturday");
        for (before, after) in [
            ("2026-03-29T00:59:59Z", "2026-03-29T01:00:00Z"),
            ("2027-03-28T00:59:59Z", "2027-03-28T01:00:00Z"),
        ] {
            assert!(!is_summer(at(before) / 1000) && is_summer(at(after) / 1000));
        }
        assert!(is_summer(at("2026-10-25T00:59:59Z") / 1000));
        assert!(!is_summer(at("2026-10-25T01:00:00Z") / 1000));
    }
}
