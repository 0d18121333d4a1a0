//! A face service of a test's own. The engine's codec reads requests of calls that were admitted, and of no others.

use std::convert::Infallible;
use std::task::{Context, Poll};

use facematch::contract::face_service_server::FaceService;
use facematch::contract::{self as proto};
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

/// Answers Detect, whatever is asked.
#[derive(Clone)]
pub struct Faces<T>(pub T);

impl<T> NamedService for Faces<T> {
    const NAME: &'static str = "facematch.v1.FaceService";
}

impl<T: FaceService + Clone> Service<http::Request<Body>> for Faces<T> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<http::Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let detect = Detect(self.0.clone());
        let codec = ProstCodec::<proto::DetectResponse, proto::DetectRequest>::default();
        Box::pin(async move { Ok(Grpc::new(codec).unary(detect, request).await) })
    }
}

struct Detect<T>(T);

impl<T: FaceService + Clone> UnaryService<proto::DetectRequest> for Detect<T> {
    type Response = proto::DetectResponse;
    type Future = BoxFuture<Response<proto::DetectResponse>, Status>;

    fn call(&mut self, request: Request<proto::DetectRequest>) -> Self::Future {
        let faces = self.0.clone();
        Box::pin(async move { faces.detect(request).await })
    }
}
