//! The calls with one reply.

use std::future::Future;

use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::{Channel, Client, REPLY_BYTES_MAX, Repeat};
use crate::contract as proto;
use crate::contract::calibration_service_client::CalibrationServiceClient;
use crate::contract::enrollment_service_client::EnrollmentServiceClient;
use crate::contract::face_service_client::FaceServiceClient;
use crate::contract::gallery_service_client::GalleryServiceClient;
use crate::contract::match_service_client::MatchServiceClient;

macro_rules! calls {
    ($($repeat:ident $client:ident $name:ident($request:ident) -> $reply:ident;)*) => {
        impl Client {
            $(
                #[doc = concat!("Calls `", stringify!($name), "`; see [`", stringify!($client), "::", stringify!($name), "`].")]
                #[doc = concat!("\n\nSent again: [`Repeat::", stringify!($repeat), "`].\n\n*Errors*: the call's status.")]
                pub async fn $name(&self, request: proto::$request) -> Result<proto::$reply, Status> {
                    self.send(Repeat::$repeat, request, |channel, request| async move {
                        $client::new(channel).max_decoding_message_size(REPLY_BYTES_MAX).$name(request).await
                    })
                    .await
                }
            )*
        }
    };
}

calls! {
    Always FaceServiceClient detect(DetectRequest) -> DetectResponse;
    Always FaceServiceClient embed(EmbedRequest) -> EmbedResponse;
    Always FaceServiceClient verify(VerifyRequest) -> VerifyResponse;
    Always MatchServiceClient identify(IdentifyRequest) -> IdentifyResponse;
    IfRefused GalleryServiceClient create_gallery(CreateGalleryRequest) -> CreateGalleryResponse;
    Always GalleryServiceClient get_gallery(GetGalleryRequest) -> GetGalleryResponse;
    Always GalleryServiceClient list_galleries(ListGalleriesRequest) -> ListGalleriesResponse;
    Always GalleryServiceClient update_gallery(UpdateGalleryRequest) -> UpdateGalleryResponse;
    IfRefused GalleryServiceClient delete_gallery(DeleteGalleryRequest) -> DeleteGalleryResponse;
    IfRefused GalleryServiceClient delete_gallery_copy(DeleteGalleryCopyRequest) -> DeleteGalleryCopyResponse;
    Always GalleryServiceClient get_import(GetImportRequest) -> GetImportResponse;
    Always EnrollmentServiceClient get_identity(GetIdentityRequest) -> GetIdentityResponse;
    Always EnrollmentServiceClient list_identities(ListIdentitiesRequest) -> ListIdentitiesResponse;
    Always EnrollmentServiceClient update_identity(UpdateIdentityRequest) -> UpdateIdentityResponse;
    IfRefused EnrollmentServiceClient delete_identity(DeleteIdentityRequest) -> DeleteIdentityResponse;
    IfRefused EnrollmentServiceClient delete_template(DeleteTemplateRequest) -> DeleteTemplateResponse;
    Always CalibrationServiceClient set_curve(SetCurveRequest) -> SetCurveResponse;
    Always CalibrationServiceClient get_curve(GetCurveRequest) -> GetCurveResponse;
    IfRefused CalibrationServiceClient delete_curve(DeleteCurveRequest) -> DeleteCurveResponse;
}

impl Client {
    /// Calls `enroll`; see [`EnrollmentServiceClient::enroll`].
    ///
    /// Sent again: [`Repeat::Always`] where templates are added to an identity and each sample has an id, since what an
    /// identity has under its id is not enrolled twice; else [`Repeat::IfRefused`].
    ///
    /// *Errors*: the call's status.
    pub async fn enroll(&self, request: proto::EnrollRequest) -> Result<proto::EnrollResponse, Status> {
        let repeat = if is_repeatable(&request) { Repeat::Always } else { Repeat::IfRefused };
        self.send(repeat, request, |channel, request| async move {
            EnrollmentServiceClient::new(channel).max_decoding_message_size(REPLY_BYTES_MAX).enroll(request).await
        })
        .await
    }

    /// Sends a call until it is answered, or there is no use in another try, or its time is up.
    ///
    /// *Cost*: a copy of the message a try.
    async fn send<Q: Clone, A, F, C>(&self, repeat: Repeat, message: Q, call: F) -> Result<A, Status>
    where
        F: Fn(Channel, Request<Q>) -> C,
        C: Future<Output = Result<Response<A>, Status>>,
    {
        let deadline = Instant::now() + self.call_time_max;
        let mut tries = 0;
        loop {
            let mut request = Request::new(message.clone());
            // The server drops the work of who no longer waits.
            request.set_timeout(deadline.saturating_duration_since(Instant::now()));
            let answer = tokio::time::timeout_at(deadline, call(self.channel(), request)).await;
            let status = match answer {
                Ok(Ok(reply)) => return Ok(reply.into_inner()),
                Ok(Err(status)) if Instant::now() < deadline => status,
                _ => return Err(Status::deadline_exceeded("the call's time is up")),
            };
            tries += 1;
            match self.retry.delay(&status, tries, repeat) {
                Some(delay) if Instant::now() + delay < deadline => tokio::time::sleep(delay).await,
                _ => return Err(status),
            }
        }
    }
}

fn is_repeatable(request: &proto::EnrollRequest) -> bool {
    let has_ids = request.samples.iter().all(|sample| !sample.template_id.is_empty());
    request.if_exists() == proto::IfExists::Add && !request.identity_id.is_empty() && has_ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enrolment_is_repeatable_only_where_the_server_knows_it_again() {
        let sample = |id: &str| proto::Sample { template_id: id.into(), source: None };
        let request = |identity: &str, if_exists: proto::IfExists, samples: &[&str]| proto::EnrollRequest {
            identity_id: identity.into(),
            if_exists: if_exists.into(),
            samples: samples.iter().map(|id| sample(id)).collect(),
            ..Default::default()
        };
        assert!(is_repeatable(&request("ann", proto::IfExists::Add, &["1", "2"])));
        assert!(!is_repeatable(&request("ann", proto::IfExists::Add, &["1", ""])));
        assert!(!is_repeatable(&request("", proto::IfExists::Add, &["1"])));
        assert!(!is_repeatable(&request("ann", proto::IfExists::Refuse, &["1"])));
    }
}
