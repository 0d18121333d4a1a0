//! MatchService: identify, one probe or a stream of them.

use std::sync::Arc;

use tonic::{Request, Response, Status, Streaming};

use super::engine::Engine;
use super::items::{self, Item, Items, Replies};
use super::search::{Question, Waits};
use super::status::{log_own_fault, status};
use crate::contract as proto;
use crate::error::Error;
use crate::telemetry::count_error;

/// The longest tag of a probe, in bytes.
const TAG_BYTES_MAX: usize = 128;

pub(super) struct MatchServer(pub Arc<Engine>);

#[tonic::async_trait]
impl proto::match_service_server::MatchService for MatchServer {
    async fn identify(
        &self,
        request: Request<proto::IdentifyRequest>,
    ) -> Result<Response<proto::IdentifyResponse>, Status> {
        identify(&self.0, request.into_inner()).await.map(Response::new).map_err(status)
    }

    type IdentifyStreamStream = Replies<proto::IdentifyStreamResponse>;

    async fn identify_stream(
        &self,
        request: Request<Streaming<proto::IdentifyStreamRequest>>,
    ) -> Result<Response<Self::IdentifyStreamStream>, Status> {
        Ok(Response::new(items::answer::<Probes>(&self.0, request.into_inner())))
    }
}

async fn identify(engine: &Engine, mut request: proto::IdentifyRequest) -> Result<proto::IdentifyResponse, Error> {
    let probe = request.probe.take();
    let question = Question::check(request)?;
    question.answer(engine, probe, Waits::Not).await
}

/// A stream of probes.
struct Probes {
    engine: Arc<Engine>,
    question: Arc<Question>,
}

impl Items for Probes {
    type Request = proto::IdentifyStreamRequest;
    type Reply = proto::IdentifyStreamResponse;

    /// Two passes over a large gallery: one that is run and one that is next. Each search takes a thread while it waits.
    const ITEMS_MAX: usize = 16;

    async fn begin(engine: &Arc<Engine>, first: proto::IdentifyStreamRequest) -> Result<Self, Error> {
        let Some(proto::identify_stream_request::Message::Search(search)) = first.message else {
            return Err(Error::bad_field("search", "the first message"));
        };
        if search.probe.is_some() {
            return Err(Error::bad_field("search.probe", "absent: each probe is a message of its own"));
        }
        let question = Question::check(search).map_err(|error| error.at("search"))?;
        question.check_gallery(engine).await?;
        Ok(Self { engine: Arc::clone(engine), question: Arc::new(question) })
    }

    fn item(&self, request: proto::IdentifyStreamRequest) -> Result<Item<Self::Reply>, Error> {
        let Some(proto::identify_stream_request::Message::Probe(tagged)) = request.message else {
            return Err(Error::bad_field("probe", "every message but the first"));
        };
        let proto::TaggedProbe { tag, probe } = tagged;
        if tag.len() > TAG_BYTES_MAX {
            return Err(Error::bad_field("probe.tag", "at most 128 bytes"));
        }
        let (engine, question) = (Arc::clone(&self.engine), Arc::clone(&self.question));
        let is_photo = |probe: &proto::Probe| matches!(probe.probe, Some(proto::probe::Probe::Photo(_)));
        let has_photo = probe.as_ref().is_some_and(is_photo);
        let work = async move {
            let answered = question.answer(&engine, probe, Waits::InTurn).await;
            Ok(proto::IdentifyStreamResponse { tag, answer: Some(answer(answered)?) })
        };
        Ok(Item { has_photo, work: Box::pin(work) })
    }
}

/// *Errors*: what would fail the next probe too.
fn answer(answered: Result<proto::IdentifyResponse, Error>) -> Result<proto::identify_stream_response::Answer, Error> {
    let error = match answered {
        Ok(response) => return Ok(proto::identify_stream_response::Answer::Response(response)),
        Err(error) => error,
    };
    match error {
        Error::BadField { .. }
        | Error::AtField { .. }
        | Error::Photo(_)
        | Error::PackMismatch { .. }
        | Error::DataLoss(_)
        | Error::Internal(_) => {
            log_own_fault(&error);
            count_error(error.reason());
            let failure = proto::ProbeFailure { reason: error.reason().to_owned(), message: error.to_string() };
            Ok(proto::identify_stream_response::Answer::Failure(failure))
        }
        error => Err(error),
    }
}
