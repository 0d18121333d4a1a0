//! Templates of many photos, on this machine, with all cores, computed once a photo.

mod cache;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use sha2::{Digest, Sha256};
use tokio::task::JoinSet;

use self::cache::{Cache, Known};
use super::local;
use super::output::Output;
use crate::biometrics::face::FaceSelection;
use crate::biometrics::ids::PackId;
use crate::biometrics::template::Template;
use crate::config::Config;
use crate::error::Error;
use crate::model::Pack;
use crate::pipeline::{DetectionSettings, Pipeline, Pipelines};
use crate::runtime::{Caller, Workers};

/// SHA-256 of a photo's bytes.
type Hash = [u8; 32];

/// How photos become templates.
pub(super) struct Acquisition<'a> {
    pub config: &'a Config,
    pub output: &'a Output,
    pub settings: DetectionSettings,
    pub selection: FaceSelection,
    /// Where templates are kept, so that they are computed once; `None`: nowhere.
    pub cache: Option<&'a Path>,
}

/// What became of the photos.
pub(super) struct Acquired {
    pub pack: Arc<Pack>,
    /// Of each photo its template, or the reason that it has none: a failure to acquire.
    pub templates: Vec<Result<Template, String>>,
    /// How many were computed now; the others were kept from before, or are the same photo.
    pub computed: usize,
    pub seconds: f64,
}

impl Acquisition<'_> {
    /// Computes what is not kept from before. What is done when it is broken off is kept.
    ///
    /// *Errors*: a photo cannot be read; the models or the cache cannot be used. A photo without a face, or one that is no
    /// photo, is no error.
    pub async fn run(&self, photos: &[PathBuf]) -> anyhow::Result<Acquired> {
        let started = Instant::now();
        let pack = Pack::load(&self.config.pack_source()?).context("cannot load the model pack")?;
        let pack = Arc::new(pack);
        let mut cache = self.open_cache(&pack)?;
        let hashes = self.hashes(photos)?;
        let mut wanted: VecDeque<(Hash, PathBuf)> = VecDeque::new();
        let mut asked: std::collections::HashSet<Hash> = std::collections::HashSet::new();
        for (hash, photo) in hashes.iter().zip(photos) {
            if cache.get(hash).is_none() && asked.insert(*hash) {
                wanted.push_back((*hash, photo.clone()));
            }
        }
        let computed = wanted.len();
        if computed > 0 {
            self.compute(&pack, wanted, &mut cache).await?;
        }
        let template = |hash: &Hash| match cache.get(hash) {
            Some(Known::Template(values)) => {
                Template::from_unit_vector(values, pack.id.clone()).map_err(|error| error.reason().to_owned())
            }
            Some(Known::Failure(reason)) => Err(reason.clone()),
            None => Err("CHANGED_MEANWHILE".to_owned()),
        };
        let templates = hashes.iter().map(template).collect();
        Ok(Acquired { pack, templates, computed, seconds: started.elapsed().as_secs_f64() })
    }

    /// One file a pack and way of looking for faces: what another pack or setting made is never mixed in.
    fn open_cache(&self, pack: &Pack) -> anyhow::Result<Cache> {
        let Some(folder) = self.cache else { return Ok(Cache::in_memory()) };
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let settings = (&self.settings, self.selection, &pack.detector.head, pack.detector.score_min);
        // The detector is not in a pack's id, and decides which faces there are.
        let way = format!("{settings:?} {:?}", pack.detector_sha256());
        let way: String = Sha256::digest(way.as_bytes()).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        let path = folder.join(format!("{}-{way}.embeddings", pack.id));
        Cache::open(&path, pack.recognizer.dimension).with_context(|| format!("cannot use {}", path.display()))
    }

    /// Hashes photos on all cores.
    fn hashes(&self, photos: &[PathBuf]) -> anyhow::Result<Vec<Hash>> {
        let threads = self.config.workers.max(1);
        let part = photos.len().div_ceil(threads).max(1);
        let hash = |photo: &PathBuf| Ok(hash_of(&local::read_photo(photo)?));
        std::thread::scope(|scope| {
            let running: Vec<_> = photos
                .chunks(part)
                .map(|photos| scope.spawn(move || photos.iter().map(hash).collect::<anyhow::Result<Vec<_>>>()))
                .collect();
            let mut hashes = Vec::with_capacity(photos.len());
            for thread in running {
                hashes.extend(thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??);
            }
            Ok(hashes)
        })
    }

    async fn compute(
        &self,
        pack: &Arc<Pack>,
        mut wanted: VecDeque<(Hash, PathBuf)>,
        cache: &mut Cache,
    ) -> anyhow::Result<()> {
        let open = {
            let (pack, limits) = (Arc::clone(pack), self.config.photo);
            move || Pipelines::open(&pack, &[], limits)
        };
        let count = self.config.workers.min(wanted.len()).max(1);
        let pipelines: Result<Vec<_>, _> = (0..count).map(|_| open()).collect();
        let pipelines = pipelines.context("cannot open the model pack's networks")?;
        let workers = Arc::new(Workers::start(pipelines, count, open).context("cannot start the workers")?);
        let bar = self.output.progress(wanted.len(), "photos");
        let mut jobs: JoinSet<anyhow::Result<(Hash, Known)>> = JoinSet::new();
        let result = loop {
            while jobs.len() < 2 * count
                && let Some((hash, photo)) = wanted.pop_front()
            {
                let job = One { photo, settings: self.settings.clone(), selection: self.selection };
                jobs.spawn(job.run(Arc::clone(&workers), hash));
            }
            match jobs.join_next().await {
                None => break cache.flush().context("cannot write the embeddings"),
                Some(Ok(Ok((hash, known)))) => {
                    bar.inc(1);
                    if let Err(error) = cache.put(hash, known) {
                        break Err(error).context("cannot write the embeddings");
                    }
                }
                Some(Ok(Err(error))) => break Err(error),
                Some(Err(error)) => break Err(error.into()),
            }
        };
        bar.finish_and_clear();
        jobs.shutdown().await;
        tokio::task::spawn_blocking(move || workers.stop()).await?;
        result
    }
}

/// One photo on its way.
struct One {
    photo: PathBuf,
    settings: DetectionSettings,
    selection: FaceSelection,
}

impl One {
    async fn run(self, workers: Arc<Workers>, hash: Hash) -> anyhow::Result<(Hash, Known)> {
        let name = self.photo.clone();
        let mut place = workers.wait_for_place(Caller(None)).await?;
        let known = workers.run(&mut place, move |pipelines| Ok(self.acquire(pipelines.first(), &hash))).await;
        Ok((hash, known.with_context(|| format!("cannot use {}", name.display()))??))
    }

    fn acquire(&self, pipeline: &mut Pipeline, hash: &Hash) -> anyhow::Result<Known> {
        let bytes = local::read_photo(&self.photo)?;
        anyhow::ensure!(hash_of(&bytes) == *hash, "{} changed while it was read", self.photo.display());
        match pipeline.acquire(&bytes, &self.settings, self.selection).map(|acquired| acquired.chosen) {
            Ok(Ok(chosen)) => match chosen.into_iter().next() {
                Some((_, template)) => Ok(Known::Template(template.values().into())),
                None => Ok(Known::Failure("NO_FACE".to_owned())),
            },
            Ok(Err(reason)) => Ok(Known::Failure(Error::from(reason).reason().to_owned())),
            Err(error @ Error::Photo(_)) => Ok(Known::Failure(error.reason().to_owned())),
            Err(error) => Err(local::photo_fault(&self.photo, error)),
        }
    }
}

fn hash_of(bytes: &[u8]) -> Hash {
    Sha256::digest(bytes).into()
}

/// Counts reasons.
pub(super) fn by_reason<'a>(reasons: impl Iterator<Item = &'a String>) -> std::collections::BTreeMap<&'a str, u64> {
    reasons.fold(std::collections::BTreeMap::new(), |mut counts, reason| {
        *counts.entry(reason.as_str()).or_default() += 1;
        counts
    })
}

/// The pack that a report was made with must be the one in use.
pub(super) fn check_pack(stated: &str, pack: &PackId) -> anyhow::Result<()> {
    anyhow::ensure!(
        stated == pack.as_str(),
        "the curve is of pack {stated}, and the pack in use is {pack}: their scores mean different things"
    );
    Ok(())
}
