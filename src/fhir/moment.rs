//! FHIR dates of any precision, as half-open intervals of milliseconds.
//!
//! GP systems write a day as midnight by the clock on the wall (`2018-06-01T00:00:00+01:00`), so both the
//! instant and the wall clock are kept: a search by day compares days as they were written, a search with a
//! time zone compares instants. A text that is no date is `None`, never a guess.

/// A minute in milliseconds.
const MINUTE_MS: i64 = 60_000;
/// A day in milliseconds.
const DAY_MS: i64 = 1440 * MINUTE_MS;

/// A date or time as it is written: `[start, end)` by the clock on the wall, and that clock's offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The first millisecond, by the wall clock.
    pub start_ms: i64,
    /// The first millisecond after it, by the wall clock.
    pub end_ms: i64,
    /// Minutes that the wall clock is ahead of UTC; `None` where no zone is written.
    pub offset_min: Option<i16>,
}

/// When a record's event happened: `[start, end)` in UTC, and how far the writer's clocks were ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first millisecond; `i64::MIN` if it has no beginning.
    pub start_ms: i64,
    /// The first millisecond after it; `i64::MAX` if it has no end.
    pub end_ms: i64,
    /// Minutes that the clock which wrote the start was ahead of UTC.
    pub start_offset_min: i16,
    /// The same for the end.
    pub end_offset_min: i16,
}

impl Moment {
    /// Reads `YYYY`, `YYYY-MM`, `YYYY-MM-DD` or `YYYY-MM-DDThh:mm[:ss[.fff…]][Z|±hh:mm]`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (date, time) = match text.split_once('T') {
            Some((date, time)) => (date, Some(time)),
            None => (text, None),
        };
        let mut parts = date.split('-');
        let year = digits(parts.next()?, 4)?;
        let month = parts
            .next()
            .map(|part| digits(part, 2))
            .map_or(Some(None), |m| m.map(Some))?;
        let day = parts
            .next()
            .map(|part| digits(part, 2))
            .map_or(Some(None), |d| d.map(Some))?;
        if parts.next().is_some() || year == 0 {
            return None;
        }
        let (from, until) = match (month, day) {
            (None, _) => (days(year, 1, 1), days(year + 1, 1, 1)),
            (Some(month @ 1..=12), None) => (days(year, month, 1), month_end(year, month)),
            (Some(month @ 1..=12), Some(day)) => {
                let from = days(year, month, 1) + day - 1;
                if day == 0 || from >= month_end(year, month) {
                    return None;
                }
                (from, from + 1)
            }
            _ => return None,
        };
        match time {
            None => Some(Self {
                start_ms: from * DAY_MS,
                end_ms: until * DAY_MS,
                offset_min: None,
            }),
            Some(time) if day.is_some() => Self::at(from * DAY_MS, time),
            Some(_) => None,
        }
    }

    fn at(day_ms: i64, time: &str) -> Option<Self> {
        let zone_at = time.find(['Z', '+', '-']).unwrap_or(time.len());
        let (clock, zone) = time.split_at_checked(zone_at)?;
        let offset_min = match zone {
            "" => None,
            "Z" => Some(0),
            _ => Some(zone_offset(zone)?),
        };
        let mut parts = clock.split(':');
        let (hour, minute) = (digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
        let (second_ms, length_ms) = match parts.next() {
            None => (0, MINUTE_MS),
            Some(part) => seconds(part)?,
        };
        if parts.next().is_some() || hour > 23 || minute > 59 {
            return None;
        }
        let start_ms = day_ms + (hour * 60 + minute) * MINUTE_MS + second_ms;
        Some(Self {
            start_ms,
            end_ms: start_ms + length_ms,
            offset_min,
        })
    }

    fn offset_ms(self) -> i64 {
        i64::from(self.offset_min.unwrap_or(0)) * MINUTE_MS
    }

    /// The instant it begins, in UTC.
    #[must_use]
    pub fn start_utc_ms(self) -> i64 {
        self.start_ms - self.offset_ms()
    }

    /// The instant it ends, in UTC.
    #[must_use]
    pub fn end_utc_ms(self) -> i64 {
        self.end_ms - self.offset_ms()
    }
}

impl Span {
    /// The time between two moments, the second included; a missing one leaves that side open.
    #[must_use]
    pub fn between(start: Option<Moment>, end: Option<Moment>) -> Self {
        Self {
            start_ms: start.map_or(i64::MIN, Moment::start_utc_ms),
            end_ms: end.map_or(i64::MAX, Moment::end_utc_ms),
            start_offset_min: start.and_then(|moment| moment.offset_min).unwrap_or(0),
            end_offset_min: end.and_then(|moment| moment.offset_min).unwrap_or(0),
        }
    }

    /// The interval in UTC.
    #[must_use]
    pub fn utc(self) -> (i64, i64) {
        (self.start_ms, self.end_ms)
    }

    /// The interval by the clocks that wrote it. Open sides stay open.
    #[must_use]
    pub fn wall(self) -> (i64, i64) {
        let shift = |ms: i64, offset_min: i16| match ms {
            i64::MIN | i64::MAX => ms,
            _ => ms.saturating_add(i64::from(offset_min) * MINUTE_MS),
        };
        (
            shift(self.start_ms, self.start_offset_min),
            shift(self.end_ms, self.end_offset_min),
        )
    }
}

impl From<Moment> for Span {
    fn from(moment: Moment) -> Self {
        Self::between(Some(moment), Some(moment))
    }
}

/// Exactly `count` digits as a number.
fn digits(text: &str, count: usize) -> Option<i64> {
    (text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| text.parse().ok())?
}

/// `ss` or `ss.f…`: milliseconds, and how long what is written lasts. Digits after the third are dropped.
fn seconds(text: &str) -> Option<(i64, i64)> {
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (text, None),
    };
    // Why 60: FHIR lets a leap second be written.
    let second = digits(whole, 2).filter(|second| *second <= 60)?;
    let Some(fraction) = fraction else {
        return Some((second * 1000, 1000));
    };
    if fraction.is_empty()
        || fraction.len() > 18
        || !fraction.bytes().all(|byte| byte.is_ascii_digit())
    {
        return None;
    }
    let thousandths = fraction
        .chars()
        .chain("00".chars())
        .take(3)
        .filter_map(|c| c.to_digit(10))
        .fold(0, |n, d| n * 10 + i64::from(d));
    let length_ms = match fraction.len() {
        1 => 100,
        2 => 10,
        _ => 1,
    };
    Some((second * 1000 + thousandths, length_ms))
}

/// `±hh:mm` in minutes.
fn zone_offset(zone: &str) -> Option<i16> {
    let (sign, rest) = zone.split_at_checked(1)?;
    let (hours, minutes) = rest.split_once(':')?;
    let (hours, minutes) = (digits(hours, 2)?, digits(minutes, 2)?);
    if hours > 14 || minutes > 59 {
        return None;
    }
    let ahead = i16::try_from(hours * 60 + minutes).ok()?;
    Some(if sign == "-" { -ahead } else { ahead })
}

/// Days from 1970-01-01 to a day of the proleptic Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Why: years begin in March here, so that the leap day comes last and months fall into a pattern of 153 days in five.
    let year = if month > 2 { year } else { year - 1 };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn month_end(year: i64, month: i64) -> i64 {
    if month == 12 {
        days(year + 1, 1, 1)
    } else {
        days(year, month + 1, 1)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may panic")]
    use super::*;

    fn utc(text: &str) -> (i64, i64) {
        let moment = Moment::parse(text).unwrap();
        (moment.start_utc_ms(), moment.end_utc_ms())
    }

    #[test]
    fn the_calendar_agrees_with_jiff() {
        let mut date = jiff::civil::date(1899, 12, 28);
        let last = jiff::civil::date(2101, 1, 3);
        let mut day = days(1899, 12, 28);
        while date < last {
            assert_eq!(
                days(date.year().into(), date.month().into(), date.day().into()),
                day,
                "{date}"
            );
            assert_eq!(
                month_end(date.year().into(), date.month().into()) - day,
                i64::from(date.days_in_month() - date.day() + 1)
            );
            date = date.tomorrow().unwrap();
            day += 1;
        }
        assert_eq!(days(1970, 1, 1), 0);
    }

    #[test]
    fn precision_is_the_length_of_the_interval() {
        assert_eq!(utc("1970"), (0, 365 * DAY_MS));
        assert_eq!(
            utc("1972-02"),
            (days(1972, 2, 1) * DAY_MS, days(1972, 3, 1) * DAY_MS)
        );
        assert_eq!(utc("1970-01-02"), (DAY_MS, 2 * DAY_MS));
        assert_eq!(utc("1970-01-01T00:01Z"), (60_000, 120_000));
        assert_eq!(utc("1970-01-01T00:00:01Z"), (1000, 2000));
        assert_eq!(utc("1970-01-01T00:00:01.5Z"), (1500, 1600));
        assert_eq!(utc("1970-01-01T00:00:01.2345678Z"), (1234, 1235));
        assert_eq!(utc("1970-01-01T01:00:00+01:00"), (0, 1000));
        assert_eq!(utc("1969-12-31T19:00:00-05:00"), (0, 1000));
        for text in ["2019-06-01T12:00:00.123+01:00", "2004-02-29T23:59:59Z"] {
            let jiff: jiff::Timestamp = text.parse().unwrap();
            assert_eq!(utc(text).0, jiff.as_millisecond(), "{text}");
        }
    }

    #[test]
    fn what_is_no_date_is_none() {
        let wrong = "|19|01970|1970-1|1970-13|1970-00|1970-02-29|1970-01-00|1970-01-32|1970-01-01-01|0000|-001|1970T00:00Z\
            |1970-01-01T|1970-01-01T24:00Z|1970-01-01T00:60Z|1970-01-01T00:00:61Z|1970-01-01T00:00:00.Z|1970-01-01T00:00:00+1:00\
            |1970-01-01T00:00:00+15:00|1970-01-01T00:00:00 01:00|1970-01-01 00:00|1970-01-01T00|１９７０|+970";
        for text in wrong.split('|') {
            assert_eq!(Moment::parse(text.trim()), None, "{text:?}");
        }
    }

    #[test]
    fn a_span_keeps_the_clock_on_the_wall() {
        let span = Span::from(Moment::parse("2018-06-01T00:00:00+01:00").unwrap());
        assert_eq!(span.wall().0, days(2018, 6, 1) * DAY_MS);
        assert_eq!(span.utc().0, days(2018, 6, 1) * DAY_MS - 60 * MINUTE_MS);
        assert_eq!(Span::between(None, None).wall(), (i64::MIN, i64::MAX));
    }
}
