//! The stages of a call, and how long each took.

use std::time::{Duration, Instant};

use tracing::span::EnteredSpan;

use super::metrics;

/// What a call is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Waiting for a worker.
    Queue,
    /// Bytes → picture.
    Decode,
    /// Picture → faces.
    Detect,
    /// Faces → chips, and what is measured of them.
    Align,
    /// Chips → templates.
    Embed,
    /// Ranking a gallery, and naming the candidates.
    Search,
    /// From handing in a write until it is durable and visible.
    Write,
}

impl Stage {
    /// All of them, in the order of a photo's way.
    pub const ALL: [Stage; 7] =
        [Stage::Queue, Stage::Decode, Stage::Detect, Stage::Align, Stage::Embed, Stage::Search, Stage::Write];

    /// Returns the name: in metrics, traces and replies.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Queue => "queue",
            Stage::Decode => "decode",
            Stage::Detect => "detect",
            Stage::Align => "align",
            Stage::Embed => "embed",
            Stage::Search => "search",
            Stage::Write => "write",
        }
    }

    /// Opens the span of the stage, in that of the call.
    pub fn span(self) -> tracing::Span {
        tracing::debug_span!("stage", otel.name = self.name())
    }
}

/// How long the stages of a call took, those of all its photos together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageTimes([Duration; Stage::ALL.len()]);

/// A stage under way on one thread.
#[must_use]
pub struct StageClock {
    stage: Stage,
    began: Instant,
    _span: EnteredSpan,
}

impl StageClock {
    /// Begins a stage.
    pub fn start(stage: Stage) -> Self {
        let _span = stage.span().entered();
        Self { stage, began: Instant::now(), _span }
    }
}

impl StageTimes {
    /// Ends a stage, and tells the metrics.
    pub fn end(&mut self, clock: StageClock) {
        self.add(clock.stage, clock.began.elapsed());
    }

    /// Adds the time of a stage, and tells the metrics.
    pub fn add(&mut self, stage: Stage, time: Duration) {
        metrics::observe_stage(stage, time);
        *self.of_mut(stage) += time;
    }

    /// Adds the times of a part of the same call, which told the metrics itself.
    pub fn merge(&mut self, part: StageTimes) {
        for (sum, time) in self.0.iter_mut().zip(part.0) {
            *sum += time;
        }
    }

    /// Returns the stages that took any time.
    pub fn iter(&self) -> impl Iterator<Item = (Stage, Duration)> {
        Stage::ALL.into_iter().zip(self.0).filter(|(_, time)| !time.is_zero())
    }

    /// Returns the times as the value of a `Server-Timing` header: `queue;dur=0.12, decode;dur=3.4`, in milliseconds.
    ///
    /// *Source*: W3C, Server Timing.
    pub fn server_timing(&self) -> String {
        let entry = |(stage, time): (Stage, Duration)| format!("{};dur={:.3}", stage.name(), time.as_secs_f64() * 1e3);
        self.iter().map(entry).collect::<Vec<_>>().join(", ")
    }

    /// Reads what [`StageTimes::server_timing`] wrote; what it does not know is passed over.
    pub fn from_server_timing(text: &str) -> Self {
        let mut times = Self::default();
        for entry in text.split(',') {
            let Some((name, milliseconds)) = entry.trim().split_once(";dur=") else { continue };
            let stage = Stage::ALL.into_iter().find(|stage| stage.name() == name);
            let seconds = milliseconds.parse::<f64>().ok().map(|milliseconds| milliseconds / 1e3);
            let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            if let (Some(stage), Some(time)) = (stage, time) {
                *times.of_mut(stage) += time;
            }
        }
        times
    }

    fn of_mut(&mut self, stage: Stage) -> &mut Duration {
        let [queue, decode, detect, align, embed, search, write] = &mut self.0;
        match stage {
            Stage::Queue => queue,
            Stage::Decode => decode,
            Stage::Detect => detect,
            Stage::Align => align,
            Stage::Embed => embed,
            Stage::Search => search,
            Stage::Write => write,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_parts_add_up_and_survive_the_header() {
        let mut times = StageTimes::default();
        times.end(StageClock::start(Stage::Detect));
        times.add(Stage::Decode, Duration::from_micros(1_500));
        let mut part = StageTimes::default();
        part.add(Stage::Decode, Duration::from_micros(500));
        part.add(Stage::Write, Duration::from_millis(7));
        times.merge(part);
        let text = times.server_timing();
        assert!(text.starts_with("decode;dur=2.000, detect;dur=0.") && text.ends_with(", write;dur=7.000"), "{text}");
        let read: Vec<Stage> = StageTimes::from_server_timing(&text).iter().map(|(stage, _)| stage).collect();
        assert!(read.starts_with(&[Stage::Decode]) && read.ends_with(&[Stage::Write]));
        let odd = StageTimes::from_server_timing("cdn;dur=5, queue;dur=-1, embed;dur=x, search;dur=2, , =");
        assert_eq!(odd.server_timing(), "search;dur=2.000");
    }
}
