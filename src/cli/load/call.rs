//! The calls that a server is loaded with.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use clap::ValueEnum;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Response, Status};

use super::Arguments;
use crate::biometrics::ids::{GalleryId, PackId};
use crate::cli::output::Output;
use crate::cli::remote::{self, REPLY_BYTES_MAX, failed};
use crate::client::Channel;
use crate::contract as proto;
use crate::contract::enrollment_service_client::EnrollmentServiceClient;
use crate::contract::face_service_client::FaceServiceClient;
use crate::contract::gallery_service_client::GalleryServiceClient;
use crate::contract::match_service_client::MatchServiceClient;
use crate::error::Error;
use crate::gallery::{Synthetic, SyntheticGallery, write_synthetic};
use crate::telemetry::StageTimes;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Kind {
    /// Searches by embedding: of the people of --synthetic
    Identify,
    /// Searches by photo, of --photos
    IdentifyPhoto,
    /// Comparisons of two photos, of --photos
    Verify,
    /// Enrolments by embedding, each of another person, into --synthetic
    Enroll,
    /// Nine searches by embedding and an enrolment; with --photos, a search by photo too
    Mixed,
}

const SEED: u64 = 1;

/// Calls of a round of mixed ones.
const MIXED: u64 = 10;

/// What synthetic templates claim to be of: of the server's pack where photos are sent too, so that both fit the gallery.
struct Pack {
    id: String,
    dimension: usize,
}

/// Probes made ahead, so that making them takes nothing from the calls, and photos held in memory at most.
const PROBES: u64 = 512;
const PHOTOS_MAX: usize = 256;

/// Makes calls, each another one.
pub(super) struct Calls {
    kind: Kind,
    channels: Vec<Channel>,
    gallery_id: String,
    embeddings: Vec<proto::Embedding>,
    photos: Vec<Vec<u8>>,
    /// Tells the identities of this run from those of others.
    run: String,
    next: AtomicU64,
}

impl Calls {
    pub(super) async fn prepare(
        channels: Vec<Channel>,
        output: &Output,
        arguments: &Arguments,
    ) -> anyhow::Result<Self> {
        let kind = arguments.kind;
        let needs_photos = matches!(kind, Kind::IdentifyPhoto | Kind::Verify);
        let photos = match &arguments.photos {
            Some(path) => read_photos(path)?,
            None if needs_photos => anyhow::bail!("state the photos to send: --photos"),
            None => Vec::new(),
        };
        let first = channels.first().context("no connection")?.clone();
        let pack = pack_of(first.clone(), &photos).await?;
        let needs_people = matches!(kind, Kind::Identify | Kind::Enroll | Kind::Mixed);
        let mut embeddings = Vec::new();
        if needs_people || arguments.synthetic.is_some() {
            let gallery = synthetic_gallery(first, output, &pack, &arguments.gallery, arguments.synthetic).await?;
            embeddings = probes(&gallery, pack.dimension);
        }
        let run = uuid::Uuid::now_v7().to_string();
        let gallery_id = arguments.gallery.clone();
        Ok(Self { kind, channels, gallery_id, embeddings, photos, run, next: AtomicU64::new(0) })
    }

    /// Makes the next call, and returns how long its stages took in the server.
    ///
    /// *Errors*: the call's status.
    pub(super) async fn call(&self) -> Result<StageTimes, Status> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        // Not by the number alone, which also says the kind of a mixed call: a connection would only have calls of one kind.
        let channel =
            pick(&self.channels, number / MIXED + number).ok_or_else(|| Status::internal("no connection"))?.clone();
        match self.kind {
            Kind::Identify => self.identify(channel, self.embedding(number)).await,
            Kind::IdentifyPhoto => self.identify(channel, self.photo(number)).await,
            Kind::Verify => self.verify(channel, number).await,
            Kind::Enroll => self.enroll(channel, number).await,
            Kind::Mixed => match number % MIXED {
                0 => self.enroll(channel, number).await,
                5 if !self.photos.is_empty() => self.identify(channel, self.photo(number / MIXED)).await,
                _ => self.identify(channel, self.embedding(number)).await,
            },
        }
    }

    fn embedding(&self, number: u64) -> Option<proto::probe::Probe> {
        pick(&self.embeddings, number).cloned().map(proto::probe::Probe::Embedding)
    }

    fn photo(&self, number: u64) -> Option<proto::probe::Probe> {
        pick(&self.photos, number).cloned().map(|data| proto::probe::Probe::Photo(proto::Photo { data }))
    }

    async fn identify(&self, channel: Channel, probe: Option<proto::probe::Probe>) -> Result<StageTimes, Status> {
        let request = proto::IdentifyRequest {
            gallery_id: self.gallery_id.clone(),
            probe: Some(proto::Probe { probe }),
            ..Default::default()
        };
        MatchServiceClient::new(channel).identify(timed(request)).await.map(|reply| stage_times(&reply))
    }

    async fn verify(&self, channel: Channel, number: u64) -> Result<StageTimes, Status> {
        let side = |number| {
            let photo = pick(&self.photos, number).cloned().map(|data| proto::Photo { data });
            Some(proto::VerifySide { side: photo.map(proto::verify_side::Side::Photo) })
        };
        let request = proto::VerifyRequest { a: side(number), b: side(number + 1), ..Default::default() };
        let client = FaceServiceClient::new(channel).max_decoding_message_size(REPLY_BYTES_MAX);
        { client }.verify(timed(request)).await.map(|reply| stage_times(&reply))
    }

    async fn enroll(&self, channel: Channel, number: u64) -> Result<StageTimes, Status> {
        let source = pick(&self.embeddings, number).cloned().map(proto::sample::Source::Embedding);
        let request = proto::EnrollRequest {
            gallery_id: self.gallery_id.clone(),
            identity_id: format!("load {} {number}", self.run),
            samples: vec![proto::Sample { source, template_id: "1".to_owned() }],
            ..Default::default()
        };
        EnrollmentServiceClient::new(channel).enroll(timed(request)).await.map(|reply| stage_times(&reply))
    }
}

/// Asks the server for the times of the call's stages.
fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("facematch-timing", MetadataValue::from_static("on"));
    request
}

fn stage_times<T>(reply: &Response<T>) -> StageTimes {
    let timing = reply.metadata().get("server-timing").and_then(|timing| timing.to_str().ok());
    timing.map(StageTimes::from_server_timing).unwrap_or_default()
}

fn pick<T>(from: &[T], number: u64) -> Option<&T> {
    from.get(usize::try_from(number % from.len().max(1) as u64).unwrap_or(0))
}

/// Asks for the embedding of a photo; the first with a face tells.
async fn pack_of(channel: Channel, photos: &[Vec<u8>]) -> anyhow::Result<Pack> {
    let mut client = FaceServiceClient::new(channel).max_decoding_message_size(REPLY_BYTES_MAX);
    for data in photos {
        let request = proto::EmbedRequest { photo: Some(proto::Photo { data: data.clone() }), ..Default::default() };
        let reply = match client.embed(request).await {
            Ok(reply) => reply.into_inner(),
            Err(status) if status.code() == Code::InvalidArgument => continue,
            Err(status) => return Err(failed(status)),
        };
        if let Some(embedding) = reply.embedded_faces.into_iter().find_map(|face| face.embedding) {
            return Ok(Pack { id: embedding.pack_id, dimension: embedding.values.len() });
        }
    }
    anyhow::ensure!(photos.is_empty(), "none of the photos has a face");
    Ok(Pack { id: "0".repeat(32), dimension: 512 })
}

/// Returns the gallery, made where there is none and it is to be.
async fn synthetic_gallery(
    channel: Channel,
    output: &Output,
    pack: &Pack,
    gallery_id: &str,
    templates: Option<u64>,
) -> anyhow::Result<proto::Gallery> {
    let mut client = GalleryServiceClient::new(channel);
    let request = proto::GetGalleryRequest { gallery_id: gallery_id.to_owned() };
    match client.get_gallery(request).await {
        Ok(reply) => return reply.into_inner().gallery.context("a reply without the gallery"),
        Err(status) if status.code() != Code::NotFound => return Err(failed(status)),
        Err(status) if templates.is_none() => {
            return Err(failed(status)).context("make one with --synthetic TEMPLATES");
        }
        Err(_) => {}
    }
    let templates = templates.unwrap_or_default();
    let wanted = SyntheticGallery {
        gallery: GalleryId::parse(gallery_id)?,
        pack_id: PackId::parse(&pack.id)?,
        dimension: pack.dimension,
        seed: SEED,
        templates,
    };
    let bar = output.progress(usize::try_from(templates)?, "templates");
    let (sender, parts) = tokio::sync::mpsc::channel(2);
    let first = proto::ImportGalleryRequest { gallery_id: gallery_id.to_owned(), ..Default::default() };
    let shown = bar.clone();
    let made = tokio::task::spawn_blocking(move || {
        let gone = || Error::Unavailable("the server has ended the import");
        sender.blocking_send(first).map_err(|_| gone())?;
        write_synthetic(&wanted, |data, templates| {
            shown.set_position(templates);
            let part = proto::ImportGalleryRequest { data: data.to_vec(), ..Default::default() };
            sender.blocking_send(part).map_err(|_| gone())
        })
    });
    let reply = client.import_gallery(ReceiverStream::new(parts)).await.map_err(failed)?;
    made.await??;
    bar.finish_and_clear();
    reply.into_inner().gallery.context("a reply without the gallery")
}

/// Other templates of people of the gallery, and of a few who are not in it.
fn probes(gallery: &proto::Gallery, dimension: usize) -> Vec<proto::Embedding> {
    let people = Synthetic::new(SEED, dimension);
    let identities = gallery.identity_count.max(1);
    let probe = |number: u64| {
        let identity = if number % 10 == 9 { identities + number } else { number * 7_919 % identities };
        proto::Embedding { values: people.template(identity, 1_000 + number), pack_id: gallery.pack_id.clone() }
    };
    (0..PROBES).map(probe).collect()
}

fn read_photos(path: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut files = Vec::new();
    find_files(path, &mut files).with_context(|| format!("cannot read {}", path.display()))?;
    files.sort();
    let step = files.len().div_ceil(PHOTOS_MAX).max(1);
    let photos = files.iter().step_by(step).map(std::fs::read).collect::<Result<Vec<_>, _>>()?;
    anyhow::ensure!(!photos.is_empty(), "there is no photo in {}", path.display());
    Ok(photos)
}

fn find_files(path: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if path.is_dir() {
        for entry in std::fs::read_dir(path)? {
            find_files(&entry?.path(), files)?;
        }
    } else if path.is_file() {
        // Not a pipe or a device: they may give nothing, or never end.
        files.push(path.to_path_buf());
    }
    Ok(())
}

/// What a failed call is counted under: its reason, or where it has none its code.
pub(super) fn name_of(status: &Status) -> String {
    remote::reason(status).unwrap_or_else(|| format!("{:?}", status.code()))
}
