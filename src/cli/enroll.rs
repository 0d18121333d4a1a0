//! `enroll`: a collection of people, over one BulkEnroll stream.
//!
//! A thread finds photos (`folder`, `manifest`, `archive`) and reads each once there is room for it (`source`); `stream`
//! sends them until each has its result; `ledger` counts, reports and shows what became of them. So what is in memory is the
//! photos on their way, however many there are.

mod archive;
mod bounded;
mod folder;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod ledger;
mod manifest;
mod metadata;
mod report;
mod source;
mod stream;
mod summary;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::ValueEnum;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::bounded::Input;
use self::ledger::{Ledger, Progress};
use self::manifest::{Columns, Manifest};
use self::report::Report;
use self::source::Taker;
pub(super) use self::source::is_photo;
use self::stream::{End, Ends, Transfer};
use super::Answer;
use super::arguments::{Detection, Face};
use super::output::Output;
use super::remote::{self, REPLY_BYTES_MAX};
use crate::config::Config;
use crate::contract as proto;
use crate::contract::enrollment_service_client::EnrollmentServiceClient;
use crate::contract::gallery_service_client::GalleryServiceClient;

/// Enrol a collection of people: a folder, a manifest (CSV, JSON lines) or a TAR, from a file or stdin
///
/// The same command again enrols only what is new: a photo is known by its key, which is its file name in a folder or a
/// TAR, and in a manifest what the column `key` says, else the path as it is written there. Where the server stops, is
/// overloaded or out of reach, what has no result yet is sent again. Ctrl-C waits for the photos on their way.
///
/// Exit code 0: every photo has a template; 1: some have not; 2: error; 130: stopped by Ctrl-C. What the gallery's policies
/// warn of is told, and is no failure. With --json: one object with the counts, the first thousand photos without a template
/// and the first thousand warnings; --report has all of them.
#[derive(clap::Args)]
#[command(after_long_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// A folder DIR/NAME/PHOTO; a manifest, .csv or .jsonl; a TAR with NAME/PHOTO in it, .tar, .tar.gz or .tgz; "-": stdin, a
    /// TAR unless --format says otherwise
    #[arg(value_name = "SOURCE")]
    source: PathBuf,
    /// The gallery to enrol into
    #[arg(long, short, value_name = "ID")]
    gallery: String,
    /// What the source is [default: by its name]
    #[arg(long, value_enum)]
    format: Option<Format>,
    #[command(flatten)]
    manifest: Manifest,
    /// Write a row for each photo without a template, with the reason and what was measured, and for each warning: .csv or
    /// .jsonl. They are then not told one by one on stderr
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// What to do about a photo of a person who is enrolled without it
    #[arg(long, value_enum, default_value_t = IfExists::Add)]
    if_exists: IfExists,
    /// Photos on their way at a time; of large ones fewer, up to 256 MiB
    #[arg(long, value_name = "COUNT", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=256))]
    in_flight: u16,
    /// How long to go on trying where the server is out of reach or overloaded, from the last result on
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    patience: u32,
    #[command(flatten)]
    face: Face,
    #[command(flatten)]
    detection: Detection,
}

const AFTER_HELP: &str = "\
Examples:
  facematch enroll -g staff people/                        people/NAME/PHOTO
  facematch enroll -g staff staff.csv --report refused.csv columns path,identity and, where there are such, key,
                                                           display_name, metadata.site, metadata.age:number
  facematch enroll -g staff hr.csv --columns path=file,identity=staff_no --metadata site,since:time --photos photos/
  facematch enroll -g staff staff.jsonl                    {\"path\": \"a/1.jpg\", \"identity\": \"a\", \"metadata\": {\"age\": 30}}
  tar c -C people . | facematch enroll -g staff -";

/// What a source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// DIR/NAME/PHOTO
    Folder,
    /// A line a photo, under a header
    Csv,
    /// A JSON object a photo
    Jsonl,
    /// NAME/PHOTO, compressed by gzip or not
    Tar,
}

/// What is done about an identity that exists.
#[derive(Clone, Copy, ValueEnum)]
enum IfExists {
    /// Add a template
    Add,
    /// Refuse it, so that each person has the first photo only
    Refuse,
}

pub(super) async fn run(config: &Config, output: &Output, arguments: Arguments) -> anyhow::Result<Answer> {
    let source = Source::open(&arguments)?;
    let channel = remote::connect(config).await?;
    // Before the report is made anew: that of the last run is worth more than a slip of the pen.
    let request = proto::GetGalleryRequest { gallery_id: arguments.gallery.clone() };
    GalleryServiceClient::new(channel.clone()).get_gallery(request).await.map_err(remote::failed)?;
    let report = arguments.report.as_deref().map(|path| arguments.create_report(path)).transpose()?;
    let client = EnrollmentServiceClient::new(channel).max_decoding_message_size(REPLY_BYTES_MAX);
    let (taker, events) = Taker::new(usize::from(arguments.in_flight));
    let (interrupts, mut tasks) = interrupts();
    let ledger = Ledger::new(report, source.progress(output, &mut tasks));
    let reading = tokio::task::spawn_blocking(move || source.read(taker));
    let patience = Duration::from_secs(arguments.patience.into());
    let mut transfer = Transfer::new(Ends { client, events, interrupts }, arguments.options(), patience, ledger);
    let mut end = transfer.run().await;
    if let Ok(End::Finished) = end
        && let Err(panicked) = reading.await
    {
        end = Err(anyhow::Error::new(panicked).context("the source was not read to its end"));
    }
    transfer.ledger.finish();
    let summary = &transfer.ledger.summary;
    let name = match &end {
        Ok(End::Finished) => "finished",
        Ok(End::Interrupted) => "interrupted",
        Err(_) => "error",
    };
    if summary.photos() > 0 {
        output.value(&summary.json(name), || summary.text())?;
    }
    match end? {
        End::Finished if summary.photos() == 0 => anyhow::bail!("no photos in {}", arguments.expected()),
        End::Finished => Ok(Answer::yes_if(summary.failed() == 0)),
        End::Interrupted => Ok(Answer::Interrupted),
    }
}

impl Arguments {
    fn options(&self) -> proto::BulkEnrollOptions {
        let if_exists = match self.if_exists {
            IfExists::Add => proto::IfExists::Add,
            IfExists::Refuse => proto::IfExists::Refuse,
        };
        proto::BulkEnrollOptions {
            gallery_id: self.gallery.clone(),
            if_exists: if_exists.into(),
            face_selection: self.face.reply(),
            detection: Some(self.detection.options()),
        }
    }

    fn create_report(&self, path: &Path) -> anyhow::Result<Report> {
        let is_source = self.path().is_some_and(|source| is_same_file(source, path));
        anyhow::ensure!(!is_source, "--report would write over {}", path.display());
        Report::create(path)
    }

    /// The source's path, unless it is stdin.
    fn path(&self) -> Option<&Path> {
        Some(self.source.as_path()).filter(|path| *path != Path::new("-"))
    }

    fn format(&self) -> anyhow::Result<Format> {
        let Some(path) = self.path() else { return Ok(self.format.unwrap_or(Format::Tar)) };
        if let Some(format) = self.format {
            return Ok(format);
        }
        if path.is_dir() {
            return Ok(Format::Folder);
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        let known = [
            (".csv", Format::Csv),
            (".jsonl", Format::Jsonl),
            (".ndjson", Format::Jsonl),
            (".tar", Format::Tar),
            (".tar.gz", Format::Tar),
            (".tgz", Format::Tar),
        ];
        let format = known.into_iter().find(|(end, _)| name.ends_with(end)).map(|(_, format)| format);
        // A name that is nothing is told as that.
        std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
        format.with_context(|| format!("cannot tell what {} is: state --format", path.display()))
    }

    fn expected(&self) -> String {
        let source = self.path().map_or_else(|| "stdin".to_owned(), |path| path.display().to_string());
        match self.format() {
            Ok(Format::Folder) => format!("the folders of {source}: expected DIR/NAME/PHOTO"),
            Ok(Format::Tar) => format!("{source}: expected NAME/PHOTO"),
            _ => source,
        }
    }
}

/// Tells whether two names are of one file that is there.
fn is_same_file(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}

/// An opened source.
enum Source {
    Folder(PathBuf),
    Csv(Input, Columns),
    Jsonl(Input, Columns),
    Tar(Input),
}

impl Source {
    fn open(arguments: &Arguments) -> anyhow::Result<Self> {
        let (path, format) = (arguments.path(), arguments.format()?);
        let is_manifest = matches!(format, Format::Csv | Format::Jsonl);
        let has_columns = arguments.manifest.is_stated();
        anyhow::ensure!(is_manifest || !has_columns, "--photos, --columns and --metadata are for manifests");
        let columns = || arguments.manifest.columns(path);
        Ok(match format {
            Format::Folder => Self::Folder(path.context("stdin is no folder")?.to_path_buf()),
            Format::Csv => Self::Csv(Input::open(path)?, columns()?),
            Format::Jsonl => Self::Jsonl(Input::open(path)?, columns()?),
            Format::Tar => Self::Tar(Input::open(path)?),
        })
    }

    /// Starts a progress bar; what counts the photos of a folder beside the work is among `tasks`.
    fn progress(&self, output: &Output, tasks: &mut JoinSet<()>) -> Progress {
        match self {
            Self::Folder(folder) => {
                let progress = Progress::start(output, None, None);
                let (folder, set_total) = (folder.clone(), progress.total());
                tasks.spawn_blocking(move || set_total(folder::count_photos(&folder)));
                progress
            }
            Self::Csv(input, _) | Self::Jsonl(input, _) | Self::Tar(input) => {
                Progress::start(output, input.bytes, Some(input.read.clone()))
            }
        }
    }

    fn read(self, mut taker: Taker) {
        if !matches!(self, Self::Folder(_)) {
            taker.refuse_repeated_keys();
        }
        let read = match self {
            Self::Folder(folder) => folder::read(&folder, &mut taker),
            Self::Csv(input, columns) => manifest::read_csv(input, &columns, &mut taker),
            Self::Jsonl(input, columns) => manifest::read_jsonl(input, &columns, &mut taker),
            Self::Tar(input) => archive::read(input, &mut taker),
        };
        if let Err(error) = read {
            taker.failed(error.context("the source cannot be read on"));
        }
    }
}

/// Counts how often somebody asked to stop, for as long as the tasks are kept.
fn interrupts() -> (watch::Receiver<u32>, JoinSet<()>) {
    let (sender, receiver) = watch::channel(0);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            sender.send_modify(|count| *count += 1);
        }
        // Without signals nobody asks; the sender stays, for a closed channel would say so without end.
        std::future::pending::<()>().await;
    });
    (receiver, tasks)
}
