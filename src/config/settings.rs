//! What can be set: each setting with its names, its default, and who uses it.

/// Who uses a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every command.
    All,
    /// Commands that run models: `serve`, `detect`, `verify`, `calibrate`, `predict`, `score`.
    Model,
    /// Those, and `models`.
    Packs,
    /// `models`.
    Catalogue,
    /// `serve`.
    Server,
    /// `serve` and `store`.
    Data,
    /// Commands that talk to a server.
    Client,
}

/// One setting: its key in the file; the flag is the key with dashes.
#[derive(Debug)]
pub struct Setting {
    /// Key in the file.
    pub key: &'static str,
    /// Environment variable.
    pub env: &'static str,
    /// Default; empty where there is none.
    pub default: &'static str,
    /// Who uses it.
    pub scope: Scope,
    /// One line for people.
    pub help: &'static str,
}

const fn setting(
    key: &'static str,
    env: &'static str,
    default: &'static str,
    scope: Scope,
    help: &'static str,
) -> Setting {
    Setting { key, env, default, scope, help }
}

/// Every setting there is.
pub const SETTINGS: [Setting; 55] = [
    setting(
        "pack",
        "FACEMATCH_PACK",
        "",
        Scope::Model,
        "The model pack: the name of one that `facematch models` installed, or a folder, which has a slash in it, such as ./pack",
    ),
    setting(
        "pack_files",
        "FACEMATCH_PACK_FILES",
        "",
        Scope::Model,
        "Folder of the model files of a pack that is a folder, where they are not in it",
    ),
    setting(
        "models",
        "FACEMATCH_MODELS",
        "",
        Scope::Packs,
        "Folder of installed packs [default: facematch/models in XDG_DATA_HOME or ~/.local/share]",
    ),
    setting(
        "catalogue",
        "FACEMATCH_CATALOGUE",
        "",
        Scope::Catalogue,
        "File of the packs that are known by name [default: the program's own, models/catalogue.toml]",
    ),
    setting(
        "mirror",
        "FACEMATCH_MIRROR",
        "",
        Scope::Catalogue,
        "Address to fetch packs from in place of their publishers', such as https://files.corp/models: each file is looked for at MIRROR/FILE",
    ),
    setting(
        "proxy",
        "HTTPS_PROXY",
        "",
        Scope::Catalogue,
        "Proxy to fetch packs through, such as http://proxy.corp:3128 [also: https_proxy, ALL_PROXY, all_proxy, HTTP_PROXY, http_proxy]",
    ),
    setting(
        "no_proxy",
        "NO_PROXY",
        "",
        Scope::Catalogue,
        "Hosts that are reached without the proxy, with commas between: a host and all below it; * is all [also: no_proxy]",
    ),
    setting(
        "runtime_library",
        "ORT_DYLIB_PATH",
        "",
        Scope::Packs,
        "The ONNX Runtime library; else it is looked for next to the program, and in .runtime of the project that the program was built in",
    ),
    setting(
        "tune",
        "FACEMATCH_TUNE",
        "auto",
        Scope::Model,
        "auto or off: whether the networks are rewritten where that is as right and faster on this machine",
    ),
    setting(
        "cache",
        "FACEMATCH_CACHE",
        "",
        Scope::Model,
        "Folder of tuned networks; it may be deleted at any time [default: facematch in XDG_CACHE_HOME or ~/.cache]",
    ),
    setting("photo_bytes_max", "FACEMATCH_PHOTO_BYTES_MAX", "20971520", Scope::Model, "Largest photo, in bytes"),
    setting("photo_pixels_max", "FACEMATCH_PHOTO_PIXELS_MAX", "67108864", Scope::Model, "Most pixels of a photo"),
    setting(
        "photo_side_max_px",
        "FACEMATCH_PHOTO_SIDE_MAX_PX",
        "16384",
        Scope::Model,
        "Longest side of a photo, in pixels",
    ),
    setting(
        "listen",
        "FACEMATCH_LISTEN",
        "127.0.0.1:50051",
        Scope::Server,
        "Address to listen on; port 0 takes a free one",
    ),
    setting("data", "FACEMATCH_DATA", "facematch-data", Scope::Data, "Folder of the store; made where there is none"),
    setting(
        "store",
        "FACEMATCH_STORE",
        "",
        Scope::Server,
        "Database that keeps the galleries in place of the data folder, shared by any number of servers: \
         postgres://USER@HOST[:PORT][,HOST...]/DATABASE, PostgreSQL 16 or later with pgvector 0.8 or later; other machines are \
         spoken to by TLS, with the host's name checked, unless sslmode=disable is said",
    ),
    setting(
        "store_password_file",
        "FACEMATCH_STORE_PASSWORD_FILE",
        "",
        Scope::Server,
        "File of the password that the database asks for",
    ),
    setting(
        "store_tls_ca",
        "FACEMATCH_STORE_TLS_CA",
        "",
        Scope::Server,
        "PEM file of the authorities whose certificates the database may show [default: those that the system knows]",
    ),
    setting(
        "store_connections_max",
        "FACEMATCH_STORE_CONNECTIONS_MAX",
        "16",
        Scope::Server,
        "Connections of this server to the database: one for each call that reads or writes, export, import and index that is being built",
    ),
    setting(
        "second_store",
        "FACEMATCH_SECOND_STORE",
        "",
        Scope::Server,
        "Another store, which `facematch gallery move` moves galleries to and from while they are served: a database as in store, \
         or a folder, which has a slash in it",
    ),
    setting(
        "second_store_password_file",
        "FACEMATCH_SECOND_STORE_PASSWORD_FILE",
        "",
        Scope::Server,
        "File of the password that the second store's database asks for",
    ),
    setting(
        "encryption_key_file",
        "FACEMATCH_ENCRYPTION_KEY_FILE",
        "",
        Scope::Server,
        "File of the key that the store is encrypted with, of `facematch store new-key`; a new store is encrypted where there is \
         one [also: the key itself in FACEMATCH_ENCRYPTION_KEY]",
    ),
    setting(
        "workers",
        "FACEMATCH_WORKERS",
        "0",
        Scope::Server,
        "Threads that turn photos into templates; 0 is one a core",
    ),
    setting(
        "isolate_decoding",
        "FACEMATCH_ISOLATE_DECODING",
        "no",
        Scope::Server,
        "yes or no: whether photos are decoded in processes of their own, one a worker, that may do nothing else; Linux alone",
    ),
    setting(
        "queue_max",
        "FACEMATCH_QUEUE_MAX",
        "0",
        Scope::Server,
        "Photos of calls that may wait for a worker; the next is refused; 0 is one a worker, so that none waits much longer than it takes",
    ),
    setting(
        "search_wait_max_ms",
        "FACEMATCH_SEARCH_WAIT_MAX_MS",
        "10",
        Scope::Server,
        "How long the last search in may have to wait, in milliseconds, by how long searches take now; the next is refused, but 16 always get in",
    ),
    setting(
        "calls_max",
        "FACEMATCH_CALLS_MAX",
        "0",
        Scope::Server,
        "Calls in at a time; the next is refused; 0 is 128 a core, 256 at least",
    ),
    setting(
        "in_flight_bytes_max",
        "FACEMATCH_IN_FLIGHT_BYTES_MAX",
        "0",
        Scope::Server,
        "Bytes of all calls' messages at a time; 0 is an eighth of the memory",
    ),
    setting(
        "in_flight_pixels_max",
        "FACEMATCH_IN_FLIGHT_PIXELS_MAX",
        "0",
        Scope::Server,
        "Pixels of all photos of calls in hand, and of all those of streams, at 6 bytes each; a photo of more is worked on alone; 0 is what a sixteenth of the memory holds",
    ),
    setting("message_bytes_max", "FACEMATCH_MESSAGE_BYTES_MAX", "67108864", Scope::Server, "Largest message, in bytes"),
    setting(
        "call_time_max_ms",
        "FACEMATCH_CALL_TIME_MAX_MS",
        "60000",
        Scope::Server,
        "Longest time of a call, in milliseconds",
    ),
    setting(
        "drain_time_max_ms",
        "FACEMATCH_DRAIN_TIME_MAX_MS",
        "30000",
        Scope::Server,
        "Longest wait for calls that are in when stopping, in milliseconds",
    ),
    setting(
        "other_packs",
        "FACEMATCH_OTHER_PACKS",
        "",
        Scope::Server,
        "Packs that serve galleries of theirs beside the pack of new ones, with commas between: see `gallery migrate`",
    ),
    setting(
        "tls_certificate",
        "FACEMATCH_TLS_CERTIFICATE",
        "",
        Scope::Server,
        "File of the server's TLS certificate, PEM, with those up to its authority; read again when it changes [default: no TLS]",
    ),
    setting("tls_key", "FACEMATCH_TLS_KEY", "", Scope::Server, "File of its private key, PEM"),
    setting(
        "tls_client_ca",
        "FACEMATCH_TLS_CLIENT_CA",
        "",
        Scope::Server,
        "File of the authorities whose client certificates are taken, PEM [default: none is asked for]",
    ),
    setting(
        "tls_clients",
        "FACEMATCH_TLS_CLIENTS",
        "required",
        Scope::Server,
        "required or optional: whether each client must show a certificate, where tls_client_ca is stated",
    ),
    setting(
        "keys",
        "FACEMATCH_KEYS",
        "off",
        Scope::Server,
        "off or required: whether each call needs an access key, or a client certificate that stands for one",
    ),
    setting(
        "admin_key_file",
        "FACEMATCH_ADMIN_KEY_FILE",
        "",
        Scope::Server,
        "File with a key that may do everything, to make the first keys with: see `facematch key generate`",
    ),
    setting(
        "insecure_listen",
        "FACEMATCH_INSECURE_LISTEN",
        "no",
        Scope::Server,
        "yes or no: whether to listen beyond this machine without TLS or keys",
    ),
    setting(
        "connections_max",
        "FACEMATCH_CONNECTIONS_MAX",
        "0",
        Scope::Server,
        "Connections at a time; when there are more, an idle one is closed; 0 is 1024, or half of the files that the process may open",
    ),
    setting(
        "connection_idle_max_ms",
        "FACEMATCH_CONNECTION_IDLE_MAX_MS",
        "300000",
        Scope::Server,
        "How long a connection may be without a call, in milliseconds",
    ),
    setting(
        "message_time_max_ms",
        "FACEMATCH_MESSAGE_TIME_MAX_MS",
        "20000",
        Scope::Server,
        "Longest time for the message of a call that is no stream to arrive, in milliseconds",
    ),
    setting(
        "audit_log",
        "FACEMATCH_AUDIT_LOG",
        "",
        Scope::Server,
        "File to note in who did what to which gallery when: see `facematch audit verify` [default: none]",
    ),
    setting(
        "audit_calls",
        "FACEMATCH_AUDIT_CALLS",
        "changes",
        Scope::Server,
        "changes or all: whether calls that only ask are noted too; refusals are, in any case",
    ),
    setting(
        "grpc_web_origins",
        "FACEMATCH_GRPC_WEB_ORIGINS",
        "",
        Scope::Server,
        "Origins of web pages that may call by gRPC-Web, such as https://app.corp, with commas between; * is any [default: no gRPC-Web]",
    ),
    setting(
        "metrics_listen",
        "FACEMATCH_METRICS_LISTEN",
        "",
        Scope::Server,
        "Address to serve Prometheus on, as http://ADDRESS/metrics, such as 127.0.0.1:9464 [default: none]",
    ),
    setting(
        "otlp_endpoint",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "",
        Scope::Server,
        "Where to send OpenTelemetry traces, over OTLP/gRPC, such as http://127.0.0.1:4317 [default: nowhere]",
    ),
    setting(
        "log",
        "FACEMATCH_LOG",
        "",
        Scope::All,
        "What to log to stderr, such as info or facematch=debug [serve: info, else warn]",
    ),
    setting("log_format", "FACEMATCH_LOG_FORMAT", "text", Scope::All, "text or json"),
    setting("endpoint", "FACEMATCH_ENDPOINT", "http://127.0.0.1:50051", Scope::Client, "The server; https:// for TLS"),
    setting(
        "key_file",
        "FACEMATCH_KEY_FILE",
        "",
        Scope::Client,
        "File with the caller's access key, which is sent by TLS or within this machine [default: FACEMATCH_KEY in the environment]",
    ),
    setting(
        "tls_ca",
        "FACEMATCH_TLS_CA",
        "",
        Scope::Client,
        "File of the authorities that the server's certificate must come from, PEM [default: those that the system trusts]",
    ),
    setting(
        "client_certificate",
        "FACEMATCH_CLIENT_CERTIFICATE",
        "",
        Scope::Client,
        "File of the caller's certificate, PEM, where the server asks for one",
    ),
    setting("client_key", "FACEMATCH_CLIENT_KEY", "", Scope::Client, "File of its private key, PEM"),
];

/// Other variables that say the same, as programs that go through proxies have it.
pub(super) const OTHER_NAMES: [(&str, &[&str]); 2] =
    [("proxy", &["https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy"]), ("no_proxy", &["no_proxy"])];
