//! Numbers and moments as Java prints them.

use std::fmt;

/// `Double.toString`.
pub fn double(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    if value == 0.0 || (1e-3..1e7).contains(&value.abs()) {
        return format!("{value:?}");
    }
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').expect("the format has an exponent");
    let fraction = if digits.contains('.') { "" } else { ".0" };
    format!("{digits}{fraction}E{exponent}")
}

/// A mean as `mntr` and `srvr` show it: to four decimals.
pub fn mean(value: f64) -> String {
    double((value * 1e4).round() / 1e4)
}

/// A moment on the clock of the wall, in the zone of the server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LocalTime {
    pub year: i32,
    /// 0 is January.
    pub month: usize,
    pub day: i32,
    /// 0 is Sunday.
    pub weekday: usize,
    pub hour: i32,
    pub minute: i32,
    pub second: i32,
    pub zone: String,
}

/// `Date.toString`: `Sun Nov 22 15:11:05 UTC 2026`.
impl fmt::Display for LocalTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
        const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let Self { year, month, day, weekday, hour, minute, second, zone } = self;
        let (weekday, month) = (DAYS[weekday % 7], MONTHS[month % 12]);
        write!(f, "{weekday} {month} {day:02} {hour:02}:{minute:02}:{second:02} {zone} {year}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // config 3.1
    #[test]
    fn doubles_are_java_s() {
        for (value, text) in [
            (0.0, "0.0"),
            (3.6452, "3.6452"),
            (16.0, "16.0"),
            (0.0005, "5.0E-4"),
            (0.00012, "1.2E-4"),
            (0.001, "0.001"),
            (12_340_000.0, "1.234E7"),
            (10_000_000.0, "1.0E7"),
            (9_999_999.0, "9999999.0"),
            (-0.5, "-0.5"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "Infinity"),
        ] {
            assert_eq!(double(value), text);
        }
        assert_eq!(mean(8.0 / 21.0), "0.381");
        assert_eq!(mean(101.0 / 31.0), "3.2581");
        assert_eq!(mean(5.0), "5.0");
    }

    #[test]
    fn moments_are_java_s() {
        let time = LocalTime {
            year: 2026,
            month: 10,
            day: 2,
            weekday: 1,
            hour: 5,
            minute: 11,
            second: 5,
            zone: "UTC".to_owned(),
        };
        assert_eq!(time.to_string(), "Mon Nov 02 05:11:05 UTC 2026");
    }
}
