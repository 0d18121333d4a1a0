//! Where what became of each photo goes: the counts, the report, the progress bar and complaints.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::super::output::{Output, complain};
use super::report::{Outcome, Report, Row};
use super::source::{Item, Unusable};
use super::summary::Summary;
use crate::contract as proto;

/// The rate that is shown is of the last one to two of these.
const RATE_SPAN: Duration = Duration::from_secs(5);

const WITHOUT_TOTAL: &str = "{spinner} {msg}  {elapsed}";
const WITH_TOTAL: &str = "{bar:30} {percent:>3}%  {msg}  {eta} left";

/// Takes what became of each photo.
pub(super) struct Ledger {
    pub summary: Summary,
    report: Option<Report>,
    progress: Progress,
}

impl Ledger {
    pub(super) fn new(report: Option<Report>, progress: Progress) -> Self {
        Self { summary: Summary::new(), report, progress }
    }

    /// Notes the result of an item.
    ///
    /// *Errors*: of the report.
    pub(super) fn result(&mut self, item: &Item, result: proto::BulkEnrollResult) -> anyhow::Result<()> {
        use proto::BulkEnrollOutcome::{AlreadyEnrolled, Enrolled, Failed, Refused, Unspecified};
        let names = || (item.place.clone(), item.identity.clone(), item.key.clone());
        let outcome = match result.outcome() {
            outcome @ (Enrolled | AlreadyEnrolled) => {
                self.summary.enrolled(&item.identity, outcome == Enrolled);
                for finding in &result.warnings {
                    let (place, identity, key) = names();
                    self.row(&Row::warning(place, identity, key, finding))?;
                }
                self.progress.show(&self.summary);
                return Ok(());
            }
            Refused => Outcome::Refused,
            Failed | Unspecified => Outcome::Failed,
        };
        let (place, identity, key) = names();
        let failure = result.failure.unwrap_or_default();
        let proto::SampleFailure { reason, message, shortfalls, finding } = failure;
        self.row(&Row { place, identity, key, outcome, reason, message, shortfalls, finding })
    }

    /// Notes a photo that is not sent.
    ///
    /// *Errors*: of the report.
    pub(super) fn unusable(&mut self, unusable: Unusable) -> anyhow::Result<()> {
        let Unusable { place, identity, key, reason, message } = unusable;
        let (reason, shortfalls) = (reason.to_owned(), Vec::new());
        self.row(&Row { place, identity, key, outcome: Outcome::Unusable, reason, message, shortfalls, finding: None })
    }

    /// Says something that is about no photo.
    pub(super) fn say(&self, line: &str) {
        complain(&self.progress.bar, line);
    }

    /// Takes the progress bar away.
    pub(super) fn finish(&self) {
        self.progress.bar.finish_and_clear();
    }

    fn row(&mut self, row: &Row) -> anyhow::Result<()> {
        self.summary.reported(row);
        self.progress.show(&self.summary);
        match (&mut self.report, row.outcome) {
            // Told there alone: a hundred thousand lines on a terminal tell nobody anything.
            (Some(report), _) => return report.write(row),
            (None, Outcome::Warned) => self.say(&format!("{}: enrolled, but {}", row.place, row.message)),
            (None, _) => self.say(&format!("{}: {} ({})", row.place, row.message, row.reason)),
        }
        Ok(())
    }
}

/// A bar where the end is known, else a counter; with the rate and the failures.
pub(super) struct Progress {
    bar: ProgressBar,
    /// Bytes that were read, where the bar is over bytes, else it is over photos.
    read: Option<Arc<AtomicU64>>,
    /// When the rate was last begun anew, and at how many photos; and the time before.
    marks: [(Instant, u64); 2],
}

impl Progress {
    pub(super) fn start(output: &Output, bytes: Option<u64>, read: Option<Arc<AtomicU64>>) -> Self {
        let bar = output.bar(bytes, if bytes.is_some() { WITH_TOTAL } else { WITHOUT_TOTAL });
        bar.enable_steady_tick(Duration::from_millis(500));
        Self { bar, read: read.filter(|_| bytes.is_some()), marks: [(Instant::now(), 0); 2] }
    }

    /// What sets how many photos there are, once they are counted.
    pub(super) fn total(&self) -> impl FnOnce(u64) + Send + use<> {
        let bar = self.bar.clone();
        move |photos| {
            bar.set_length(photos);
            if let Ok(style) = ProgressStyle::with_template(WITH_TOTAL) {
                bar.set_style(style);
            }
        }
    }

    fn show(&mut self, summary: &Summary) {
        let (now, photos) = (Instant::now(), summary.photos());
        let [(_, _), (recent, _)] = self.marks;
        if now - recent > RATE_SPAN {
            self.marks = [self.marks[1], (now, photos)];
        }
        let (since, before) = self.marks[0];
        let rate = (photos - before) as f64 / (now - since).as_secs_f64().max(0.001);
        let failures = summary.failed();
        let failures = format!("{failures} {}", if failures == 1 { "failure" } else { "failures" });
        self.bar.set_message(format!("{photos} photos  {rate:.1}/s  {failures}"));
        self.bar.set_position(self.read.as_ref().map_or(photos, |read| read.load(Ordering::Relaxed)));
    }
}
