//! What the tests share: real models and photos, where they are, and what to do where they are not.
#![allow(dead_code, reason = "each test file is a program of its own and uses a part")]

pub mod decoders;
pub mod packs;
pub mod program;
pub mod samples;
pub mod site;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use facematch::config::Config;
use facematch::contract::enrollment_service_client::EnrollmentServiceClient;
use facematch::contract::face_service_client::FaceServiceClient;
use facematch::contract::gallery_service_client::GalleryServiceClient;
use facematch::contract::match_service_client::MatchServiceClient;
use facematch::contract::{self as proto};
use facematch::decode::PhotoLimits;
use facematch::model::{Pack, PackSource, Tuning};
use facematch::pipeline::Pipeline;
use facematch::server::Server;
use tonic::Status;
use tonic::transport::Channel;
use tonic_types::StatusExt;

/// The strongest of the test packs: SCRFD-2.5g and EdgeFace-XS.
pub const STRONG_PACK: &str = "scrfd25-edgeface-xs";

/// Every test pack; together they hold every output layout, dimension, preprocessing and batch that the engine reads.
pub const PACKS: [&str; 5] =
    [STRONG_PACK, "scrfd500-edgeface-xxs", "scrfd25kps-y1", "scrfd500named-y1raw", "yunet-foamliu"];

/// The folder with real models and photos, or `None`, after saying so, where this machine has none.
///
/// In CI its absence is a failure. Elsewhere the test counts as skipped: it is named on stderr and in the file
/// `FACEMATCH_SKIPPED`, whose lines `make test` counts.
pub fn shared(test: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = std::env::var_os("FACEMATCH_SHARED").map_or_else(|| root.join("../shared"), PathBuf::from);
    if folder.join("models").is_dir() {
        return Some(folder);
    }
    assert!(std::env::var_os("CI").is_none(), "{test}: {} is missing, which CI must have", folder.display());
    eprintln!("skipped {test}: no models and photos at {} (FACEMATCH_SHARED)", folder.display());
    if let Some(list) = std::env::var_os("FACEMATCH_SKIPPED") {
        let mut list = std::fs::OpenOptions::new().create(true).append(true).open(list).expect("open the list");
        writeln!(list, "{test}").expect("write the list");
    }
    None
}

/// Where a test pack lies.
pub fn pack_source(shared: &Path, name: &str) -> PackSource {
    PackSource {
        folder: Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/packs").join(name),
        files: Some(shared.join("models")),
        runtime_library: std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from),
        tuning: Tuning::Auto { cache: Some(cache_folder()) },
    }
}

/// Where the tests keep tuned networks: the first that needs one tunes it for all.
pub fn cache_folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("tuned")
}

pub fn pack(shared: &Path, name: &str) -> Arc<Pack> {
    Arc::new(Pack::load(&pack_source(shared, name)).unwrap_or_else(|error| panic!("load {name}: {error}")))
}

pub fn pipeline(shared: &Path, name: &str) -> Pipeline {
    Pipeline::open(pack(shared, name), PhotoLimits::default()).expect("open the pipeline")
}

/// Runs a job over items with a pipeline a core; results in the order of the items.
pub fn over_all_cores<T: Sync, R: Send>(
    pack: &Arc<Pack>,
    items: &[T],
    job: impl Fn(&mut Pipeline, &T) -> R + Sync,
) -> Vec<R> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let next = std::sync::atomic::AtomicUsize::new(0);
    let worker = || {
        let mut pipeline = Pipeline::open(Arc::clone(pack), PhotoLimits::default()).expect("open the pipeline");
        let mut done = Vec::new();
        while let Some((index, item)) = {
            let index = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            items.get(index).map(|item| (index, item))
        } {
            done.push((index, job(&mut pipeline, item)));
        }
        done
    };
    let mut done: Vec<(usize, R)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(worker)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a worker")).collect()
    });
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

/// The value below which a share of the values lies; `values` must not be empty.
pub fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share).round() as usize]
}

/// A server on a free port of the loopback, and a connection to it.
pub struct Running {
    pub server: Server,
    pub channel: Channel,
}

/// Starts a server with the strong pack on a data folder; `settings` are those of `facematch serve`, by key.
pub async fn serve(shared: &Path, data: &Path, settings: &[(&str, &str)]) -> Running {
    let pack = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/packs").join(STRONG_PACK);
    serve_pack(shared, &pack, data, settings).await
}

/// Starts a server with a plain folder of models as its pack.
pub async fn serve_plain_pack(pack: &Path, data: &Path) -> Running {
    start(pack, data, &[]).await
}

/// Starts a server with another pack.
pub async fn serve_pack(shared: &Path, pack: &Path, data: &Path, settings: &[(&str, &str)]) -> Running {
    let models = shared.join("models");
    let files = ("pack_files", models.to_str().expect("a UTF-8 path"));
    start(pack, data, &[settings, &[files]].concat()).await
}

/// Starts a server with the starter pack, which needs nothing but this repository.
pub async fn serve_starter(data: &Path, settings: &[(&str, &str)]) -> Running {
    start(&starter_pack(), data, settings).await
}

/// Starts one whose settings are changed further than settings can be stated.
pub async fn serve_starter_with(data: &Path, settings: &[(&str, &str)], change: impl FnOnce(&mut Config)) -> Running {
    let mut config = config(&starter_pack(), data, settings);
    change(&mut config);
    connect(Server::start(&config).await.expect("start a server")).await
}

pub fn starter_pack() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/starter")
}

async fn start(pack: &Path, data: &Path, settings: &[(&str, &str)]) -> Running {
    connect(start_server(pack, data, settings).await.expect("start a server")).await
}

async fn connect(server: Server) -> Running {
    let address = format!("http://{}", server.address());
    let channel = Channel::from_shared(address).expect("an address").connect().await.expect("connect");
    Running { server, channel }
}

/// Starts a server without connecting to it.
pub async fn start_server(
    pack: &Path,
    data: &Path,
    settings: &[(&str, &str)],
) -> Result<Server, facematch::server::ServerError> {
    Server::start(&config(pack, data, settings)).await
}

fn config(pack: &Path, data: &Path, settings: &[(&str, &str)]) -> Config {
    let text = |path: &Path| path.to_str().expect("a UTF-8 path").to_owned();
    let mut flags: BTreeMap<String, String> =
        settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    flags.insert("listen".to_owned(), "127.0.0.1:0".to_owned());
    flags.insert("data".to_owned(), text(data));
    flags.insert("cache".to_owned(), text(&cache_folder()));
    flags.insert("pack".to_owned(), text(pack));
    // Settings of whoever runs the tests are not the tests'; where the runtime library lies is.
    if let Some(library) = std::env::var("ORT_DYLIB_PATH").ok().filter(|path| !path.is_empty()) {
        flags.insert("runtime_library".to_owned(), library);
    }
    let mut config = Config::load_from(&flags, None, |_| None).expect("settings");
    if let Some(isolation) = &mut config.isolation {
        *isolation = decoders::isolation(&config.photo);
    }
    config
}

impl Running {
    pub fn faces(&self) -> FaceServiceClient<Channel> {
        FaceServiceClient::new(self.channel.clone()).max_decoding_message_size(64 << 20)
    }

    pub fn galleries(&self) -> GalleryServiceClient<Channel> {
        GalleryServiceClient::new(self.channel.clone())
    }

    pub fn enrollment(&self) -> EnrollmentServiceClient<Channel> {
        EnrollmentServiceClient::new(self.channel.clone())
    }

    pub fn matching(&self) -> MatchServiceClient<Channel> {
        MatchServiceClient::new(self.channel.clone())
    }

    pub async fn stop(self) {
        drop(self.channel);
        self.server.stop().await.expect("stop the server");
    }

    /// Makes a gallery with default settings.
    pub async fn create_gallery(&self, gallery_id: &str) -> proto::Gallery {
        let gallery = proto::Gallery { gallery_id: gallery_id.to_owned(), ..Default::default() };
        self.create_gallery_with(gallery).await.expect("create a gallery")
    }

    /// Makes a gallery with the settings stated.
    pub async fn create_gallery_with(&self, gallery: proto::Gallery) -> Result<proto::Gallery, Status> {
        let request = proto::CreateGalleryRequest { gallery: Some(gallery) };
        let reply = self.galleries().create_gallery(request).await?.into_inner();
        Ok(reply.gallery.expect("the gallery"))
    }

    /// Changes the settings of a gallery that a mask names.
    pub async fn update_gallery(&self, gallery: proto::Gallery, mask: &[&str]) -> Result<proto::Gallery, Status> {
        let paths = mask.iter().map(|field| (*field).to_owned()).collect();
        let update_mask = Some(prost_types::FieldMask { paths });
        let request = proto::UpdateGalleryRequest { gallery: Some(gallery), update_mask };
        let reply = self.galleries().update_gallery(request).await?.into_inner();
        Ok(reply.gallery.expect("the gallery"))
    }

    /// A gallery as it is now.
    pub async fn gallery(&self, gallery_id: &str) -> proto::Gallery {
        let request = proto::GetGalleryRequest { gallery_id: gallery_id.to_owned() };
        let reply = self.galleries().get_gallery(request).await.expect("get a gallery").into_inner();
        reply.gallery.expect("the gallery")
    }

    /// Waits until a gallery's graph is in use.
    pub async fn wait_for_graph(&self, gallery_id: &str) {
        let started = std::time::Instant::now();
        while self.gallery(gallery_id).await.search_path() != proto::SearchPath::Graph {
            assert!(started.elapsed() < std::time::Duration::from_secs(60), "the graph of {gallery_id} is in use");
        }
    }

    /// Enrols photos or embeddings of one person.
    pub async fn enroll(
        &self,
        gallery_id: &str,
        identity_id: &str,
        sources: Vec<proto::sample::Source>,
    ) -> Result<proto::EnrollResponse, Status> {
        let sample = |source| proto::Sample { source: Some(source), template_id: String::new() };
        let request = proto::EnrollRequest {
            gallery_id: gallery_id.to_owned(),
            identity_id: identity_id.to_owned(),
            samples: sources.into_iter().map(sample).collect(),
            if_exists: proto::IfExists::Add.into(),
            ..Default::default()
        };
        self.enrollment().enroll(request).await.map(tonic::Response::into_inner)
    }

    /// Searches a gallery with its own settings.
    pub async fn identify(
        &self,
        gallery_id: &str,
        probe: proto::probe::Probe,
    ) -> Result<proto::IdentifyResponse, Status> {
        let request = proto::IdentifyRequest {
            gallery_id: gallery_id.to_owned(),
            probe: Some(proto::Probe { probe: Some(probe) }),
            ..Default::default()
        };
        self.matching().identify(request).await.map(tonic::Response::into_inner)
    }

    /// Computes the embedding of a photo's largest face.
    pub async fn embed(&self, data: Vec<u8>) -> proto::Embedding {
        let request = proto::EmbedRequest { photo: Some(proto::Photo { data }), ..Default::default() };
        let reply = self.faces().embed(request).await.expect("embed").into_inner();
        reply.embedded_faces.into_iter().next().and_then(|face| face.embedding).expect("an embedding")
    }
}

/// Stands between clients and a server, so that their connections can be cut. (tonic ends no call whose replies alone are
/// dropped: what it sends goes on.)
pub struct Proxy {
    pub address: std::net::SocketAddr,
    server: Arc<std::sync::Mutex<std::net::SocketAddr>>,
    connections: Arc<std::sync::Mutex<tokio::task::JoinSet<()>>>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Proxy {
    pub async fn start(server: std::net::SocketAddr) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let address = listener.local_addr().expect("an address");
        let connections = Arc::new(std::sync::Mutex::new(tokio::task::JoinSet::new()));
        let accepted = Arc::clone(&connections);
        let server = Arc::new(std::sync::Mutex::new(server));
        let leads_to = Arc::clone(&server);
        let accepting = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let server = *leads_to.lock().expect("the lock");
                accepted.lock().expect("the lock").spawn(async move {
                    // Where there is none, the client sees its connection end.
                    let Ok(mut server) = tokio::net::TcpStream::connect(server).await else { return };
                    // A cut is no fault of either side.
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self { address, server, connections, accepting }
    }

    /// Leads new connections to another server.
    pub fn lead_to(&self, server: std::net::SocketAddr) {
        *self.server.lock().expect("the lock") = server;
    }

    /// Cuts all connections; new ones are taken.
    pub fn cut(&self) {
        self.connections.lock().expect("the lock").abort_all();
    }

    /// A connection through it.
    pub async fn connect(&self) -> Channel {
        let endpoint = Channel::from_shared(format!("http://{}", self.address)).expect("an address");
        endpoint.connect().await.expect("connect")
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A stream of bulk enrolment as its caller holds it.
pub struct Bulk {
    pub sender: tokio::sync::mpsc::Sender<proto::BulkEnrollRequest>,
    pub replies: tonic::Streaming<proto::BulkEnrollResponse>,
}

impl Bulk {
    /// Opens a stream; nothing is sent ahead of what the server reads but one message.
    pub async fn open(mut client: EnrollmentServiceClient<Channel>, options: proto::BulkEnrollOptions) -> Self {
        let (sender, requests) = tokio::sync::mpsc::channel(1);
        let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
        let message = Some(proto::bulk_enroll_request::Message::Options(options));
        sender.send(proto::BulkEnrollRequest { message }).await.expect("an open stream");
        let replies = client.bulk_enroll(requests).await.expect("a stream").into_inner();
        Self { sender, replies }
    }

    pub fn request(item: proto::BulkEnrollItem) -> proto::BulkEnrollRequest {
        proto::BulkEnrollRequest { message: Some(proto::bulk_enroll_request::Message::Item(item)) }
    }

    /// The next result; `None` where the summary or the end has come.
    pub async fn result(&mut self) -> Result<Option<proto::BulkEnrollResult>, Status> {
        match self.replies.message().await?.and_then(|reply| reply.message) {
            Some(proto::bulk_enroll_response::Message::Result(result)) => Ok(Some(result)),
            _ => Ok(None),
        }
    }

    /// Sends items and reads all results and the summary.
    pub async fn all(
        self,
        items: Vec<proto::BulkEnrollItem>,
    ) -> Result<(Vec<proto::BulkEnrollResult>, proto::BulkEnrollSummary), Status> {
        let Self { sender, mut replies } = self;
        let send = async move {
            for item in items {
                // The stream may end before: its status says why.
                if sender.send(Self::request(item)).await.is_err() {
                    break;
                }
            }
        };
        let receive = async {
            let (mut results, mut summary) = (Vec::new(), None);
            while let Some(reply) = replies.message().await? {
                assert!(summary.is_none(), "the summary is the last message");
                match reply.message.expect("a message") {
                    proto::bulk_enroll_response::Message::Result(result) => results.push(result),
                    proto::bulk_enroll_response::Message::Summary(last) => summary = Some(last),
                }
            }
            Ok((results, summary.expect("a summary")))
        };
        tokio::join!(send, receive).1
    }
}

/// Options of bulk enrolment into a gallery.
pub fn bulk_options(gallery_id: &str) -> proto::BulkEnrollOptions {
    proto::BulkEnrollOptions { gallery_id: gallery_id.to_owned(), ..Default::default() }
}

/// A photo to enrol.
pub fn photo_item(key: &str, identity_id: &str, data: Vec<u8>) -> proto::BulkEnrollItem {
    proto::BulkEnrollItem {
        idempotency_key: key.to_owned(),
        identity_id: identity_id.to_owned(),
        source: Some(proto::bulk_enroll_item::Source::Photo(proto::Photo { data })),
        ..Default::default()
    }
}

/// An embedding to enrol, of the strong pack's dimension: one a seed.
pub fn embedding_item(key: &str, seed: u64, pack_id: &str) -> proto::BulkEnrollItem {
    let embedding = proto::Embedding { values: direction(512, seed), pack_id: pack_id.to_owned() };
    proto::BulkEnrollItem {
        idempotency_key: key.to_owned(),
        source: Some(proto::bulk_enroll_item::Source::Embedding(embedding)),
        ..Default::default()
    }
}

/// Galleries without a server: people of [`Synthetic`], 128 numbers a template.
pub mod people {
    use std::collections::BTreeMap;
    use std::time::SystemTime;

    use facematch::biometrics::ids::{GalleryId, IdentityId, PackId, TemplateId};
    use facematch::biometrics::template::Template;
    use facematch::gallery::{
        EmbeddedGalleries, EnrolledTemplate, Enrollment, GallerySettings, Identity, IdentityChange, IfExists,
        MetadataValue, Scope, Search, SearchPolicy, Synthetic,
    };

    pub const DIMENSION: usize = 128;

    pub fn gallery(id: &str) -> GalleryId {
        GalleryId::parse(id).expect("an id")
    }

    pub fn identity(number: u64) -> IdentityId {
        IdentityId::parse(&format!("p{number:06}")).expect("an id")
    }

    pub fn pack() -> PackId {
        PackId::parse(&"0a".repeat(16)).expect("an id")
    }

    pub fn template(number: u64, which: u64) -> Template {
        let values = Synthetic::new(1, DIMENSION).template(number, which);
        Template::from_vector(&values, pack()).expect("a template")
    }

    /// Enrols templates of one person, or adds them; with metadata by which they can be found.
    pub fn enrollment(number: u64, which: &[u64]) -> Enrollment {
        let enrolled = which.iter().map(|which| EnrolledTemplate {
            id: TemplateId::parse(&which.to_string()).expect("an id"),
            template: template(number, *which),
            face: None,
            chip: None,
            created: SystemTime::now(),
        });
        let metadata = [("number".to_owned(), MetadataValue::Number(number as f64))];
        Enrollment {
            identity: identity(number),
            change: IdentityChange { display_name: Some(format!("Person {number}")), metadata: Some(metadata.into()) },
            templates: enrolled.collect(),
            if_exists: IfExists::Add,
            check_defaults: Default::default(),
            may_refuse_all: false,
            identities_max: None,
        }
    }

    pub fn settings(search_policy: SearchPolicy) -> GallerySettings {
        GallerySettings { display_name: "People".to_owned(), search_policy, ..Default::default() }
    }

    pub async fn create(galleries: &EmbeddedGalleries, id: &str) {
        let settings = settings(SearchPolicy::Exact);
        galleries.create_gallery(gallery(id), settings, pack(), DIMENSION).await.expect("create a gallery");
    }

    /// Every identity of a gallery, whole, by id.
    pub fn all(galleries: &EmbeddedGalleries, id: &str) -> BTreeMap<String, Identity> {
        let keep = |id: &IdentityId, identity| (id.as_str().to_owned(), identity);
        let page = galleries.list_identities(&gallery(id), None, usize::MAX, keep).expect("list");
        page.items.into_iter().map(|(id, identity)| (id, identity.expect("an undamaged record"))).collect()
    }

    /// The identity that scores best, and its score.
    pub fn best(galleries: &EmbeddedGalleries, id: &str, probe: Template) -> Option<(IdentityId, f32)> {
        let search = Search { probe, capacity: 1, exact: true, scope: Scope::default() };
        let outcome = galleries.search(&gallery(id), search).expect("search");
        outcome.ranked.into_iter().next().map(|ranked| (ranked.identity, ranked.score.cosine()))
    }

    /// Holds a gallery's index against its store: each template is found, and there is nothing else.
    #[track_caller]
    pub fn assert_index_agrees(galleries: &EmbeddedGalleries, id: &str, context: &str) {
        let stored = all(galleries, id);
        let (_, status) = galleries.gallery(&gallery(id)).expect("the gallery");
        let templates: usize = stored.values().map(|identity| identity.templates.len()).sum();
        let counts = (status.counts.identities, status.counts.templates);
        assert_eq!(counts, (stored.len() as u64, templates as u64), "{context}");
        for identity in stored.values() {
            for enrolled in &identity.templates {
                let (found, score) = best(galleries, id, enrolled.template.clone()).expect("somebody");
                assert!(found == identity.id && score > 0.999, "{context}: {score}");
            }
        }
    }
}

/// Writes a file that its owner alone may read.
pub fn write_secret(path: &Path, text: &str) {
    std::fs::write(path, text).expect("write a secret");
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("its mode");
}

/// The stable reason of a failed call.
pub fn reason(status: &Status) -> String {
    status.get_details_error_info().expect("an ErrorInfo").reason
}

/// The fields that a failed call names.
pub fn fields(status: &Status) -> String {
    let violations = status.get_details_bad_request().map(|request| request.field_violations).unwrap_or_default();
    violations.into_iter().map(|violation| violation.field).collect::<Vec<_>>().join(",")
}

/// The facts of a failed call.
pub fn facts(status: &Status) -> std::collections::HashMap<String, String> {
    status.get_details_error_info().expect("an ErrorInfo").metadata
}

/// A photo of LFW, by person and number.
pub fn lfw_photo(shared: &Path, person: &str, number: usize) -> Vec<u8> {
    let path = shared.join(format!("faces/lfw/photos/{person}/{person}_{number:04}.jpg"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
}

/// A picture as a PNG file.
pub fn png(picture: &image::RgbImage) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, image::ImageFormat::Png).expect("encode a picture");
    bytes.into_inner()
}

/// Unit vectors that are nearly orthogonal, like templates of different people: one a seed.
pub fn direction(dimension: usize, seed: u64) -> Vec<f32> {
    let mut state = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..8).for_each(|_| {
        next();
    });
    let values: Vec<f32> = (0..dimension).map(|_| next()).collect();
    let norm = values.iter().map(|value| value * value).sum::<f32>().sqrt();
    values.into_iter().map(|value| value / norm).collect()
}
