//! Settings: defaults < file < environment < flags → one checked [`Config`]. Nothing else reads the environment.

mod caller;
mod reading;
mod reference;
mod security;
mod settings;
mod store;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

pub use self::reading::{Origin, Reading, StatedSetting};
pub use self::reference::reference;
use crate::decode::{Isolation, PhotoLimits};
use crate::gallery::{KeyError, MasterKey};
use crate::model::{PackSource, Proxy, Tuning, shown_address};
use crate::runtime::machine;

pub use caller::{Caller, KEY_ENV};
pub use security::{ClientCertificates, Security, TlsFiles};
use settings::OTHER_NAMES;
pub use settings::{SETTINGS, Scope, Setting};
use store::Store;

/// Environment variable that names the file; `facematch.toml` in the working folder is read where it exists.
pub const FILE_ENV: &str = "FACEMATCH_CONFIG";
const FILE_DEFAULT: &str = "facematch.toml";

/// The key itself. No flag and no line of the file says it: both are read by more people than should know it.
const ENCRYPTION_KEY_ENV: &str = "FACEMATCH_ENCRYPTION_KEY";

/// Limits of the limits: what a machine can hold, and what keeps one setting in step with another.
const WORKERS_MAX: usize = 1_024;
const QUEUE_LIMIT: usize = 100_000;
const MESSAGE_BYTES_LIMIT: usize = 1 << 30;
const TIME_LIMIT_MS: u64 = 24 * 3_600 * 1_000;

/// What follows the machine where nothing is stated. With one photo waiting a worker, no worker is ever idle while there is
/// work, and the last one in is answered in twice the time of one: three times, where the callers take processor time too.
const WAITING_A_WORKER: usize = 1;
const CALLS_A_CORE: usize = 128;
const CALLS_MIN: usize = 256;

/// The share of the memory that messages may take, and photos in hand: most is the galleries'.
const MEMORY_SHARE: u64 = 8;
const MEMORY_UNKNOWN_BYTES: u64 = 2 << 30;

/// RGB, and once more while it is turned upright.
const DECODED_BYTES_A_PIXEL: usize = 6;

fn or_else_of_zero(stated: usize, default: usize) -> usize {
    if stated == 0 { default } else { stated }
}

/// Checked settings.
#[derive(Clone, Debug)]
pub struct Config {
    pack: Option<String>,
    pack_files: Option<PathBuf>,
    other_packs: Vec<String>,
    models: Option<PathBuf>,
    runtime_library: Option<PathBuf>,
    tuning: Tuning,
    /// The file of packs that are known by name; `None` is the program's own.
    pub catalogue: Option<PathBuf>,
    /// Where to fetch packs in place of their publishers' addresses.
    pub mirror: Option<String>,
    /// The proxy to fetch packs through.
    pub proxy: Proxy,
    /// What a photo may cost.
    pub photo: PhotoLimits,
    /// How photos are decoded in processes of their own; `None`: they are not.
    pub isolation: Option<Isolation>,
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Folder of the store that is on this machine.
    pub data: PathBuf,
    store: Store,
    encryption_key_file: Option<PathBuf>,
    encryption_key: Option<MasterKey>,
    /// Threads that turn photos into templates.
    pub workers: usize,
    /// Photos of calls that may wait for a worker.
    pub queue_max: usize,
    /// How long the last search in may have to wait.
    pub search_wait_max: Duration,
    /// Calls in at a time.
    pub calls_max: usize,
    /// Bytes of all calls' messages at a time.
    pub in_flight_bytes_max: usize,
    /// Pixels of all photos in hand.
    pub in_flight_pixels_max: usize,
    /// Largest message.
    pub message_bytes_max: usize,
    /// Longest time of a call.
    pub call_time_max: Duration,
    /// Longest wait for calls that are in when stopping.
    pub drain_time_max: Duration,
    /// Who may connect and call.
    pub security: Security,
    /// Address to serve Prometheus on.
    pub metrics_listen: Option<SocketAddr>,
    /// Where to send traces.
    pub otlp_endpoint: Option<String>,
    /// What to log; `None` is the command's default.
    pub log: Option<String>,
    /// Whether logs are JSON lines.
    pub log_json: bool,
    /// The server that clients talk to.
    pub endpoint: String,
    /// Who the caller is to it.
    pub caller: Caller,
}

/// What is wrong with the settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Everything that is wrong, one line each.
    #[error("{}", .0.join("\n"))]
    Invalid(Vec<String>),
    /// A model is needed and none is named.
    #[error(
        "no model pack: name one with --pack or FACEMATCH_PACK, by its name or its folder; `facematch models list` shows \
         what there is"
    )]
    NoPack,
    /// The file that is to have the database's password has none.
    #[error("cannot read the password of the database from {}", .0.display())]
    NoPassword(PathBuf),
    /// A pack is named that is not installed.
    #[error(
        "no pack {name:?} is installed in {}: `facematch models pull {name}` fetches one of the catalogue; a pack that is a \
         folder is named with a slash, as ./{name}",
        models.display()
    )]
    PackNotInstalled {
        /// Its name.
        name: String,
        /// The folder of installed packs.
        models: PathBuf,
    },
    /// Nothing tells where packs are installed.
    #[error(
        "no folder of installed packs: name one with --models or FACEMATCH_MODELS (there is no XDG_DATA_HOME or HOME)"
    )]
    NoModels,
}

impl Config {
    /// Puts the settings together and checks them.
    ///
    /// `flags` holds what the command line states, by key; `file` is the file it names.
    ///
    /// *Errors*: [`ConfigError::Invalid`] with every fault, not only the first.
    pub fn load(flags: &BTreeMap<String, String>, file: Option<&Path>) -> Result<Self, ConfigError> {
        Self::load_from(flags, file, |name| std::env::var(name).ok())
    }

    /// Like [`Config::load`], with an environment of one's own.
    ///
    /// *Errors*: the same.
    pub fn load_from(
        flags: &BTreeMap<String, String>,
        file: Option<&Path>,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let reading = Reading::of(flags, file, environment);
        if reading.faults.is_empty() { Ok(reading.config) } else { Err(ConfigError::Invalid(reading.faults)) }
    }

    /// Returns the key that the store is encrypted with; `None`: it is not.
    ///
    /// *Errors*: [`KeyError`] where the file has none, or others may read it.
    pub fn master_key(&self) -> Result<Option<MasterKey>, KeyError> {
        match &self.encryption_key_file {
            Some(path) => MasterKey::read(path).map(Some),
            None => Ok(self.encryption_key.clone()),
        }
    }

    /// Returns where the model pack is. What has no slash in it is a name: whatever lies in the working folder, it is never
    /// taken for the pack.
    ///
    /// *Errors*: [`ConfigError::NoPack`], [`ConfigError::PackNotInstalled`], [`ConfigError::NoModels`].
    pub fn pack_source(&self) -> Result<PackSource, ConfigError> {
        self.source(self.pack.as_deref().ok_or(ConfigError::NoPack)?)
    }

    /// Returns where the packs are that serve beside it.
    ///
    /// *Errors*: the same.
    pub fn other_pack_sources(&self) -> Result<Vec<PackSource>, ConfigError> {
        self.other_packs.iter().map(|stated| self.source(stated)).collect()
    }

    /// Returns where a pack is that is stated by its name or as a folder.
    ///
    /// *Errors*: the same.
    pub fn source(&self, stated: &str) -> Result<PackSource, ConfigError> {
        let is_folder = stated.contains(std::path::is_separator) || matches!(stated, "." | "..");
        let (folder, files) =
            if is_folder { (PathBuf::from(stated), self.pack_files.clone()) } else { (self.installed(stated)?, None) };
        Ok(PackSource { files, tuning: self.tuning.clone(), ..self.untuned_source(&folder) })
    }

    /// Returns a folder as a source, with nothing tuned: to look at a pack rather than to work with it.
    pub fn untuned_source(&self, folder: &Path) -> PackSource {
        let runtime_library = self.runtime_library.clone();
        PackSource { folder: folder.to_path_buf(), files: None, runtime_library, tuning: Tuning::Off }
    }

    /// Returns the folder of installed packs.
    ///
    /// *Errors*: [`ConfigError::NoModels`].
    pub fn models(&self) -> Result<&Path, ConfigError> {
        self.models.as_deref().ok_or(ConfigError::NoModels)
    }

    fn installed(&self, name: &str) -> Result<PathBuf, ConfigError> {
        let models = self.models()?;
        let folder = models.join(name);
        if folder.is_dir() {
            return Ok(folder);
        }
        Err(ConfigError::PackNotInstalled { name: name.to_owned(), models: models.to_path_buf() })
    }
}

/// Stated values with their origin, and the faults found so far.
struct Values {
    stated: BTreeMap<&'static str, (String, String)>,
    faults: Vec<String>,
}

impl Values {
    fn config(&mut self, folders: &Folders) -> Config {
        let cores = machine::cores();
        // Where nothing tells, a small one.
        let memory = machine::memory_bytes().unwrap_or(MEMORY_UNKNOWN_BYTES);
        let share = usize::try_from(memory / MEMORY_SHARE).unwrap_or(usize::MAX);
        let workers = or_else_of_zero(self.number("workers", 0, WORKERS_MAX), cores);
        let message_bytes_max = self.number("message_bytes_max", 1, MESSAGE_BYTES_LIMIT);
        let photo = PhotoLimits {
            bytes_max: self.number("photo_bytes_max", 1, MESSAGE_BYTES_LIMIT),
            pixels_max: self.number("photo_pixels_max", 1, 1 << 30),
            side_max_px: self.number("photo_side_max_px", 1, 65_535),
        };
        Config {
            pack: self.stated("pack"),
            pack_files: self.path("pack_files"),
            other_packs: self.list("other_packs"),
            models: self.path("models").or_else(|| folders.models.clone()),
            catalogue: self.path("catalogue"),
            mirror: self.mirror(),
            proxy: self.proxy(),
            runtime_library: self.path("runtime_library"),
            tuning: self.tuning(folders.cache.clone()),
            photo,
            isolation: self.isolation(&photo),
            listen: self.parse("listen", "an address such as 127.0.0.1:50051", SocketAddr::from(([127, 0, 0, 1], 0))),
            data: self.path("data").unwrap_or_default(),
            store: self.store(),
            encryption_key_file: self.path("encryption_key_file"),
            encryption_key: None,
            workers,
            queue_max: or_else_of_zero(self.number("queue_max", 0, QUEUE_LIMIT), WAITING_A_WORKER * workers),
            search_wait_max: Duration::from_millis(self.number("search_wait_max_ms", 0, TIME_LIMIT_MS)),
            calls_max: or_else_of_zero(self.number("calls_max", 0, QUEUE_LIMIT), (CALLS_A_CORE * cores).max(CALLS_MIN)),
            in_flight_bytes_max: or_else_of_zero(
                self.number("in_flight_bytes_max", 0, usize::MAX),
                share.max(message_bytes_max),
            ),
            in_flight_pixels_max: or_else_of_zero(
                self.number("in_flight_pixels_max", 0, usize::MAX),
                share / 2 / DECODED_BYTES_A_PIXEL,
            ),
            message_bytes_max,
            call_time_max: Duration::from_millis(self.number("call_time_max_ms", 1, TIME_LIMIT_MS)),
            drain_time_max: Duration::from_millis(self.number("drain_time_max_ms", 0, TIME_LIMIT_MS)),
            security: self.security(),
            metrics_listen: self.metrics_listen(),
            otlp_endpoint: self.otlp_endpoint(),
            log: self.stated("log"),
            log_json: self.log_json(),
            endpoint: self.endpoint(),
            caller: Caller::default(),
        }
    }

    fn encryption_key(&mut self, stated: Option<String>) -> Option<MasterKey> {
        let text = zeroize::Zeroizing::new(stated.filter(|text| !text.is_empty())?);
        MasterKey::parse(&text, ENCRYPTION_KEY_ENV).map_err(|error| self.faults.push(error.to_string())).ok()
    }

    fn check_together(&mut self, config: &Config) {
        if config.encryption_key.is_some() && config.encryption_key_file.is_some() {
            self.faults.push(format!("{ENCRYPTION_KEY_ENV} and encryption_key_file are both stated: state one"));
        }
        if config.message_bytes_max < config.photo.bytes_max {
            self.faults.push("message_bytes_max must be at least photo_bytes_max: a photo comes in a message".into());
        }
        if config.in_flight_bytes_max < config.message_bytes_max {
            self.faults
                .push("in_flight_bytes_max must be at least message_bytes_max, or no large message gets in".into());
        }
        self.check_security(config);
        if let Some(filter) = &config.log
            && tracing_subscriber::EnvFilter::try_new(filter).is_err()
        {
            self.faults.push(format!("log must be a level or a list of target=level, found {filter:?}"));
        }
    }

    fn text(&self, key: &str) -> String {
        self.stated.get(key).map_or_else(String::new, |(value, _)| value.clone())
    }

    fn stated(&self, key: &str) -> Option<String> {
        Some(self.text(key)).filter(|text| !text.is_empty())
    }

    fn path(&self, key: &str) -> Option<PathBuf> {
        self.stated(key).map(PathBuf::from)
    }

    fn tuning(&mut self, cache_default: Option<PathBuf>) -> Tuning {
        match self.text("tune").as_str() {
            "auto" => Tuning::Auto { cache: self.path("cache").or(cache_default) },
            "off" => Tuning::Off,
            other => {
                self.faults.push(format!("tune must be auto or off, found {other:?}"));
                Tuning::Off
            }
        }
    }

    fn log_json(&mut self) -> bool {
        let format = self.text("log_format");
        if format != "text" && format != "json" {
            self.faults.push(format!("log_format must be text or json, found {format:?}"));
        }
        format == "json"
    }

    fn metrics_listen(&mut self) -> Option<SocketAddr> {
        let none = SocketAddr::from(([127, 0, 0, 1], 0));
        (!self.text("metrics_listen").is_empty())
            .then(|| self.parse("metrics_listen", "an address such as 127.0.0.1:9464", none))
    }

    fn list(&mut self, key: &'static str) -> Vec<String> {
        let text = self.text(key);
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
    }

    fn otlp_endpoint(&mut self) -> Option<String> {
        (!self.text("otlp_endpoint").is_empty())
            .then(|| self.address("otlp_endpoint", &["http"], "http://127.0.0.1:4317"))
    }

    fn endpoint(&mut self) -> String {
        self.address("endpoint", &["http", "https"], "http://127.0.0.1:50051")
    }

    fn mirror(&mut self) -> Option<String> {
        let is_stated = self.stated("mirror").is_some();
        is_stated.then(|| self.address("mirror", &["http", "https"], "https://files.corp/models"))
    }

    fn proxy(&mut self) -> Proxy {
        let (address, origin) = self.stated.get("proxy").cloned().unwrap_or_default();
        // A proxy may be stated without a scheme. The value is not told: it may hold a password.
        let with_scheme = if address.contains("://") { address.clone() } else { format!("http://{address}") };
        if !address.is_empty() && !is_address(&with_scheme, &["http", "https"]) {
            self.faults.push(format!("{origin} must be an address such as http://proxy.corp:3128"));
        }
        let except = self.text("no_proxy");
        let except = except.split(',').map(str::trim).filter(|host| !host.is_empty()).map(str::to_owned).collect();
        Proxy { address: Some(with_scheme).filter(|_| !address.is_empty()), except }
    }

    fn address(&mut self, key: &str, schemes: &[&str], example: &str) -> String {
        let (value, origin) = self.stated.get(key).cloned().unwrap_or_default();
        if !is_address(&value, schemes) {
            let found = shown_address(&value);
            self.faults.push(format!("{origin} must be an address such as {example}, found {found:?}"));
        }
        value
    }

    fn parse<T: FromStr>(&mut self, key: &str, expected: &str, otherwise: T) -> T {
        let (value, origin) = self.stated.get(key).cloned().unwrap_or_default();
        value.parse().unwrap_or_else(|_| {
            self.faults.push(format!("{origin} must be {expected}, found {value:?}"));
            otherwise
        })
    }

    fn number<T: FromStr + PartialOrd + Copy + std::fmt::Display>(&mut self, key: &str, min: T, max: T) -> T {
        let number = self.parse(key, "a whole number", min);
        if !(min..=max).contains(&number) {
            self.faults.push(format!("{key} must be from {min} to {max}, found {number}"));
        }
        number
    }
}

fn is_address(text: &str, schemes: &[&str]) -> bool {
    let uri = text.parse::<http::Uri>().ok();
    uri.is_some_and(|uri| uri.scheme_str().is_some_and(|scheme| schemes.contains(&scheme)) && uri.authority().is_some())
}

/// Finds a setting in the environment, under its own name or another that says the same.
fn from_environment(
    setting: &Setting,
    environment: &impl Fn(&str) -> Option<String>,
) -> Option<(&'static str, String)> {
    let others = OTHER_NAMES.iter().filter(|(key, _)| *key == setting.key).flat_map(|(_, names)| *names);
    let mut names = std::iter::once(setting.env).chain(others.copied());
    names.find_map(|name| Some((name, environment(name).filter(|value| !value.is_empty())?)))
}

/// The user's folders of the XDG base directory specification, where the environment tells them; paths there must be
/// absolute.
struct Folders {
    cache: Option<PathBuf>,
    models: Option<PathBuf>,
}

impl Folders {
    fn of_user(environment: &impl Fn(&str) -> Option<String>) -> Self {
        let absolute = |name: &str| environment(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let folder = |name: &str, at_home: &str| absolute(name).or_else(|| Some(absolute("HOME")?.join(at_home)));
        Self {
            cache: folder("XDG_CACHE_HOME", ".cache").map(|caches| caches.join("facematch")),
            models: folder("XDG_DATA_HOME", ".local/share").map(|data| data.join("facematch/models")),
        }
    }
}

/// Reads the file; what is wrong with it is added to the faults.
fn read_file(
    stated: Option<&Path>,
    environment: &impl Fn(&str) -> Option<String>,
    faults: &mut Vec<String>,
) -> BTreeMap<String, String> {
    let named = stated
        .map(Path::to_path_buf)
        .or_else(|| environment(FILE_ENV).filter(|path| !path.is_empty()).map(PathBuf::from));
    let path = named.clone().unwrap_or_else(|| PathBuf::from(FILE_DEFAULT));
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => return BTreeMap::new(),
        Err(error) => {
            faults.push(format!("cannot read {}: {error}", path.display()));
            return BTreeMap::new();
        }
    };
    let table: toml::Table = match toml::from_str(&text) {
        Ok(table) => table,
        Err(error) => {
            faults.push(format!("{}: {}", path.display(), error.message()));
            return BTreeMap::new();
        }
    };
    let mut values = BTreeMap::new();
    for (key, value) in table {
        let known = SETTINGS.iter().any(|setting| setting.key == key);
        match value {
            toml::Value::String(text) if known => drop(values.insert(key, text)),
            toml::Value::Integer(number) if known => drop(values.insert(key, number.to_string())),
            _ if known => faults.push(format!("{}: {key} must be a string or a whole number", path.display())),
            _ => faults.push(format!("{}: there is no setting {key:?}", path.display())),
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn load(
        flags: &[(&str, &str)],
        environment: &[(&str, &str)],
        file: &str,
    ) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("facematch.toml");
        std::fs::write(&path, file).expect("a file");
        let flags = flags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let look_up =
            |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Config::load_from(&flags, Some(&path), look_up)
    }

    #[test]
    fn every_fault_is_reported_in_one_run() {
        let environment = [("FACEMATCH_LISTEN", "nowhere"), ("FACEMATCH_LOG_FORMAT", "xml")];
        let file = "queue_max = 1000000\ncalls = 5\nworkers = 1.5\nmessage_bytes_max = 1000";
        let error = load(&[("call_time_max_ms", "soon"), ("endpoint", "localhost:1")], &environment, file)
            .expect_err("faults")
            .to_string();
        for part in [
            "FACEMATCH_LISTEN must be an address such as 127.0.0.1:50051, found \"nowhere\"",
            "log_format must be text or json, found \"xml\"",
            "--call-time-max-ms must be a whole number, found \"soon\"",
            "--endpoint must be an address such as http://127.0.0.1:50051, found \"localhost:1\"",
            "queue_max must be from 0 to 100000, found 1000000",
            "there is no setting \"calls\"",
            "workers must be a string or a whole number",
            "message_bytes_max must be at least photo_bytes_max",
        ] {
            assert!(error.contains(part), "{part:?} is not in:\n{error}");
        }
    }

    #[test]
    fn flags_win_over_environment_over_file_over_defaults() {
        let file = "data = \"from-file\"\nqueue_max = 7\ncalls_max = 8";
        let environment = [("FACEMATCH_QUEUE_MAX", "9"), ("FACEMATCH_CALLS_MAX", "10")];
        let config = load(&[("calls_max", "11")], &environment, file).expect("a config");
        assert_eq!(config.data, Path::new("from-file"));
        assert_eq!((config.queue_max, config.calls_max), (9, 11));
        assert_eq!(config.listen.to_string(), "127.0.0.1:50051");
        assert!(matches!(config.pack_source(), Err(ConfigError::NoPack)));
    }

    #[test]
    fn cache_is_that_of_the_user_unless_stated() {
        let tuning = |flags: &[(&str, &str)], environment: &[(&str, &str)]| {
            let flags: Vec<_> = flags.iter().copied().chain([("pack", "./p")]).collect();
            load(&flags, environment, "").expect("a config").pack_source().expect("a pack").tuning
        };
        let cache = |path: &str| Tuning::Auto { cache: Some(path.into()) };
        assert_eq!(tuning(&[], &[]), Tuning::Auto { cache: None });
        assert_eq!(tuning(&[], &[("HOME", "/h"), ("XDG_CACHE_HOME", "relative")]), cache("/h/.cache/facematch"));
        assert_eq!(tuning(&[], &[("HOME", "/h"), ("XDG_CACHE_HOME", "/c")]), cache("/c/facematch"));
        assert_eq!(tuning(&[("cache", "here")], &[("HOME", "/h")]), cache("here"));
        assert_eq!(tuning(&[("tune", "off")], &[("HOME", "/h")]), Tuning::Off);
        assert!(
            load(&[("tune", "on")], &[], "").expect_err("a fault").to_string().contains("tune must be auto or off")
        );
    }

    #[test]
    fn pack_with_a_slash_is_a_folder_and_without_one_a_name() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("buffalo_l")).expect("a pack");
        let models = folder.path().to_str().expect("a path");
        let source = |pack: &str| {
            let flags = [("pack", pack), ("pack_files", "elsewhere"), ("models", models)];
            load(&flags, &[], "").expect("a config").pack_source()
        };
        let named = source("buffalo_l").expect("a source");
        assert_eq!((named.folder, named.files), (folder.path().join("buffalo_l"), None));
        for path in ["./buffalo_l", "packs/x", "/packs/x", ".", ".."] {
            let source = source(path).expect("a source");
            assert_eq!((source.folder, source.files), (path.into(), Some("elsewhere".into())));
        }
        // There is a folder of this name where tests run: it is not taken.
        let error = source("src").expect_err("not installed").to_string();
        assert!(error.contains("models pull src") && error.contains("./src") && error.contains(models), "{error}");
    }

    #[test]
    fn models_folder_is_that_of_the_user_unless_stated() {
        let models = |flags: &[(&str, &str)], environment: &[(&str, &str)]| {
            load(flags, environment, "").expect("a config").models().map(Path::to_path_buf)
        };
        assert!(matches!(models(&[], &[("XDG_DATA_HOME", "relative")]), Err(ConfigError::NoModels)));
        let home = ("HOME", "/h");
        assert_eq!(models(&[], &[home]).expect("a folder"), Path::new("/h/.local/share/facematch/models"));
        assert_eq!(models(&[], &[home, ("XDG_DATA_HOME", "/d")]).expect("a folder"), Path::new("/d/facematch/models"));
        assert_eq!(models(&[("models", "m")], &[home]).expect("a folder"), Path::new("m"));
    }

    #[test]
    fn proxy_is_read_from_the_usual_variables_and_never_told() {
        let proxy = |environment: &[(&str, &str)]| load(&[], environment, "").map(|config| config.proxy);
        assert_eq!(proxy(&[]).expect("a config"), Proxy::default());
        let found =
            proxy(&[("http_proxy", "http://p:1"), ("https_proxy", "p:2"), ("no_proxy", "a, .b,")]).expect("a config");
        assert_eq!(found, Proxy { address: Some("http://p:2".into()), except: vec!["a".into(), ".b".into()] });
        let fault = proxy(&[("ALL_PROXY", "socks5://ann:secret@p:1")]).expect_err("a fault").to_string();
        assert!(fault.starts_with("ALL_PROXY must be an address such as") && !fault.contains("secret"), "{fault}");
    }

    #[test]
    fn limits_follow_the_machine_unless_stated() {
        let config = load(&[("workers", "3")], &[], "").expect("a config");
        assert_eq!((config.workers, config.queue_max), (3, 3));
        assert!(config.calls_max >= CALLS_MIN && config.in_flight_bytes_max >= config.message_bytes_max);
        assert!(config.in_flight_pixels_max > 1 << 20);
        assert_eq!(config.metrics_listen, None);
        let stated = [("queue_max", "5"), ("calls_max", "7"), ("in_flight_pixels_max", "9"), ("metrics_listen", "x")];
        let config = load(&stated[..3], &[], "").expect("a config");
        assert_eq!((config.queue_max, config.calls_max, config.in_flight_pixels_max), (5, 7, 9));
        let fault = load(&stated, &[], "").expect_err("a fault").to_string();
        assert_eq!(fault, "--metrics-listen must be an address such as 127.0.0.1:9464, found \"x\"");
    }

    #[test]
    fn encryption_key_is_read_from_one_place_and_never_told() {
        let (key, hex) = ("a".repeat(64), "0g".repeat(32));
        let stated = |key: &str, flags: &[(&str, &str)]| load(flags, &[("FACEMATCH_ENCRYPTION_KEY", key)], "");
        let config = stated(&key, &[]).expect("a config");
        let found = config.master_key().expect("a key").expect("there is one");
        assert!(!format!("{config:?}").contains("aaaa") && format!("{config:?}").contains(&found.id().to_string()));
        assert!(load(&[], &[], "").expect("a config").master_key().expect("none").is_none());
        let fault = stated(&hex, &[]).expect_err("a fault").to_string();
        assert!(fault.starts_with("FACEMATCH_ENCRYPTION_KEY must be a key") && !fault.contains("0g"), "{fault}");
        let fault = stated(&key, &[("encryption_key_file", "f")]).expect_err("a fault").to_string();
        assert!(fault.contains("are both stated"), "{fault}");
        // Only who needs the key reads the file.
        let config = load(&[("encryption_key_file", "/no such file")], &[], "").expect("a config");
        assert!(matches!(config.master_key(), Err(KeyError::Unreadable { .. })));
    }

    #[test]
    fn defaults_are_the_documented_photo_limits() {
        assert_eq!(load(&[], &[], "").expect("a config").photo, PhotoLimits::default());
    }
}
