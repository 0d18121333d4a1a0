//! What the headers of a reply say of a file.

use ureq::http::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, LAST_MODIFIED};

/// What tells one content of an address from another: a strong entity tag, else the time of the last change (RFC 9110,
/// section 13.1.5: weak tags are no use for ranges).
pub(super) fn validator(headers: &HeaderMap) -> Option<String> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::to_owned);
    text(ETAG).filter(|tag| tag.starts_with('"')).or_else(|| text(LAST_MODIFIED))
}

/// The length that a body is said to have.
pub(super) fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Reads `bytes START-END/TOTAL`; the total may be unknown.
pub(super) fn range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let (span, total) = headers.get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = span.split_once('-')?;
    Some((start.parse().ok()?, total.parse().ok()))
}

/// Tells whether a range was refused because it begins where the file ends.
pub(super) fn is_all(headers: &HeaderMap, bytes: u64) -> bool {
    let total = headers.get(CONTENT_RANGE).and_then(|range| range.to_str().ok()?.strip_prefix("bytes */"));
    bytes > 0 && total.and_then(|total| total.parse().ok()) == Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (ureq::http::HeaderName::from_static(name), value.parse().expect("a value")))
            .collect()
    }

    #[test]
    fn validator_is_a_strong_tag_or_a_time() {
        let time = ("last-modified", "Tue, 01 Feb 2022 00:00:00 GMT");
        assert_eq!(validator(&headers(&[("etag", "\"a\""), time])).as_deref(), Some("\"a\""));
        assert_eq!(validator(&headers(&[("etag", "W/\"a\""), time])).as_deref(), Some(time.1));
        assert_eq!(validator(&headers(&[("etag", "W/\"a\"")])), None);
    }

    #[test]
    fn range_is_read_or_refused() {
        let read = |text: &str| range(&headers(&[("content-range", text)]));
        assert_eq!(read("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(read("bytes 5-9/*"), Some((5, None)));
        for text in ["bytes */10", "bytes 5/10", "items 5-9/10", "bytes x-9/10"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
