//! Until when a certificate holds. Enough of X.509 to find two dates, and no more: nothing is verified here.
//!
//! *Source*: RFC 5280, section 4.1 (the fields up to `validity`) and 4.1.2.5 (its two spellings of time).

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Returns from when until when all certificates of a PEM file hold; `None` where one cannot be read, or there is none.
pub(super) fn validity(pem: &str) -> Option<(SystemTime, SystemTime)> {
    let mut all: Option<(SystemTime, SystemTime)> = None;
    for block in pem.split(BEGIN).skip(1) {
        let (body, _) = block.split_once(END)?;
        let body: String = body.split_whitespace().collect();
        let (from, to) = certificate(&STANDARD.decode(body).ok()?)?;
        all = Some(all.map_or((from, to), |(latest, earliest)| (latest.max(from), earliest.min(to))));
    }
    all
}

fn certificate(der: &[u8]) -> Option<(SystemTime, SystemTime)> {
    let signed = Elements(der).sequence()?;
    let mut fields = Elements(Elements(signed).sequence()?);
    // The serial number, with the version before it where that is stated.
    if fields.next()?.0 == VERSION {
        fields.next()?;
    }
    let (_algorithm, _issuer) = (fields.sequence()?, fields.sequence()?);
    let mut times = Elements(fields.sequence()?);
    Some((time(times.next()?)?, time(times.next()?)?))
}

/// What is left of DER's elements, one behind the other.
struct Elements<'a>(&'a [u8]);

impl<'a> Elements<'a> {
    /// Takes the next element: its tag and its content.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (tag, rest) = self.0.split_first()?;
        let (first, rest) = rest.split_first()?;
        let (length, rest) = if *first < 0x80 {
            (usize::from(*first), rest)
        } else {
            // The length of the length: four bytes are more than any certificate.
            let (digits, rest) = rest.split_at_checked(usize::from(*first & 0x7f)).filter(|(d, _)| d.len() <= 4)?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((*tag, content))
    }

    fn sequence(&mut self) -> Option<&'a [u8]> {
        self.next().filter(|(tag, _)| *tag == SEQUENCE).map(|(_, content)| content)
    }
}

/// Reads `YYMMDDHHMMSSZ`, which ends in 2049, or `YYYYMMDDHHMMSSZ`.
fn time((tag, content): (u8, &[u8])) -> Option<SystemTime> {
    let digits = std::str::from_utf8(content).ok()?.strip_suffix('Z')?;
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = number(digits, 2)?;
            (year + if year < 50 { 2_000 } else { 1_900 }, rest)
        }
        GENERALIZED_TIME => number(digits, 4)?,
        _ => return None,
    };
    let (month, rest) = number(rest, 2)?;
    let (day, rest) = number(rest, 2)?;
    let (hour, rest) = number(rest, 2)?;
    let (minute, rest) = number(rest, 2)?;
    let (second, rest) = number(rest, 2)?;
    let is_date = (1..=12).contains(&month) && (1..=31).contains(&day) && year >= 1_970;
    let is_time = hour < 24 && minute < 60 && second < 60;
    let seconds = day_of(year, month, day).checked_mul(86_400)?.checked_add(hour * 3_600 + minute * 60 + second)?;
    (rest.is_empty() && is_date && is_time).then(|| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

fn number(digits: &str, count: usize) -> Option<(u64, &str)> {
    let (number, rest) = digits.split_at_checked(count)?;
    number.bytes().all(|digit| digit.is_ascii_digit()).then_some((number.parse().ok()?, rest))
}

/// Days since 1970 of a day of the Gregorian calendar, from 1970 on. A year begins in March here, so that a leap day is its last.
fn day_of(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year.saturating_sub(1) } else { year };
    let months = (month + 9) % 12;
    // 153 days are five months from March on; 719,468 days lie between March of the year 0 and 1970.
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * months + 2) / 5 + day;
    days.saturating_sub(719_469)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Made by `openssl req -x509 -days 36500`: its two dates are in the two spellings.
    pub(in super::super) const PEM: &str = "\
-----BEGIN CERTIFICATE-----
MIIBfzCCASWgAwIBAgIUYwkQQ5ynXvJp8xwQMUOWPGZhhwkwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyODE1NTQwOVoYDzIxMjYxMTA0
MTU1NDA5WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAASygamzKW1Ab6CbF8ij4AonUqxcToGKuX0W3fsQJctvh24PdkWLa2zd
HSQQMivhgnVlDWPN9orZWsa7/Q1TSsrvo1MwUTAdBgNVHQ4EFgQUVAJBVRdtuc0T
Mee3pfpaCNY16RIwHwYDVR0jBBgwFoAUVAJBVRdtuc0TMee3pfpaCNY16RIwDwYD
VR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiEAupMLNkLqj7nSh4qX3x8F
P41YKRTqn26rI0n5mPXSGSICIAeUqS0NxXUxuFwPIRjW6lvR+GPirCK6LkThCPp6
0JRw
-----END CERTIFICATE-----
";

    pub(in super::super) fn seconds(since_1970: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(since_1970)
    }

    #[test]
    fn dates_are_those_that_openssl_reads() {
        // `date -u -d 2026-11-28T15:54:09Z +%s`, and of 2126-11-04T15:54:09Z.
        assert_eq!(validity(PEM), Some((seconds(1_795_881_249), seconds(4_949_481_249))));
        // Of a chain, what all of it allows.
        assert_eq!(validity(&format!("{PEM}{PEM}")), validity(PEM));
    }

    #[test]
    fn what_is_no_certificate_has_no_dates() {
        let (head, body) = PEM.split_at(PEM.len() / 2);
        for text in ["", "key", BEGIN, head, body] {
            assert_eq!(validity(text), None, "{text:?}");
        }
        // Every cut of the bytes, and every byte turned over: refused or other dates, never a panic.
        let body: String = PEM.lines().filter(|line| !line.starts_with('-')).collect();
        let der = STANDARD.decode(body).expect("base64");
        for at in 0..der.len() {
            assert_eq!(certificate(&der[..at]), None);
            let mut turned = der.clone();
            turned[at] = !turned[at];
            certificate(&turned);
        }
    }

    #[test]
    fn days_are_counted_over_leap_years() {
        for (date, day) in [((1970, 1, 1), 0), ((2000, 2, 29), 11_016), ((2000, 3, 1), 11_017), ((2100, 3, 1), 47_541)]
        {
            assert_eq!(day_of(date.0, date.1, date.2), day, "{date:?}");
        }
    }
}
