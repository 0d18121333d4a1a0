//! Each call of the contract takes the scope that the table here says, on each gallery that it names; who has it not is told
//! nothing of what there is.

#[path = "common/callers.rs"]
mod callers;
mod common;

use callers::{ADMIN_KEY, As, admin_key_file, call, call_path, caller, create_key, methods, naming, new_key, secret};
use facematch::contract::enrollment_service_client::EnrollmentServiceClient;
use facematch::contract::face_service_client::FaceServiceClient;
use facematch::contract::gallery_service_client::GalleryServiceClient;
use facematch::contract::key_service_client::KeyServiceClient;
use facematch::contract::{self as proto};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

/// What each call takes, written down a second time: a change of the server's table must be meant.
const TAKES: [(&str, &str); 31] = [
    ("Detect", "read"),
    ("Embed", "read"),
    ("Verify", "read"),
    ("Identify", "read"),
    ("IdentifyStream", "read"),
    ("GetIdentity", "read"),
    ("ListIdentities", "read"),
    ("GetGallery", "read"),
    ("ListGalleries", "read"),
    ("GetCurve", "read"),
    ("Enroll", "enrol"),
    ("BulkEnroll", "enrol"),
    ("UpdateIdentity", "enrol"),
    ("DeleteIdentity", "delete"),
    ("DeleteTemplate", "delete"),
    ("CreateGallery", "admin"),
    ("UpdateGallery", "admin"),
    ("DeleteGallery", "admin"),
    ("ExportGallery", "admin"),
    ("ImportGallery", "admin"),
    ("GetImport", "admin"),
    ("MigrateGallery", "admin"),
    ("MoveGallery", "admin"),
    ("DeleteGalleryCopy", "admin"),
    ("Calibrate", "admin"),
    ("SetCurve", "admin"),
    ("DeleteCurve", "admin"),
    ("CompactGalleries", "admin everywhere"),
    ("CreateKey", "admin everywhere"),
    ("ListKeys", "admin everywhere"),
    ("RevokeKey", "admin everywhere"),
];

fn is_refused(result: &Result<(), Status>) -> bool {
    matches!(result, Err(status) if [Code::PermissionDenied, Code::Unauthenticated].contains(&status.code()))
}

async fn serve(data: &std::path::Path, settings: &[(&str, &str)]) -> common::Running {
    let file = admin_key_file(data);
    let keys = [("keys", "required"), ("admin_key_file", file.as_str())];
    common::serve_starter(&data.join("store"), &[&keys, settings].concat()).await
}

async fn create_gallery(running: &common::Running, id: &str) {
    let mut client = GalleryServiceClient::new(caller(&running.channel, ADMIN_KEY));
    let gallery = proto::Gallery { gallery_id: id.to_owned(), ..Default::default() };
    client.create_gallery(proto::CreateGalleryRequest { gallery: Some(gallery) }).await.expect("a gallery");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_takes_its_scope_on_the_gallery_that_it_names() {
    let data = tempfile::tempdir().expect("a folder");
    let running = serve(data.path(), &[]).await;
    let methods = methods();
    assert_eq!(methods.len(), TAKES.len());
    let mut checked = 0;
    for scope in ["read", "enrol", "delete", "admin"] {
        let of_own = caller(&running.channel, &secret(&running.channel, &[&format!("{scope}:own-*")]).await);
        let of_all = caller(&running.channel, &secret(&running.channel, &[&format!("{scope}:*")]).await);
        for method in &methods {
            let (_, takes) = TAKES.iter().find(|(name, _)| *name == method.name()).expect("a line of the table");
            let has_scope = takes.starts_with(scope) || scope == "admin";
            for (gallery, is_own) in [("own-1", true), ("other", false)] {
                let message = naming(&method.input(), gallery);
                let names_one = message.is_some();
                let message = message.unwrap_or_default();
                let may = has_scope
                    && match takes.contains("everywhere") {
                        true => false,
                        false => is_own || !names_one,
                    };
                let what = format!("{} by {scope}:own-* of {gallery}", method.full_name());
                assert_eq!(is_refused(&call(&of_own, method, message.clone()).await), !may, "{what}");
                let what = format!("{} by {scope}:* of {gallery}", method.full_name());
                assert_eq!(is_refused(&call(&of_all, method, message).await), !has_scope, "{what}");
                checked += 2;
            }
        }
    }
    assert_eq!(checked, 4 * TAKES.len() * 4);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_in_force_nothing_but_health_answers() {
    let data = tempfile::tempdir().expect("a folder");
    let running = serve(data.path(), &[]).await;
    let gone = create_key(&running.channel, new_key(&["admin:*"])).await.expect("a key");
    let mut keys = KeyServiceClient::new(caller(&running.channel, ADMIN_KEY));
    let key_id = gone.key.expect("the key").key_id;
    keys.revoke_key(proto::RevokeKeyRequest { key_id }).await.expect("revoke");
    let made_up = format!("fmk_{}_{}", "a".repeat(12), "b".repeat(43));
    for key in ["", "short", &made_up, &gone.secret, &format!("{ADMIN_KEY}x")] {
        let nobody = caller(&running.channel, key);
        for method in methods() {
            let message = naming(&method.input(), "any").unwrap_or_default();
            let status = call(&nobody, &method, message).await.expect_err("refused");
            assert_eq!(status.code(), Code::Unauthenticated, "{} with {key:?}", method.full_name());
            assert_eq!(common::reason(&status), "UNAUTHENTICATED");
        }
        let mut health = HealthClient::new(nobody);
        health.check(HealthCheckRequest { service: String::new() }).await.expect("health");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn call_that_the_table_does_not_know_is_refused_even_to_the_admin() {
    let data = tempfile::tempdir().expect("a folder");
    let running = serve(data.path(), &[]).await;
    let admin = caller(&running.channel, ADMIN_KEY);
    for path in ["/facematch.v1.GalleryService/Nothing", "/facematch.v2.GalleryService/GetGallery", "/facematch.v1.X/Y"]
    {
        let status = call_path(&admin, path, Vec::new()).await.expect_err("refused");
        assert_eq!(status.code(), Code::Unimplemented, "{path}");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_right_cannot_tell_whether_a_gallery_exists() {
    let data = tempfile::tempdir().expect("a folder");
    let running = serve(data.path(), &[]).await;
    create_gallery(&running, "there").await;
    let outsider = caller(&running.channel, &secret(&running.channel, &["admin:own"]).await);
    for method in methods() {
        let Some(there) = naming(&method.input(), "there") else { continue };
        let absent = naming(&method.input(), "absent").expect("a request");
        let (there, absent) = (call(&outsider, &method, there).await, call(&outsider, &method, absent).await);
        let told = |result: Result<(), Status>| {
            let status = result.expect_err("refused");
            (status.code(), status.message().to_owned(), status.get_error_details())
        };
        let (there, absent) = (told(there), told(absent));
        assert_eq!(there.0, Code::PermissionDenied, "{}", method.full_name());
        assert!(!there.1.contains("there") && there.1 == absent.1, "{}", method.full_name());
        assert_eq!(format!("{:?}", there.2), format!("{:?}", absent.2), "{}", method.full_name());
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn list_shows_what_its_caller_may_read_and_its_pages_name_nothing_else() {
    let data = tempfile::tempdir().expect("a folder");
    let running = serve(data.path(), &[]).await;
    for id in ["door-1", "hidden-1", "door-2", "hidden-2", "door-3"] {
        create_gallery(&running, id).await;
    }
    let mut reader =
        GalleryServiceClient::new(caller(&running.channel, &secret(&running.channel, &["read:door-*"]).await));
    let (mut seen, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = proto::ListGalleriesRequest { page_size: 2, page_token };
        let page = reader.list_galleries(request).await.expect("a page").into_inner();
        seen.extend(page.galleries.into_iter().map(|gallery| gallery.gallery_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, ["door-1", "door-2", "door-3"]);
    running.stop().await;
}

fn side(gallery: &str) -> Option<proto::VerifySide> {
    let identity = proto::IdentityReference { gallery_id: gallery.to_owned(), identity_id: "ann".to_owned() };
    Some(proto::VerifySide { side: Some(proto::verify_side::Side::Identity(identity)) })
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_takes_the_right_to_both_galleries_and_templates_are_for_admins() {
    let data = tempfile::tempdir().expect("a folder");
    let running = serve(data.path(), &[]).await;
    let key = secret(&running.channel, &["read:own", "enrol:own"]).await;
    let mut faces = FaceServiceClient::new(caller(&running.channel, &key));
    for (a, b) in [("own", "other"), ("other", "own")] {
        let request = proto::VerifyRequest { a: side(a), b: side(b), ..Default::default() };
        assert_eq!(faces.verify(request).await.expect_err("refused").code(), Code::PermissionDenied);
    }
    let request = proto::VerifyRequest { a: side("own"), b: side("own"), ..Default::default() };
    assert_eq!(faces.verify(request).await.expect_err("no gallery").code(), Code::NotFound);
    let mut identities = EnrollmentServiceClient::new(caller(&running.channel, &key));
    let mut get =
        proto::GetIdentityRequest { gallery_id: "own".into(), identity_id: "ann".into(), ..Default::default() };
    assert_eq!(identities.get_identity(get.clone()).await.expect_err("no gallery").code(), Code::NotFound);
    get.include_embeddings = true;
    assert_eq!(identities.get_identity(get).await.expect_err("refused").code(), Code::PermissionDenied);
    running.stop().await;
}

/// An open stream of probes, to which messages can still be sent.
async fn open_stream(
    caller: As,
) -> (tokio::sync::mpsc::Sender<proto::IdentifyStreamRequest>, tonic::Streaming<proto::IdentifyStreamResponse>) {
    let (sender, requests) = tokio::sync::mpsc::channel(4);
    let search = proto::IdentifyRequest { gallery_id: "own".into(), ..Default::default() };
    let message = Some(proto::identify_stream_request::Message::Search(search));
    sender.send(proto::IdentifyStreamRequest { message }).await.expect("an open stream");
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut client = facematch::contract::match_service_client::MatchServiceClient::new(caller);
    let replies = client.identify_stream(requests).await.expect("a stream").into_inner();
    (sender, replies)
}

fn probe(values: Vec<f32>, pack_id: &str) -> proto::IdentifyStreamRequest {
    let embedding = proto::Embedding { values, pack_id: pack_id.to_owned() };
    let probe = Some(proto::Probe { probe: Some(proto::probe::Probe::Embedding(embedding)) });
    let tagged = proto::TaggedProbe { tag: "t".into(), probe };
    proto::IdentifyStreamRequest { message: Some(proto::identify_stream_request::Message::Probe(tagged)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_key_ends_the_streams_that_are_open_with_it() {
    let data = tempfile::tempdir().expect("a folder");
    let running = serve(data.path(), &[]).await;
    create_gallery(&running, "own").await;
    let mut galleries = GalleryServiceClient::new(caller(&running.channel, ADMIN_KEY));
    let get = proto::GetGalleryRequest { gallery_id: "own".into() };
    let pack_id = galleries.get_gallery(get).await.expect("it").into_inner().gallery.expect("it").pack_id;
    let made = create_key(&running.channel, new_key(&["read:own"])).await.expect("a key");
    let (sender, mut replies) = open_stream(caller(&running.channel, &made.secret)).await;
    let values: Vec<f32> = (0..512).map(|at| if at == 0 { 1.0 } else { 0.0 }).collect();
    sender.send(probe(values.clone(), &pack_id)).await.expect("open");
    assert!(replies.message().await.expect("an answer").is_some());
    let mut keys = KeyServiceClient::new(caller(&running.channel, ADMIN_KEY));
    let key_id = made.key.expect("the key").key_id;
    keys.revoke_key(proto::RevokeKeyRequest { key_id: key_id.clone() }).await.expect("revoke");
    sender.send(probe(values, &pack_id)).await.expect("open");
    assert_eq!(replies.message().await.expect_err("refused").code(), Code::Unauthenticated);
    let again = keys.revoke_key(proto::RevokeKeyRequest { key_id }).await.expect_err("gone");
    assert_eq!((again.code(), common::reason(&again).as_str()), (Code::NotFound, "KEY_NOT_FOUND"));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_no_gallery_can_have_are_refused_and_not_kept() {
    let data = tempfile::tempdir().expect("a folder");
    let running = serve(data.path(), &[]).await;
    let reader = caller(&running.channel, &secret(&running.channel, &["read:door-*"]).await);
    for method in methods() {
        let Some(message) = naming(&method.input(), &format!("door-{}", "x".repeat(1 << 20))) else { continue };
        let status = call(&reader, &method, message).await.expect_err("refused");
        let expected = [Code::InvalidArgument, Code::PermissionDenied];
        assert!(expected.contains(&status.code()), "{}: {status}", method.full_name());
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_key_ends_the_export_that_goes_on_with_it() {
    let data = tempfile::tempdir().expect("a folder");
    let running = serve(data.path(), &[]).await;
    let file = data.path().join("synthetic.gallery");
    let made = std::process::Command::new(env!("CARGO_BIN_EXE_facematch"))
        .args(["gallery", "synthesize", "--templates", "20000"])
        .arg(&file)
        .output()
        .expect("run");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let bytes = std::fs::read(&file).expect("the file");
    let parts: Vec<_> = bytes
        .chunks(1 << 20)
        .enumerate()
        .map(|(part, data)| proto::ImportGalleryRequest {
            gallery_id: if part == 0 { "big".into() } else { String::new() },
            data: data.to_vec(),
            ..Default::default()
        })
        .collect();
    let mut admin = GalleryServiceClient::new(caller(&running.channel, ADMIN_KEY));
    admin.import_gallery(tokio_stream::iter(parts)).await.expect("imported");
    let made = create_key(&running.channel, new_key(&["admin:big"])).await.expect("a key");
    let mut of_key = GalleryServiceClient::new(caller(&running.channel, &made.secret));
    let request = proto::ExportGalleryRequest { gallery_id: "big".into() };
    let mut replies = of_key.export_gallery(request).await.expect("a stream").into_inner();
    assert!(replies.message().await.expect("a part").is_some());
    let mut keys = KeyServiceClient::new(caller(&running.channel, ADMIN_KEY));
    let key_id = made.key.expect("the key").key_id;
    keys.revoke_key(proto::RevokeKeyRequest { key_id }).await.expect("revoke");
    let end = loop {
        match replies.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it went on to its end"),
            Err(status) => break status,
        }
    };
    assert_eq!(end.code(), Code::Unauthenticated);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_survive_a_restart_and_their_secrets_are_kept_nowhere() {
    let data = tempfile::tempdir().expect("a folder");
    let running = serve(data.path(), &[]).await;
    let key = proto::Key {
        limits: Some(proto::KeyLimits { identities: Some(3), ..Default::default() }),
        ..new_key(&["read:*", "enrol:a-*"])
    };
    let made = create_key(&running.channel, key).await.expect("a key");
    running.stop().await;
    for entry in walk(&data.path().join("store")) {
        let bytes = std::fs::read(&entry).expect("a file");
        let secret = made.secret.as_bytes();
        assert!(!bytes.windows(secret.len()).any(|part| part == secret), "{}", entry.display());
    }
    let running = serve(data.path(), &[]).await;
    let mut keys = KeyServiceClient::new(caller(&running.channel, ADMIN_KEY));
    let listed = keys.list_keys(proto::ListKeysRequest {}).await.expect("the keys").into_inner().keys;
    let without_nanos = |mut key: proto::Key| {
        key.create_time = None;
        key
    };
    let expected = made.key.clone().expect("the key");
    assert!(listed.len() == 1 && without_nanos(listed[0].clone()) == without_nanos(expected));
    let mut galleries = GalleryServiceClient::new(caller(&running.channel, &made.secret));
    galleries.list_galleries(proto::ListGalleriesRequest::default()).await.expect("still in force");
    running.stop().await;
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn server_that_asks_for_keys_does_not_start_where_nobody_could_make_one() {
    let data = tempfile::tempdir().expect("a folder");
    let refused = |settings: Vec<(&'static str, String)>| {
        let folder = data.path().join("store");
        async move {
            let settings: Vec<(&str, &str)> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
            let started = common::start_server(&common::starter_pack(), &folder, &settings).await;
            started.err().expect("refused").to_string()
        }
    };
    let keys = ("keys", "required".to_owned());
    assert!(refused(vec![keys.clone()]).await.contains("facematch key generate"));
    let short = data.path().join("short.key");
    common::write_secret(&short, "tooshort");
    let short = ("admin_key_file", short.to_str().expect("a path").to_owned());
    assert!(refused(vec![keys.clone(), short]).await.contains("32 to 256 bytes"));
    let open = data.path().join("open.key");
    common::write_secret(&open, ADMIN_KEY);
    std::fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("a mode");
    let open = ("admin_key_file", open.to_str().expect("a path").to_owned());
    assert!(refused(vec![keys, open]).await.contains("by others than its owner (mode 644)"));
}
