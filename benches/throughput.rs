//! What the engine adds to the time of its networks and its scan: photos enrolled in a stream against bare loops over the
//! same sessions, and searches over gRPC against an echo of the same messages and the scan alone.
//!
//! `FACEMATCH_SHARED=DIR cargo bench --bench throughput`, on a machine that does nothing else: times are by the clock, and
//! where cores are shared they are no comparison, also in rounds that take turns (see the README here). A ratio above 1 is
//! the sign of it. Medians are told. `PHOTOS` and `ROUNDS` for other numbers.
//!
//! `-- rounds PACK SIDES` enrols the photos once for each line of its input, and answers with the photos a second: one side
//! of `insightface_compare.sh`.

#[path = "../tests/common/mod.rs"]
mod common;

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use facematch::biometrics::face::FaceSelection;
use facematch::biometrics::ids::{GalleryId, PackId};
use facematch::biometrics::template::Template;
use facematch::contract as proto;
use facematch::contract::match_service_client::MatchServiceClient;
use facematch::contract::match_service_server::{MatchService, MatchServiceServer};
use facematch::decode::{PhotoLimits, decode};
use facematch::detect::input::Letterbox;
use facematch::detect::scales::Scales;
use facematch::embed::{CHIP_SIDE_PX, Chip};
use facematch::gallery::{EmbeddedGalleries, Scope, Search, Synthetic, SyntheticGallery, write_synthetic};
use facematch::model::{DetectorSession, Pack, PackSource, RecognizerSession, Tuning};
use facematch::pipeline::{DetectionSettings, Pipeline};
use facematch::tensor::Tensor;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Channel;

/// Photos whose tensors the bare loops hold ready; more would not fit into memory at the largest side.
const READY: usize = 32;

/// As many templates as the search is measured at.
const TEMPLATES: u64 = 100_000;
const DIMENSION: usize = 512;
const SEED: u64 = 1;

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn main() {
    let Some(shared) = common::shared("the throughput benchmark") else { return };
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, "rounds", pack, sides, ..] => answer_rounds(&shared, Path::new(pack), sides),
        _ => {
            for (detector, recognizer, sides) in [
                ("insightface_det_500m.onnx", "arcface_mobilefacenet_y1_128.onnx", ""),
                ("insightface_det_500m.onnx", "arcface_mobilefacenet_y1_128.onnx", "640"),
                ("insightface_det_500m.onnx", "edgeface_xxs_512.onnx", ""),
                ("insightface_det_500m.onnx", "edgeface_xxs_512.onnx", "640"),
                ("insightface_det_2.5g.onnx", "edgeface_xs_512.onnx", ""),
            ] {
                enrolment(&shared, detector, recognizer, sides);
            }
            search(&shared);
        }
    }
}

/// A folder of two models, as InsightFace has them.
fn plain_pack(shared: &Path, detector: &str, recognizer: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for model in [detector, recognizer] {
        let path = shared.join("models").join(model).canonicalize().expect("a model");
        std::os::unix::fs::symlink(path, folder.path().join(model)).expect("a link");
    }
    folder
}

fn source(folder: &Path, tuning: Tuning) -> PackSource {
    let runtime_library = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
    PackSource { folder: folder.to_path_buf(), files: None, runtime_library, tuning }
}

/// Photos of LFW, one a person: `PHOTOS` of them.
fn photos(shared: &Path) -> Vec<Vec<u8>> {
    let entries = |folder: &Path| {
        let mut paths: Vec<PathBuf> =
            std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
        paths.sort();
        paths
    };
    let people = entries(&shared.join("faces/lfw/photos")).into_iter().filter(|path| path.is_dir());
    let first = people.filter_map(|person| entries(&person).into_iter().next()).take(number("PHOTOS", 200));
    first.map(|path| std::fs::read(path).expect("a photo")).collect()
}

fn sides(text: &str) -> Vec<u32> {
    text.split('+').filter(|side| !side.is_empty()).map(|side| side.parse().expect("a side")).collect()
}

/// A server and a caller that enrols all photos in a stream, into a new gallery each time.
struct Enroller {
    runtime: Runtime,
    running: common::Running,
    photos: Vec<Vec<u8>>,
    sides: Vec<u32>,
    round: usize,
    _data: tempfile::TempDir,
}

impl Enroller {
    fn new(shared: &Path, pack: &Path, sides: &[u32]) -> Self {
        let data = tempfile::tempdir().expect("a folder");
        let runtime = Runtime::new().expect("a runtime");
        let running = runtime.block_on(common::serve_plain_pack(pack, data.path()));
        Self { runtime, running, photos: photos(shared), sides: sides.to_vec(), round: 0, _data: data }
    }

    /// Photos a second, until the last is durable.
    fn round(&mut self) -> f64 {
        self.round += 1;
        let gallery = format!("round-{}", self.round);
        let item = |(key, photo): (usize, &Vec<u8>)| common::photo_item(&key.to_string(), "", photo.clone());
        let items: Vec<proto::BulkEnrollItem> = self.photos.iter().enumerate().map(item).collect();
        let detection = proto::DetectionOptions { input_sides_px: self.sides.clone(), score_min: None };
        let options = proto::BulkEnrollOptions { detection: Some(detection), ..common::bulk_options(&gallery) };
        self.runtime.block_on(async {
            self.running.create_gallery(&gallery).await;
            let started = Instant::now();
            let bulk = common::Bulk::open(self.running.enrollment(), options).await;
            let (results, summary) = bulk.all(items).await.expect("results");
            let time = started.elapsed();
            assert_eq!(results.len(), self.photos.len());
            // A photo of LFW or two have no face that is found.
            assert!(summary.enrolled_count as usize * 100 >= self.photos.len() * 97, "{summary:?}");
            results.len() as f64 / time.as_secs_f64()
        })
    }

    fn stop(self) {
        self.runtime.block_on(self.running.stop());
    }
}

fn answer_rounds(shared: &Path, pack: &Path, stated: &str) {
    let mut enroller = Enroller::new(shared, pack, &if stated == "default" { Vec::new() } else { sides(stated) });
    enroller.round();
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        line.expect("a line");
        println!("{}", enroller.round());
        std::io::stdout().flush().expect("flush");
    }
    enroller.stop();
}

/// What the networks alone take: tensors ready, a thread and a pair of sessions a core.
struct BareLoop {
    workers: Vec<(DetectorSession, RecognizerSession)>,
    inputs: Vec<(Vec<Tensor>, Tensor)>,
}

impl BareLoop {
    fn new(pack: &Arc<Pack>, photos: &[Vec<u8>], sides: &[u32]) -> Self {
        let open = || (pack.open_detector().expect("a detector"), pack.open_recognizer().expect("a recogniser"));
        let inputs = photos.iter().filter_map(|photo| inputs(pack, photo, sides)).take(READY).collect();
        Self { workers: (0..cores()).map(|_| open()).collect(), inputs }
    }

    /// Photos a second.
    fn round(&mut self, count: usize, with_detector: bool) -> f64 {
        let (next, inputs, started) = (AtomicUsize::new(0), &self.inputs, Instant::now());
        std::thread::scope(|scope| {
            for (detector, recognizer) in &mut self.workers {
                scope.spawn(|| {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        if index >= count {
                            return;
                        }
                        let (scales, chip) = &inputs[index % inputs.len()];
                        for input in scales.iter().filter(|_| with_detector) {
                            detector.run(input, |_| Ok(())).expect("detect");
                        }
                        recognizer.run(chip, |_| Ok(())).expect("embed");
                    }
                });
            }
        });
        count as f64 / started.elapsed().as_secs_f64()
    }
}

/// The tensors of a photo: of the detector, and of the largest face. `None` where none is found.
fn inputs(pack: &Arc<Pack>, photo: &[u8], sides: &[u32]) -> Option<(Vec<Tensor>, Tensor)> {
    let picture = decode(photo, &PhotoLimits::default()).expect("decode");
    let scales = Scales::from_sides("sides", sides).expect("sides");
    let long_px = picture.width().max(picture.height());
    let is_rectangle = scales == Scales::Auto && pack.detector.takes_rectangles;
    let tensor = |side: &u32| {
        let square = || Letterbox::square(&picture, *side, *side);
        let letterbox = if is_rectangle { Letterbox::rectangle(&picture, *side) } else { square() };
        let mut input = Tensor::default();
        letterbox.fill(&picture, &pack.detector.preprocessing, &mut input);
        input
    };
    let of_detector = scales.sides_px(long_px).iter().map(tensor).collect();
    let mut pipeline = Pipeline::open(Arc::clone(pack), PhotoLimits::default()).expect("a pipeline");
    let settings = DetectionSettings { scales, score_min: None };
    let acquired = pipeline.acquire(photo, &settings, FaceSelection::Largest).expect("acquire");
    let index = acquired.chosen.ok()?.first()?.0;
    let chip = Chip::cut(&picture, &acquired.detected.faces[index].landmarks)?;
    Some((of_detector, pack.recognizer.preprocessing.tensor(&[chip.pixels()], CHIP_SIDE_PX)))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn report(what: &str, value: f64, unit: &str) {
    println!("  {what:<62} {value:>9.1} {unit}");
}

/// The median of the quotients of rounds that ran one after the other.
fn ratio(of: &[f64], to: &[f64]) -> f64 {
    median(of.iter().zip(to).map(|(of, to)| of / to).collect())
}

fn enrolment(shared: &Path, detector: &str, recognizer: &str, stated: &str) {
    let stated_sides = sides(stated);
    let shown = if stated.is_empty() { "the engine's own scales" } else { stated };
    println!("{detector}, {recognizer}, {shown}, {} cores", cores());
    let folder = plain_pack(shared, detector, recognizer);
    let tuned = Tuning::Auto { cache: Some(common::cache_folder()) };
    let tuned = Arc::new(Pack::load(&source(folder.path(), tuned)).expect("a pack"));
    let untouched = Arc::new(Pack::load(&source(folder.path(), Tuning::Off)).expect("a pack"));
    let mut enroller = Enroller::new(shared, folder.path(), &stated_sides);
    let count = enroller.photos.len();
    let mut tuned = BareLoop::new(&tuned, &enroller.photos, &stated_sides);
    let mut untouched = BareLoop::new(&untouched, &enroller.photos, &stated_sides);
    enroller.round();
    let mut rates = [(); 4].map(|()| Vec::new());
    for _ in 0..number("ROUNDS", 7) {
        let round =
            [enroller.round(), tuned.round(count, true), tuned.round(count, false), untouched.round(count, false)];
        rates.iter_mut().zip(round).for_each(|(rates, rate)| rates.push(rate));
    }
    enroller.stop();
    let [enrolled, bare, embedded, untouched] = &rates;
    report("(1) BulkEnroll, durable, over loopback", median(enrolled.clone()), "photos/s");
    report("(2) bare loop over the same sessions, tensors ready", median(bare.clone()), "photos/s");
    report("(3) bare loop, recogniser alone, on aligned chips", median(embedded.clone()), "chips/s");
    report("(4) the same, the file as it is", median(untouched.clone()), "chips/s");
    println!("  (1) to (2) {:.3}; (3) to (4) {:.2}", ratio(enrolled, bare), ratio(embedded, untouched));
}

/// Answers every search with the same message.
struct Echo(proto::IdentifyResponse);

#[tonic::async_trait]
impl MatchService for Echo {
    async fn identify(
        &self,
        _request: tonic::Request<proto::IdentifyRequest>,
    ) -> Result<tonic::Response<proto::IdentifyResponse>, tonic::Status> {
        Ok(tonic::Response::new(self.0.clone()))
    }

    type IdentifyStreamStream = tokio_stream::Empty<Result<proto::IdentifyStreamResponse, tonic::Status>>;

    async fn identify_stream(
        &self,
        _request: tonic::Request<tonic::Streaming<proto::IdentifyStreamRequest>>,
    ) -> Result<tonic::Response<Self::IdentifyStreamStream>, tonic::Status> {
        Err(tonic::Status::unimplemented("an echo"))
    }
}

async fn echo(reply: proto::IdentifyResponse) -> Channel {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listen");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let server = tonic::transport::Server::builder().add_service(MatchServiceServer::new(Echo(reply)));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    Channel::from_shared(address).expect("an address").connect().await.expect("connect")
}

fn search(shared: &Path) {
    println!("Identify by embedding, {TEMPLATES} templates of {DIMENSION}, {} cores", cores());
    let pack = common::pack(shared, common::STRONG_PACK);
    let name = GalleryId::parse("people").expect("an id");
    let fill = |folder: &Path| {
        let galleries = EmbeddedGalleries::open(folder).expect("open");
        let wanted = SyntheticGallery {
            gallery: name.clone(),
            pack_id: pack.id.clone(),
            dimension: DIMENSION,
            seed: SEED,
            templates: TEMPLATES,
        };
        let mut import = galleries.begin_import(name.clone(), 0).expect("begin");
        write_synthetic(&wanted, |part, _| import.feed(part)).expect("feed");
        import.finish().expect("finish");
        galleries
    };
    // The server's and, for the scan alone, one with the same templates.
    let (served, scanned) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    fill(served.path()).close();
    let galleries = Arc::new(fill(scanned.path()));
    let runtime = Runtime::new().expect("a runtime");
    let running = runtime.block_on(common::serve(shared, served.path(), &[]));
    let request = request(0, &pack.id);
    let reply = runtime.block_on(running.matching().identify(request)).expect("identify").into_inner();
    assert_eq!(reply.candidates.len(), 5);
    let echo = runtime.block_on(echo(reply));
    for callers in [1, 2, 8] {
        let mut rates = [(); 3].map(|()| Vec::new());
        for _ in 0..number("ROUNDS", 7) {
            let round = [
                runtime.block_on(calls(&running.channel, callers, &pack.id)),
                runtime.block_on(calls(&echo, callers, &pack.id)),
                scans(&galleries, &name, callers, &pack.id),
            ];
            rates.iter_mut().zip(round).for_each(|(rates, rate)| rates.push(rate));
        }
        let [identified, echoed, scanned] = &rates;
        let bound: Vec<f64> = echoed.iter().zip(scanned).map(|(echo, scan)| 1.0 / (1.0 / echo + 1.0 / scan)).collect();
        println!(" {callers} at a time");
        report("Identify over loopback", median(identified.clone()), "calls/s");
        report("an echo of the same messages", median(echoed.clone()), "calls/s");
        report("the search alone", median(scanned.clone()), "searches/s");
        println!("  Identify to what echo and search together allow {:.3}", ratio(identified, &bound));
    }
    runtime.block_on(running.stop());
    galleries.close();
}

fn probe(number: usize) -> Vec<f32> {
    Synthetic::new(SEED, DIMENSION).template(number as u64 * 17 % 20_000, 1_000)
}

fn request(number: usize, pack: &PackId) -> proto::IdentifyRequest {
    let embedding = proto::Embedding { values: probe(number), pack_id: pack.as_str().to_owned() };
    proto::IdentifyRequest {
        gallery_id: "people".to_owned(),
        probe: Some(proto::Probe { probe: Some(proto::probe::Probe::Embedding(embedding)) }),
        ..Default::default()
    }
}

/// How long a round of searches lasts.
const ROUND: Duration = Duration::from_millis(700);

/// Calls a second.
async fn calls(channel: &Channel, callers: usize, pack: &PackId) -> f64 {
    let requests: Vec<proto::IdentifyRequest> = (0..64).map(|number| request(number, pack)).collect();
    let requests = Arc::new(requests);
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for caller in 0..callers {
        let (mut client, requests) = (MatchServiceClient::new(channel.clone()), Arc::clone(&requests));
        tasks.spawn(async move {
            let mut count = 0;
            while started.elapsed() < ROUND {
                let request = requests[(caller * 7 + count) % requests.len()].clone();
                client.identify(request).await.expect("identify");
                count += 1;
            }
            count
        });
    }
    let count: usize = tasks.join_all().await.into_iter().sum();
    count as f64 / started.elapsed().as_secs_f64()
}

/// Searches a second.
fn scans(galleries: &EmbeddedGalleries, name: &GalleryId, callers: usize, pack: &PackId) -> f64 {
    let template = |number| Template::from_vector(&probe(number), pack.clone()).expect("a template");
    let probes: Vec<Template> = (0..64).map(template).collect();
    let (count, started) = (AtomicUsize::new(0), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..callers {
            scope.spawn(|| {
                while started.elapsed() < ROUND {
                    let probe = probes[count.fetch_add(1, Ordering::Relaxed) % probes.len()].clone();
                    let search = Search { probe, capacity: 5, exact: false, scope: Scope::default() };
                    assert!(!galleries.search(name, search).expect("search").ranked.is_empty());
                }
            });
        }
    });
    count.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64()
}
