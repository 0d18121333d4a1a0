//! Paces: calls at fixed times, or callers who wait for their answers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use tokio::task::JoinSet;
use tonic::Status;

use super::call::{Calls, name_of};
use super::report::Step;
use crate::cli::output::Output;
use crate::cli::remote;
use crate::telemetry::StageTimes;

/// How calls follow each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pace {
    /// Calls a second: each is due at its time, and timed from then.
    Rate(f64),
    /// Callers who ask again once they are answered.
    Callers(usize),
}

/// Calls on their way at most: beyond, those that are due are counted as not sent. A tester that ran out of memory would
/// measure itself.
const ON_THEIR_WAY_MAX: usize = 20_000;

/// The longest time that a call is told apart from others.
const LATENCY_MAX_US: u64 = 600_000_000;

/// How long answers may take after the last call was due.
const ANSWERS_WAIT_MAX: Duration = Duration::from_secs(30);

/// What is done at each step.
pub(super) struct Load {
    pub calls: Arc<Calls>,
    pub warm_up: Duration,
    pub duration: Duration,
}

/// What is counted while calls come back.
struct Counted {
    latencies_us: Histogram<u64>,
    stages_us: BTreeMap<&'static str, Histogram<u64>>,
    failures: BTreeMap<String, u64>,
    last_answer: Instant,
}

impl Load {
    /// Keeps a pace for the time of a step.
    pub(super) async fn step(&self, pace: Pace, output: &Output) -> Step {
        let bar = output.progress(0, "calls answered");
        let began = Instant::now();
        let measured_from = began + self.warm_up;
        let until = measured_from + self.duration;
        let run = Arc::new(Run {
            calls: Arc::clone(&self.calls),
            bar: bar.clone(),
            measured_from,
            counted: Mutex::new(Counted {
                latencies_us: new_histogram(),
                stages_us: BTreeMap::new(),
                failures: BTreeMap::new(),
                last_answer: measured_from,
            }),
        });
        let mut on_their_way = JoinSet::new();
        let mut not_sent = 0;
        match pace {
            Pace::Rate(rate) => not_sent = run.at_rate(rate, began, until, &mut on_their_way).await,
            Pace::Callers(callers) => {
                for _ in 0..callers {
                    on_their_way.spawn(Arc::clone(&run).ask_until(until));
                }
                tokio::time::sleep_until(until.into()).await;
            }
        }
        let answered = async { while on_their_way.join_next().await.is_some() {} };
        if tokio::time::timeout(ANSWERS_WAIT_MAX, answered).await.is_err() {
            let mut counted = lock(&run.counted);
            *counted.failures.entry("NO_ANSWER".to_owned()).or_default() += on_their_way.len() as u64;
        }
        bar.finish_and_clear();
        let counted = lock(&run.counted);
        // From the first that counts to the last answer: a server that is behind has not done its work in the time.
        let time = counted.last_answer.max(until).duration_since(measured_from);
        Step {
            pace,
            time,
            latencies_us: counted.latencies_us.clone(),
            stages_us: counted.stages_us.clone(),
            failures: counted.failures.clone(),
            not_sent,
        }
    }
}

/// A step under way.
struct Run {
    calls: Arc<Calls>,
    bar: ProgressBar,
    measured_from: Instant,
    counted: Mutex<Counted>,
}

impl Run {
    /// Sends each call when it is due, and returns how many could not be.
    async fn at_rate(
        self: &Arc<Self>,
        rate: f64,
        began: Instant,
        until: Instant,
        on_their_way: &mut JoinSet<()>,
    ) -> u64 {
        let mut not_sent = 0;
        for number in 0u64.. {
            let due = began + Duration::from_secs_f64(number as f64 / rate);
            if due >= until {
                break;
            }
            tokio::time::sleep_until(due.into()).await;
            while on_their_way.try_join_next().is_some() {}
            if on_their_way.len() >= ON_THEIR_WAY_MAX {
                not_sent += u64::from(due >= self.measured_from);
                continue;
            }
            let run = Arc::clone(self);
            on_their_way.spawn(async move {
                let outcome = run.calls.call().await;
                run.note(due, &outcome);
            });
        }
        not_sent
    }

    async fn ask_until(self: Arc<Self>, until: Instant) {
        while Instant::now() < until {
            let started = Instant::now();
            let outcome = self.calls.call().await;
            self.note(started, &outcome);
            // A caller who is refused and asks again at once would only be refused again.
            if let Some(delay) = outcome.err().as_ref().and_then(remote::retry_delay) {
                tokio::time::sleep(delay).await;
            }
        }
    }

    /// Counts a call that was due at a time; those of the warm-up do not count.
    fn note(&self, due: Instant, outcome: &Result<StageTimes, Status>) {
        if due < self.measured_from {
            return;
        }
        let now = Instant::now();
        let latency_us = u64::try_from(now.duration_since(due).as_micros()).unwrap_or(u64::MAX);
        let mut counted = lock(&self.counted);
        counted.last_answer = counted.last_answer.max(now);
        match outcome {
            Ok(stages) => {
                counted.latencies_us.saturating_record(latency_us);
                for (stage, time) in stages.iter() {
                    let time_us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
                    counted.stages_us.entry(stage.name()).or_insert_with(new_histogram).saturating_record(time_us);
                }
            }
            Err(status) => *counted.failures.entry(name_of(status)).or_default() += 1,
        }
        self.bar.inc(1);
        if self.bar.position().is_multiple_of(256) {
            let quantile_ms = |share| counted.latencies_us.value_at_quantile(share) as f64 / 1e3;
            let failures: u64 = counted.failures.values().sum();
            let [p50, p99] = [0.5, 0.99].map(quantile_ms);
            self.bar.set_message(format!("p50 {p50:.1} ms, p99 {p99:.1} ms, {failures} failed"));
        }
    }
}

/// Three digits are kept of each latency.
#[expect(clippy::expect_used, reason = "the bounds are two constants that make a histogram; a test makes one")]
pub(super) fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_max(LATENCY_MAX_US, 3).expect("600 s with 3 digits")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histogram_holds_the_longest_latency_and_keeps_three_digits() {
        let mut histogram = new_histogram();
        for latency in [1, 1_234_567, LATENCY_MAX_US, u64::MAX] {
            histogram.saturating_record(latency);
        }
        assert_eq!(histogram.len(), 4);
        let middle = histogram.value_at_quantile(0.5) as f64;
        assert!((middle / 1_234_567.0 - 1.0).abs() < 1e-3, "{middle}");
    }
}
