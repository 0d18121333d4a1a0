//! What is counted, and the page that Prometheus reads. Every name is in this file.
//!
//! Counters and histograms are the process's own, like its log; gauges are asked for when the page is made. Labels are words
//! of ours and ids of galleries, never anything of an identity, a photo or a template.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::stages::Stage;

/// A pair of words of ours.
type Label = (&'static str, &'static str);

struct Metrics {
    calls: Family<[Label; 2], Counter>,
    call_time: Family<[Label; 1], Histogram>,
    stage_time: Family<[Label; 1], Histogram>,
    errors: Family<[Label; 1], Counter>,
    refusals: Family<[Label; 1], Counter>,
    failures_to_acquire: Family<[Label; 1], Counter>,
    flush_time: Histogram,
    group_size: Histogram,
}

static METRICS: LazyLock<Metrics> = LazyLock::new(|| Metrics {
    calls: Family::default(),
    call_time: Family::new_with_constructor(times),
    stage_time: Family::new_with_constructor(times),
    errors: Family::default(),
    refusals: Family::default(),
    failures_to_acquire: Family::default(),
    flush_time: times(),
    group_size: Histogram::new(exponential_buckets(1.0, 2.0, 8)),
});

/// From 0.1 ms to 13 s.
fn times() -> Histogram {
    Histogram::new(exponential_buckets(0.000_1, 2.0, 18))
}

/// What refused a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedBy {
    /// The limit on calls.
    Calls,
    /// The limit on bytes.
    Bytes,
    /// The limit on pixels.
    Pixels,
    /// The queue of the workers.
    Workers,
    /// The gate of searches.
    Searches,
    /// The queue of writes.
    Writes,
    /// The limits of the caller's key.
    Key,
}

impl RefusedBy {
    fn name(self) -> &'static str {
        match self {
            RefusedBy::Calls => "calls",
            RefusedBy::Bytes => "bytes",
            RefusedBy::Pixels => "pixels",
            RefusedBy::Workers => "workers",
            RefusedBy::Searches => "searches",
            RefusedBy::Writes => "writes",
            RefusedBy::Key => "key",
        }
    }
}

/// Counts a call that ended. `method` is one of the contract's, `code` the name of a gRPC code.
pub fn count_call(method: &'static str, code: &'static str, time: Duration) {
    METRICS.calls.get_or_create(&[("method", method), ("code", code)]).inc();
    METRICS.call_time.get_or_create(&[("method", method)]).observe(time.as_secs_f64());
}

/// Counts an error by its stable reason: of a call, or of an item of a stream.
pub fn count_error(reason: &'static str) {
    METRICS.errors.get_or_create(&[("reason", reason)]).inc();
}

/// Counts work that was refused because there is too much.
pub fn count_refusal(by: RefusedBy) {
    METRICS.refusals.get_or_create(&[("by", by.name())]).inc();
}

/// Counts a photo of which no template was made, by the stable reason.
pub fn count_failure_to_acquire(reason: &'static str) {
    METRICS.failures_to_acquire.get_or_create(&[("reason", reason)]).inc();
}

/// Notes a flush of the store and how many changes shared it.
pub fn observe_flush(time: Duration, changes: usize) {
    METRICS.flush_time.observe(time.as_secs_f64());
    METRICS.group_size.observe(changes as f64);
}

pub(super) fn observe_stage(stage: Stage, time: Duration) {
    METRICS.stage_time.get_or_create(&[("stage", stage.name())]).observe(time.as_secs_f64());
}

/// Names and meanings of the gauges.
pub const GAUGES: [(&str, &str); 17] = [
    ("facematch_build", "Always 1; the labels tell the version and the model pack"),
    ("facematch_healthy", "1 while all workers live and writes are taken"),
    ("facematch_workers", "Workers that live"),
    ("facematch_queue_length", "Photos that wait for a worker"),
    ("facematch_permits_taken", "How much is taken of a limit"),
    ("facematch_permits", "The limit"),
    ("facematch_galleries", "Galleries"),
    ("facematch_gallery_identities", "Identities of a gallery"),
    ("facematch_gallery_templates", "Templates of a gallery"),
    ("facematch_gallery_damaged_identities", "Identities of a gallery whose records are damaged"),
    ("facematch_gallery_search_path", "1 for the way a gallery is searched: exact or graph"),
    ("facematch_gallery_graph_miss_rate", "Share of the mates that the gallery's graph was measured to miss"),
    ("process_resident_memory_bytes", "Resident memory"),
    ("process_open_fds", "Open file descriptors"),
    ("process_threads", "Threads"),
    ("process_cpu_seconds", "User and system time so far"),
    ("process_start_time_seconds", "When the process began, in Unix time"),
];

/// Values of gauges, as of now.
#[derive(Default)]
pub struct Gauges(BTreeMap<&'static str, GaugeFamily>);

type GaugeFamily = Family<Vec<(&'static str, String)>, Gauge<f64, AtomicU64>>;

impl Gauges {
    /// Sets one of [`GAUGES`]; others are passed over.
    pub fn set(&mut self, name: &'static str, labels: &[(&'static str, &str)], value: f64) {
        let labels = labels.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        self.0.entry(name).or_default().get_or_create(&labels).set(value);
    }
}

/// Makes the page, in the OpenMetrics text format.
///
/// *Errors*: none that a string gives.
pub fn page(gauges: Gauges) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    let all = &*METRICS;
    registry.register("facematch_calls", "Calls that ended", all.calls.clone());
    registry.register("facematch_errors", "Errors of calls and of items of streams", all.errors.clone());
    registry.register(
        "facematch_refusals",
        "Work refused because there is too much, by what refused it",
        all.refusals.clone(),
    );
    registry.register(
        "facematch_failures_to_acquire",
        "Photos of which no template was made",
        all.failures_to_acquire.clone(),
    );
    let mut time =
        |name: &str, help: &str, histogram| registry.register_with_unit(name, help, Unit::Seconds, histogram);
    time("facematch_store_flush", "Time of a flush of the store", all.flush_time.clone());
    registry.register("facematch_store_group_changes", "Changes that shared a flush", all.group_size.clone());
    registry.register_with_unit("facematch_call", "Time of a call", Unit::Seconds, all.call_time.clone());
    registry.register_with_unit("facematch_stage", "Time of a stage of a call", Unit::Seconds, all.stage_time.clone());
    for (name, help) in GAUGES {
        if let Some(family) = gauges.0.get(name) {
            registry.register(name, help, family.clone());
        }
    }
    let mut page = String::new();
    encode(&mut page, &registry)?;
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count_one_of_each() {
        count_call("Test/Other", "OK", Duration::from_millis(3));
        count_refusal(RefusedBy::Pixels);
        count_failure_to_acquire("NO_FACE");
        count_error("NO_FACE");
        observe_flush(Duration::from_micros(700), 5);
        observe_stage(Stage::Align, Duration::from_micros(10));
    }

    #[test]
    fn page_has_what_was_counted() {
        count_call("Test/Method", "OK", Duration::from_millis(3));
        count_one_of_each();
        let mut gauges = Gauges::default();
        gauges.set("facematch_gallery_identities", &[("gallery", "a \"b\"\n")], 3.0);
        let page = page(gauges).expect("a page");
        for line in [
            "facematch_calls_total{method=\"Test/Method\",code=\"OK\"} 1",
            "facematch_call_seconds_count{method=\"Test/Method\"} 1",
            "facematch_refusals_total{by=\"pixels\"} ",
            "facematch_failures_to_acquire_total{reason=\"NO_FACE\"} ",
            "facematch_errors_total{reason=\"NO_FACE\"}",
            "facematch_store_flush_seconds_count ",
            "facematch_store_group_changes_count ",
            "facematch_stage_seconds_count{stage=\"align\"}",
            "facematch_gallery_identities{gallery=\"a \\\"b\\\"\\n\"} 3.0",
            "# EOF",
        ] {
            assert!(page.contains(line), "{line} is not in\n{page}");
        }
    }

    #[test]
    fn dashboard_asks_for_nothing_that_there_is_not() {
        let dashboard = include_str!("../../deploy/grafana-dashboard.json");
        count_one_of_each();
        let page = page(Gauges::default()).expect("a page");
        let words = dashboard.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let asked: std::collections::BTreeSet<&str> =
            words.filter(|word| word.starts_with("facematch_") || word.starts_with("process_")).collect();
        assert!(asked.len() > 20, "{asked:?}");
        for name in asked {
            let base = ["_total", "_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let is_there = GAUGES.iter().any(|(gauge, _)| *gauge == name)
                || page.contains(&format!("# HELP {} ", base.unwrap_or(name)));
            assert!(is_there, "{name}");
        }
    }
}
