//! What was measured: for people, as JSON, and as a page with curves.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::drive::Pace;
use crate::telemetry::Stage;

/// What a step came to.
pub(super) struct Step {
    pub pace: Pace,
    /// From the first call that counts to the last answer.
    pub time: Duration,
    /// Of the calls that were answered without an error.
    pub latencies_us: Histogram<u64>,
    /// What the server says of the stages of those calls.
    pub stages_us: BTreeMap<&'static str, Histogram<u64>>,
    /// Failed calls by reason.
    pub failures: BTreeMap<String, u64>,
    /// Calls that were due while too many were on their way.
    pub not_sent: u64,
}

const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

impl Step {
    /// Tells whether every call was sent and answered.
    pub(super) fn is_answered(&self) -> bool {
        self.failures.is_empty() && self.not_sent == 0
    }

    /// Tells whether 99 of 100 calls took no longer than this, and none failed.
    pub(super) fn holds(&self, p99_ms: f64) -> bool {
        self.is_answered() && !self.latencies_us.is_empty() && self.quantile_ms(0.99) <= p99_ms
    }

    /// The rate that was asked for; of callers the one that came of it.
    pub(super) fn offered(&self) -> f64 {
        match self.pace {
            Pace::Rate(rate) => rate,
            Pace::Callers(_) => self.throughput(),
        }
    }

    fn throughput(&self) -> f64 {
        self.latencies_us.len() as f64 / self.time.as_secs_f64().max(1e-9)
    }

    fn quantile_ms(&self, share: f64) -> f64 {
        ms(&self.latencies_us, share)
    }

    fn pace_text(&self) -> String {
        match self.pace {
            Pace::Rate(rate) => format!("{rate:.1} calls/s"),
            Pace::Callers(callers) => format!("{callers} callers"),
        }
    }

    /// The stages in the order of a photo's way.
    fn stages(&self) -> impl Iterator<Item = (&'static str, &Histogram<u64>)> {
        Stage::ALL.into_iter().filter_map(|stage| Some((stage.name(), self.stages_us.get(stage.name())?)))
    }

    fn stages_json(&self) -> serde_json::Map<String, serde_json::Value> {
        let of_stage = |(name, times_us): (&'static str, &Histogram<u64>)| {
            let quantiles = QUANTILES.iter().map(|(name, share)| ((*name).to_owned(), ms(times_us, *share).into()));
            let mut values: serde_json::Map<String, serde_json::Value> = quantiles.collect();
            values.insert("mean".to_owned(), (times_us.mean() / 1e3).into());
            (name.to_owned(), values.into())
        };
        self.stages().map(of_stage).collect()
    }

    fn json(&self) -> serde_json::Value {
        let mut latency_ms: serde_json::Map<String, serde_json::Value> =
            QUANTILES.iter().map(|(name, share)| ((*name).to_owned(), self.quantile_ms(*share).into())).collect();
        latency_ms.insert("max".to_owned(), (self.latencies_us.max() as f64 / 1e3).into());
        latency_ms.insert("mean".to_owned(), (self.latencies_us.mean() / 1e3).into());
        let (rate, callers) = match self.pace {
            Pace::Rate(rate) => (Some(rate), None),
            Pace::Callers(callers) => (None, Some(callers)),
        };
        serde_json::json!({
            "rate": rate,
            "callers": callers,
            "seconds": self.time.as_secs_f64(),
            "answered": self.latencies_us.len(),
            "answered_per_second": self.throughput(),
            "latency_ms": latency_ms,
            "server_stages_ms": self.stages_json(),
            "failed_by_reason": self.failures,
            "not_sent": self.not_sent,
        })
    }
}

fn ms(times_us: &Histogram<u64>, share: f64) -> f64 {
    times_us.value_at_quantile(share) as f64 / 1e3
}

pub(super) fn json(steps: &[Step], knee: Option<f64>) -> serde_json::Value {
    serde_json::json!({ "steps": steps.iter().map(Step::json).collect::<Vec<_>>(), "knee_rate": knee })
}

/// A line a step; `knee` is the target and what holds it.
pub(super) fn text(steps: &[Step], knee: Option<(f64, Option<f64>)>) -> String {
    let mut text = String::new();
    for step in steps {
        let _ = write!(text, "{:>16}  {:>9.1} answered/s ", step.pace_text(), step.throughput());
        for (name, share) in QUANTILES {
            let _ = write!(text, "  {name} {:.2}", step.quantile_ms(share));
        }
        let _ = write!(text, "  max {:.2} ms", step.latencies_us.max() as f64 / 1e3);
        for (reason, count) in &step.failures {
            let _ = write!(text, "  {reason} {count}");
        }
        if step.not_sent > 0 {
            let _ = write!(text, "  not sent {}", step.not_sent);
        }
        text.push('\n');
        let stages: Vec<String> = step
            .stages()
            .map(|(name, times_us)| format!("{name} {:.2}/{:.2}", ms(times_us, 0.5), ms(times_us, 0.99)))
            .collect();
        if !stages.is_empty() {
            let _ = writeln!(text, "{:>16}  p50/p99 in the server: {} ms", "", stages.join(", "));
        }
    }
    match knee {
        Some((p99_ms, Some(rate))) => {
            let _ = writeln!(text, "knee: {rate:.0} calls/s hold a p99 of {p99_ms} ms");
        }
        Some((p99_ms, None)) => {
            let _ = writeln!(text, "no rate that was tried holds a p99 of {p99_ms} ms");
        }
        None => {}
    }
    text
}

/// Size of the drawing, and its margins.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 360.0;
const MARGIN: f64 = 60.0;

/// "Nines" that the curve shows: up to 99.99 %.
const NINES_MAX: f64 = 4.0;

const COLORS: [&str; 6] = ["#1b6ca8", "#c0392b", "#1e8449", "#8e44ad", "#d68910", "#34495e"];

/// A page that needs nothing else: the latency of each share of the calls, a curve a step, and the numbers.
pub(super) fn page(title: &str, steps: &[Step]) -> String {
    let longest = steps.iter().map(|step| step.quantile_ms(1.0 - 10f64.powf(-NINES_MAX))).fold(1.0, f64::max);
    let x = |nines: f64| MARGIN + nines / NINES_MAX * (WIDTH - 2.0 * MARGIN);
    let y = |ms: f64| HEIGHT - MARGIN - ms / longest * (HEIGHT - 2.0 * MARGIN);
    let mut drawing = String::new();
    for (nines, label) in [(0.0, "0"), (1.0, "90 %"), (2.0, "99 %"), (3.0, "99.9 %"), (4.0, "99.99 %")] {
        let (x, bottom) = (x(nines), HEIGHT - MARGIN);
        let _ = write!(
            drawing,
            "<line x1='{x}' x2='{x}' y1='{MARGIN}' y2='{bottom}' stroke='#ddd'/>\
             <text x='{x}' y='{}' text-anchor='middle'>{label}</text>",
            bottom + 18.0
        );
    }
    for part in 0..=4 {
        let ms = longest * f64::from(part) / 4.0;
        let at = y(ms);
        let _ = write!(
            drawing,
            "<line x1='{MARGIN}' x2='{}' y1='{at}' y2='{at}' stroke='#ddd'/>\
             <text x='{}' y='{at}' text-anchor='end' dy='4'>{ms:.1} ms</text>",
            WIDTH - MARGIN,
            MARGIN - 6.0
        );
    }
    let (mut rows, mut stage_rows) = (String::new(), String::new());
    for (step, color) in steps.iter().zip(COLORS.iter().cycle()) {
        let points: Vec<String> = (0..=80)
            .map(|at| f64::from(at) / 80.0 * NINES_MAX)
            .map(|nines| format!("{:.1},{:.1}", x(nines), y(step.quantile_ms(1.0 - 10f64.powf(-nines)))))
            .collect();
        let _ =
            write!(drawing, "<polyline fill='none' stroke='{color}' stroke-width='2' points='{}'/>", points.join(" "));
        let failed: u64 = step.failures.values().sum::<u64>() + step.not_sent;
        let cells: String =
            QUANTILES.iter().map(|(_, share)| format!("<td>{:.2}</td>", step.quantile_ms(*share))).collect();
        let _ = write!(
            rows,
            "<tr><td style='color:{color}'>{}</td><td>{:.1}</td>{cells}<td>{:.2}</td><td>{failed}</td></tr>",
            step.pace_text(),
            step.throughput(),
            step.latencies_us.max() as f64 / 1e3
        );
        for (name, times_us) in step.stages() {
            let cells: String =
                QUANTILES.iter().map(|(_, share)| format!("<td>{:.2}</td>", ms(times_us, *share))).collect();
            let pace = step.pace_text();
            let _ = write!(stage_rows, "<tr><td style='color:{color}'>{pace}</td><td>{name}</td>{cells}</tr>");
        }
    }
    let title = title.replace('&', "&amp;").replace('<', "&lt;");
    format!(
        "<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'>\
         <title>{title}</title><style>body{{font:15px sans-serif;margin:2em auto;max-width:{WIDTH}px}}svg{{width:100%}}\
         svg text{{font:12px sans-serif}}table{{border-collapse:collapse}}td,th{{padding:.3em .8em;text-align:right}}</style>\
         <h1>{title}</h1><p>Latency that a share of the calls does not exceed, in milliseconds.</p>\
         <svg viewBox='0 0 {WIDTH} {HEIGHT}'>{drawing}</svg>\
         <table><tr><th>pace</th><th>answered/s</th><th>p50</th><th>p90</th><th>p99</th><th>p99.9</th><th>max</th>\
         <th>failed</th></tr>{rows}</table>\
         <p>Stages as the server measured them, in milliseconds.</p>\
         <table><tr><th>pace</th><th>stage</th><th>p50</th><th>p90</th><th>p99</th><th>p99.9</th></tr>{stage_rows}</table>\
         </html>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(latencies_ms: &[u64]) -> Step {
        let mut latencies_us = crate::cli::load::drive::new_histogram();
        latencies_ms.iter().for_each(|ms| latencies_us.saturating_record(ms * 1_000));
        let (time, failures) = (Duration::from_secs(2), BTreeMap::new());
        let stages_us = [("search", latencies_us.clone())].into();
        Step { pace: Pace::Rate(50.0), time, latencies_us, stages_us, failures, not_sent: 0 }
    }

    #[test]
    fn step_holds_a_target_unless_a_call_failed_or_was_slow() {
        let good = step(&(0..1_000).map(|at| if at < 5 { 90 } else { 10 }).collect::<Vec<_>>());
        assert!(good.holds(11.0) && !good.holds(9.0));
        let mut failed = step(&[10; 100]);
        failed.failures.insert("OVERLOADED".to_owned(), 1);
        let mut behind = step(&[10; 100]);
        behind.not_sent = 1;
        assert!(!failed.holds(11.0) && !behind.holds(11.0) && !step(&[]).holds(11.0));
    }

    #[test]
    fn report_tells_the_same_in_every_form() {
        let steps = [step(&[10; 100])];
        let value = json(&steps, Some(50.0));
        assert_eq!(value["steps"][0]["answered"], 100);
        assert_eq!(value["steps"][0]["answered_per_second"], 50.0);
        assert!((value["steps"][0]["latency_ms"]["p99"].as_f64().expect("a number") - 10.0).abs() < 0.01);
        assert!(
            (value["steps"][0]["server_stages_ms"]["search"]["p50"].as_f64().expect("a number") - 10.0).abs() < 0.01
        );
        let told = text(&steps, Some((20.0, Some(50.0))));
        assert!(told.contains("50.0 answered/s") && told.contains("knee: 50 calls/s"), "{told}");
        assert!(told.contains("in the server: search 10.01/10.01 ms"), "{told}");
        let page = page("a < b", &steps);
        assert!(page.contains("a &lt; b") && page.contains("<polyline") && page.contains("<td>search</td>"));
    }
}
