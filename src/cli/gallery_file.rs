//! `gallery export`, `import`, `compact`, `synthesize`: what moves whole galleries.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic_types::StatusExt;

use super::Answer;
use super::output::Output;
use super::remote::{self, failed};
use crate::biometrics::ids::PackId;
use crate::client::Channel;
use crate::contract as proto;
use crate::contract::gallery_service_client::GalleryServiceClient;
use crate::gallery::{read_file_ids, write_synthetic};

type Client = GalleryServiceClient<Channel>;

#[derive(clap::Args)]
pub(super) struct Export {
    /// Its id
    gallery: String,
    /// Where to; made anew. "-": stdout
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(clap::Args)]
pub(super) struct Import {
    /// A file of `gallery export`. "-": stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The id of the new gallery [default: the one that it had]
    #[arg(long = "as", value_name = "ID")]
    gallery: Option<String>,
}

#[derive(clap::Args)]
pub(super) struct Migrate {
    /// Its id
    gallery: String,
    /// The pack to move to: its name or its id
    #[arg(long, value_name = "PACK")]
    pack: String,
    /// How many fewer of the compared templates may find their identity, as a share; more, and nothing is switched
    #[arg(long, value_name = "SHARE", default_value_t = 0.01)]
    loss_max: f64,
    /// Compare only: nothing is switched
    #[arg(long)]
    trial: bool,
}

#[derive(clap::Args)]
pub(super) struct Move {
    /// Its id
    gallery: String,
    /// The store to move to, as the server's settings have it: store (or the data folder), or second_store
    #[arg(long, value_name = "STORE")]
    to: String,
    /// Copy nothing: serve again what an earlier move left there, as it was then but for whom was deleted since
    #[arg(long)]
    as_it_was: bool,
    /// No other server works on the store that the gallery leaves: needed where that is a database
    #[arg(long)]
    only_server: bool,
}

#[derive(clap::Args)]
pub(super) struct Synthesize {
    /// Where to; made anew. "-": stdout
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// How many templates, of one to five an identity
    #[arg(long, value_name = "COUNT", default_value_t = 100_000)]
    templates: u64,
    /// Numbers that a template has: a power of two
    #[arg(long, value_name = "COUNT", default_value_t = 512, value_parser = clap::value_parser!(u16).range(2..=4096))]
    dimension: u16,
    /// Another seed makes other people
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// The pack that the templates claim to be of: probes must state the same
    #[arg(long, value_name = "ID", default_value = "00000000000000000000000000000000")]
    pack_id: String,
    /// The id of the gallery
    #[arg(long, value_name = "ID", default_value = "synthetic")]
    gallery: String,
}

/// The largest header of a file.
const BEGINNING_BYTES: u64 = 64 << 10;

/// Bytes of a message.
const PART_BYTES: usize = 1 << 20;

/// How long the server may take to notice that an import broke off.
const BREAK_WAITS: usize = 20;
const BREAK_WAIT: Duration = Duration::from_millis(500);

pub(super) async fn export(mut client: Client, output: &Output, arguments: &Export) -> anyhow::Result<Answer> {
    let request = proto::ExportGalleryRequest { gallery_id: arguments.gallery.clone() };
    let mut parts = client.export_gallery(request).await.map_err(failed)?.into_inner();
    let mut file = NewFile::create(&arguments.file)?;
    let bar = output.progress(0, "identities");
    let (mut bytes, mut last) = (0, proto::ExportGalleryResponse::default());
    while let Some(part) = parts.message().await.map_err(failed)? {
        bytes += part.data.len() as u64;
        file.write(&part.data)?;
        bar.set_length(part.identity_total);
        bar.set_position(part.identity_count);
        last = part;
    }
    file.finish()?;
    bar.finish_and_clear();
    let (identities, damaged) = (last.identity_count, last.damaged_identity_count);
    if damaged > 0 {
        eprintln!("facematch: {damaged} identities have damaged records and are NOT in the file");
    }
    if !is_standard(&arguments.file) {
        let value = serde_json::json!({ "identities": identities, "damaged_identities": damaged, "bytes": bytes });
        output.value(&value, || format!("{identities} identities, {bytes} bytes"))?;
    }
    Ok(Answer::yes_if(damaged == 0))
}

pub(super) async fn import(
    mut client: Client,
    output: &Output,
    arguments: &Import,
) -> anyhow::Result<proto::ImportGalleryResponse> {
    let mut source = Source::open(&arguments.file)?;
    let (export_id, had) = read_file_ids(&source.beginning)?;
    let gallery_id = arguments.gallery.clone().unwrap_or(had);
    let bar = output.byte_progress(source.bytes);
    for _ in 0..BREAK_WAITS {
        let request = proto::GetImportRequest { gallery_id: gallery_id.clone() };
        let offset = match client.get_import(request).await {
            Ok(state) => {
                Some(state.into_inner()).filter(|state| state.export_id == export_id).map_or(0, |state| state.offset)
            }
            Err(status) if status.code() == Code::NotFound => 0,
            Err(status) => return Err(failed(status)),
        };
        let offset = source.seek(offset)?;
        bar.set_position(offset);
        let (sender, parts) = tokio::sync::mpsc::channel(2);
        let (first, again) =
            (proto::ImportGalleryRequest { gallery_id: gallery_id.clone(), offset, data: vec![] }, &bar);
        let call = client.import_gallery(ReceiverStream::new(parts));
        let send = async {
            let mut next = Some(first);
            while let Some(part) = next.take() {
                let sent = part.data.len() as u64;
                if sender.send(part).await.is_err() {
                    break; // the call has failed: its status says why
                }
                again.inc(sent);
                let data = source.read(PART_BYTES)?;
                next = (!data.is_empty()).then(|| proto::ImportGalleryRequest { data, ..Default::default() });
            }
            drop(sender);
            anyhow::Ok(())
        };
        let (reply, read) = tokio::join!(call, send);
        match reply {
            Err(status) if is_still_under_way(&status) && source.can_seek() => {
                // The server may not have noticed yet that this import broke off, or has just done so.
                tokio::time::sleep(BREAK_WAIT).await;
            }
            Err(status) => return Err(failed(status)),
            Ok(reply) => {
                read?;
                bar.finish_and_clear();
                return Ok(reply.into_inner());
            }
        }
    }
    anyhow::bail!("another import into this gallery is under way")
}

/// Tells whether an import failed because of one before it: that goes on, or has gone further than it was when asked.
fn is_still_under_way(status: &tonic::Status) -> bool {
    let violations = status.get_details_bad_request().map(|details| details.field_violations).unwrap_or_default();
    remote::reason(status).as_deref() == Some("UNDER_WAY") || violations.iter().any(|at| at.field == "offset")
}

pub(super) async fn compact(mut client: Client, output: &Output) -> anyhow::Result<Answer> {
    let mut states = client.compact_galleries(proto::CompactGalleriesRequest {}).await.map_err(failed)?.into_inner();
    let bar = output.progress(0, "identities");
    let mut last = proto::CompactGalleriesResponse::default();
    while let Some(state) = states.message().await.map_err(failed)? {
        bar.set_length(state.identity_total);
        bar.set_position(state.identity_count);
        last = state;
    }
    bar.finish_and_clear();
    let mega = |bytes: u64| bytes.div_ceil(1 << 20);
    output.reply(&last, |last| {
        format!("the store took {} MiB and takes {} MiB", mega(last.bytes_before), mega(last.bytes_after.unwrap_or(0)))
    })?;
    Ok(Answer::Yes)
}

pub(super) async fn migrate(mut client: Client, output: &Output, arguments: Migrate) -> anyhow::Result<Answer> {
    let Migrate { gallery, pack, loss_max, trial } = arguments;
    let request = proto::MigrateGalleryRequest { gallery_id: gallery, pack, loss_max: Some(loss_max), trial };
    let mut states = client.migrate_gallery(request).await.map_err(failed)?.into_inner();
    let bar = output.progress(0, "identities");
    let mut last = proto::MigrateGalleryResponse::default();
    while let Some(state) = states.message().await.map_err(failed)? {
        bar.set_length(state.identity_total);
        bar.set_position(state.identity_count);
        last = state;
    }
    bar.finish_and_clear();
    output.reply(&last, |last| {
        let proto::MigrationComparison { probe_count, found_before_count, found_after_count } =
            last.comparison.unwrap_or_default();
        format!(
            "{} identities; of {probe_count} templates whose identity has another, {found_before_count} found it by the pack of \
             before and {found_after_count} find it by the new one\n{}",
            last.identity_count,
            if last.switched { "switched" } else { "nothing is switched: it was a trial" }
        )
    })?;
    Ok(Answer::Yes)
}

pub(super) async fn move_gallery(mut client: Client, output: &Output, arguments: Move) -> anyhow::Result<Answer> {
    let Move { gallery, to, as_it_was, only_server } = arguments;
    let request = proto::MoveGalleryRequest { gallery_id: gallery, to, as_it_was, only_server };
    let mut states = client.move_gallery(request).await.map_err(failed)?.into_inner();
    let bar = output.progress(0, "identities");
    let mut last = proto::MoveGalleryResponse::default();
    while let Some(state) = states.message().await.map_err(failed)? {
        bar.set_length(state.identity_total.max(state.identity_count));
        bar.set_position(state.identity_count);
        last = state;
    }
    bar.finish_and_clear();
    anyhow::ensure!(last.switched, "the server ended without saying whether the gallery has moved");
    output.reply(&last, |last| match as_it_was {
        true => "switched back".to_owned(),
        false => format!("{} identities copied, {} compared, switched", last.identity_count, last.compared_count),
    })?;
    Ok(Answer::Yes)
}

pub(super) fn synthesize(output: &Output, arguments: &Synthesize) -> anyhow::Result<Answer> {
    anyhow::ensure!(arguments.dimension.is_power_of_two(), "--dimension must be a power of two");
    let pack_id = PackId::parse(&arguments.pack_id)?;
    let mut file = NewFile::create(&arguments.file)?;
    let bar = output.progress(usize::try_from(arguments.templates)?, "templates");
    let mut bytes = 0;
    let settings = crate::gallery::SyntheticGallery {
        gallery: crate::biometrics::ids::GalleryId::parse(&arguments.gallery)?,
        pack_id,
        dimension: usize::from(arguments.dimension),
        seed: arguments.seed,
        templates: arguments.templates,
    };
    let identities = write_synthetic(&settings, |part, templates| {
        bytes += part.len() as u64;
        bar.set_position(templates);
        file.write(part)
    })?;
    file.finish()?;
    bar.finish_and_clear();
    if !is_standard(&arguments.file) {
        let templates = arguments.templates;
        let value = serde_json::json!({ "identities": identities, "templates": templates, "bytes": bytes });
        output.value(&value, || format!("{identities} identities, {templates} templates, {bytes} bytes"))?;
    }
    Ok(Answer::Yes)
}

fn is_standard(path: &Path) -> bool {
    path == Path::new("-")
}

/// A file that is there only once it is whole; or stdout.
enum NewFile {
    Standard,
    File { file: std::fs::File, temporary: Temporary, path: PathBuf },
}

/// The name of a file that is not whole yet: removed where it does not become so.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // Renamed by then where all went well.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl NewFile {
    fn create(path: &Path) -> anyhow::Result<Self> {
        if is_standard(path) {
            return Ok(Self::Standard);
        }
        // A name of its own: another export to the same place must not write into this one.
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(format!(".{}.part", uuid::Uuid::now_v7()));
        let temporary = PathBuf::from(temporary);
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true);
        // Templates are nobody else's business.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&temporary).with_context(|| format!("cannot write {}", temporary.display()))?;
        Ok(Self::File { file, temporary: Temporary(temporary), path: path.to_path_buf() })
    }

    fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        match self {
            Self::Standard => std::io::stdout().lock().write_all(bytes).context("cannot write to stdout"),
            Self::File { file, temporary, .. } => {
                file.write_all(bytes).with_context(|| format!("cannot write {}", temporary.0.display()))
            }
        }
    }

    fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::Standard => std::io::stdout().lock().flush().context("cannot write to stdout"),
            Self::File { file, temporary, path } => {
                file.sync_all().with_context(|| format!("cannot write {}", temporary.0.display()))?;
                let cannot = || format!("cannot write {}", path.display());
                std::fs::rename(&temporary.0, &path).with_context(cannot)?;
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                let folder = std::fs::File::open(folder.unwrap_or(Path::new("."))).with_context(cannot)?;
                folder.sync_all().with_context(cannot)
            }
        }
    }
}

/// A file that is read from anywhere, or stdin, which is read from its start.
struct Source {
    file: Box<dyn Read + Send>,
    seekable: Option<std::fs::File>,
    beginning: Vec<u8>,
    /// Of the beginning, what has not been read yet.
    from_beginning: usize,
    bytes: u64,
}

impl Source {
    fn open(path: &Path) -> anyhow::Result<Self> {
        let cannot = || format!("cannot read {}", path.display());
        let seekable = (!is_standard(path)).then(|| std::fs::File::open(path)).transpose().with_context(cannot)?;
        let bytes = seekable.as_ref().map(|file| file.metadata()).transpose().with_context(cannot)?;
        let mut file: Box<dyn Read + Send> = match &seekable {
            Some(file) => Box::new(file.try_clone().with_context(cannot)?),
            None => Box::new(std::io::stdin()),
        };
        let mut beginning = Vec::new();
        file.by_ref().take(BEGINNING_BYTES).read_to_end(&mut beginning).with_context(cannot)?;
        Ok(Self { file, seekable, beginning, from_beginning: 0, bytes: bytes.map_or(0, |metadata| metadata.len()) })
    }

    fn can_seek(&self) -> bool {
        self.seekable.is_some()
    }

    /// Goes on from a place, or where that cannot be, from the start, and returns which it is.
    fn seek(&mut self, offset: u64) -> anyhow::Result<u64> {
        let Some(file) = &mut self.seekable else { return Ok(0) };
        // The two share one position.
        file.seek(SeekFrom::Start(offset))?;
        self.from_beginning = self.beginning.len();
        Ok(offset)
    }

    /// Reads what follows; nothing at the end.
    fn read(&mut self, bytes: usize) -> anyhow::Result<Vec<u8>> {
        let rest = self.beginning.get(self.from_beginning..).unwrap_or_default();
        if !rest.is_empty() {
            self.from_beginning = self.beginning.len();
            return Ok(rest.to_vec());
        }
        let mut data = Vec::with_capacity(bytes);
        self.file.by_ref().take(bytes as u64).read_to_end(&mut data)?;
        Ok(data)
    }
}
