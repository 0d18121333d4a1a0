//! The client's side of the contract: a connection by TLS or in plaintext, the caller's key, deadlines, and another try where
//! that does no harm.
//!
//! ```no_run
//! use facematch::client::{Client, Key, Options};
//! use facematch::contract as proto;
//!
//! # async fn ask(photo: Vec<u8>) -> Result<(), Box<dyn std::error::Error>> {
//! let mut options = Options::new("https://facematch.corp:50051");
//! options.key = Some(Key::new("the caller's key")?);
//! options.ca = Some(std::fs::read("ca.pem")?);
//! let client = Client::connect(options).await?;
//!
//! let photo = proto::probe::Probe::Photo(proto::Photo { data: photo });
//! let reply = client
//!     .identify(proto::IdentifyRequest {
//!         gallery_id: "staff".into(),
//!         probe: Some(proto::Probe { probe: Some(photo) }),
//!         ..Default::default()
//!     })
//!     .await?;
//! if reply.decision() == proto::IdentifyDecision::Match {
//!     println!("{}", reply.candidates[0].identity_id);
//! }
//! # Ok(())
//! # }
//! ```
//! A failed call is a [`tonic::Status`]; [`reason`], [`retry_delay`] and [`is_unprocessed`] read its details. For what has no method here, such as
//! streams, the generated clients take [`Client::channel`]:
//!
//! ```no_run
//! # use facematch::client::Client;
//! use facematch::contract::{ExportGalleryRequest, gallery_service_client::GalleryServiceClient};
//!
//! # async fn export(client: Client) -> Result<(), tonic::Status> {
//! let request = ExportGalleryRequest { gallery_id: "staff".into() };
//! let mut parts = GalleryServiceClient::new(client.channel()).export_gallery(request).await?.into_inner();
//! while let Some(part) = parts.message().await? {
//!     println!("{} bytes", part.data.len());
//! }
//! # Ok(())
//! # }
//! ```

mod bulk;
mod calls;
mod options;
mod retry;

use std::time::Duration;

use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Status};
use tonic_types::StatusExt;

pub use bulk::{BulkResults, BulkSettings};
pub use options::{ClientCertificate, ConnectError, Key, Options};
pub use retry::{Repeat, Retry, is_unprocessed};

/// Largest reply that is taken: many faces or embeddings are more than tonic's 4 MiB.
pub const REPLY_BYTES_MAX: usize = 64 << 20;

/// A connection that shows the caller's key with every call. It is cheap to clone, and connects again by itself.
pub type Channel = InterceptedService<tonic::transport::Channel, Authorize>;

/// Puts the caller's key, where there is one, into a call's metadata.
#[derive(Clone)]
pub struct Authorize(Option<Key>);

impl Interceptor for Authorize {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(key) = &self.0 {
            request.metadata_mut().insert("authorization", key.bearer());
        }
        Ok(request)
    }
}

/// A client of one server. It is cheap to clone.
#[derive(Clone)]
pub struct Client {
    channel: Channel,
    call_time_max: Duration,
    retry: Retry,
}

impl Client {
    /// Connects to a server.
    ///
    /// *Errors*: options that cannot be or are not safe; a server that is out of reach.
    pub async fn connect(options: Options) -> Result<Self, ConnectError> {
        let endpoint = options.endpoint()?;
        let address = options.endpoint;
        let channel = endpoint.connect().await.map_err(|source| ConnectError::Unreachable { address, source })?;
        let channel = InterceptedService::new(channel, Authorize(options.key));
        Ok(Self { channel, call_time_max: options.call_time_max, retry: options.retry })
    }

    /// Returns the connection, for the generated clients in [`crate::contract`].
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }
}

/// Returns the stable reason of a failed call, such as `GALLERY_NOT_FOUND`; `None` where it did not reach the engine.
pub fn reason(status: &Status) -> Option<String> {
    status.get_details_error_info().map(|info| info.reason)
}

/// Returns how long to wait before asking again, where the server says so.
pub fn retry_delay(status: &Status) -> Option<Duration> {
    status.get_details_retry_info().and_then(|info| info.retry_delay)
}
