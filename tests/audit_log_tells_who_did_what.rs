//! The audit log: each change and each refusal has its line, nothing private is in it, and what is changed later shows.

#[path = "common/callers.rs"]
mod callers;
mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use callers::{ADMIN_KEY, admin_key_file, caller, create_key, new_key};
use common::program::Served;
use facematch::audit::{Chained, verify};
use facematch::contract::enrollment_service_client::EnrollmentServiceClient;
use facematch::contract::gallery_service_client::GalleryServiceClient;
use facematch::contract::{self as proto};
use tonic::transport::Channel;

async fn serve(data: &Path, settings: &[(&str, &str)]) -> common::Running {
    let (file, log) = (admin_key_file(data), data.join("audit.log"));
    let keys = [("keys", "required"), ("admin_key_file", file.as_str()), ("audit_log", log.to_str().expect("a path"))];
    common::serve_starter(&data.join("store"), &[&keys, settings].concat()).await
}

fn entries(data: &Path) -> Vec<Chained> {
    let mut entries = Vec::new();
    verify(&data.join("audit.log"), None, |entry, _| entries.push(entry.clone())).expect("a whole log");
    entries
}

/// Makes a gallery, enrols somebody, is refused, asks, and deletes; returns the id of the key that did not get in.
async fn work(running: &common::Running) -> String {
    let mut galleries = GalleryServiceClient::new(caller(&running.channel, ADMIN_KEY));
    let gallery = proto::Gallery { gallery_id: "staff".into(), ..Default::default() };
    let made = galleries.create_gallery(proto::CreateGalleryRequest { gallery: Some(gallery) }).await;
    let pack_id = made.expect("a gallery").into_inner().gallery.expect("it").pack_id;
    let mut admin = EnrollmentServiceClient::new(caller(&running.channel, ADMIN_KEY));
    let values = (0..512).map(|at| if at == 0 { 1.0 } else { 0.0 }).collect();
    let source = Some(proto::sample::Source::Embedding(proto::Embedding { values, pack_id }));
    let enroll = proto::EnrollRequest {
        gallery_id: "staff".into(),
        identity_id: "ann-smith".into(),
        display_name: "Ann Smith".into(),
        samples: vec![proto::Sample { source, ..Default::default() }],
        ..Default::default()
    };
    admin.enroll(enroll.clone()).await.expect("enrolled");
    let made = create_key(&running.channel, new_key(&["read:own", "enrol:own"])).await.expect("a key");
    let mut outsider = EnrollmentServiceClient::new(caller(&running.channel, &made.secret));
    outsider.enroll(enroll).await.expect_err("refused");
    let get =
        proto::GetIdentityRequest { gallery_id: "staff".into(), identity_id: "ann-smith".into(), ..Default::default() };
    outsider.get_identity(get.clone()).await.expect_err("refused");
    admin.get_identity(get).await.expect("read");
    let delete = proto::DeleteIdentityRequest { gallery_id: "staff".into(), identity_id: "ann-smith".into() };
    admin.delete_identity(delete).await.expect("deleted");
    made.key.expect("the key").key_id
}

#[tokio::test(flavor = "multi_thread")]
async fn each_change_and_each_refusal_has_a_line_with_who_what_where_and_how_it_ended() {
    let data = tempfile::tempdir().expect("a folder");
    let running = serve(data.path(), &[]).await;
    let outsider = format!("key {}", work(&running).await);
    let mut stranger = GalleryServiceClient::new(caller(&running.channel, ""));
    for _ in 0..100 {
        stranger.list_galleries(proto::ListGalleriesRequest::default()).await.expect_err("refused");
    }
    running.stop().await;
    let entries = entries(data.path());
    let told: Vec<(&str, &str, &str, &str)> = entries
        .iter()
        .map(|entry| {
            let call = entry.call.strip_prefix("facematch.v1.").expect("a call");
            (entry.who.as_str(), call, entry.galleries.first().map_or("", String::as_str), entry.code.as_str())
        })
        .collect();
    let admin = "admin key file";
    let expected = [
        (admin, "GalleryService/CreateGallery", "staff", "OK"),
        (admin, "EnrollmentService/Enroll", "staff", "OK"),
        (admin, "KeyService/CreateKey", "", "OK"),
        (&outsider, "EnrollmentService/Enroll", "staff", "PERMISSION_DENIED"),
        (&outsider, "EnrollmentService/GetIdentity", "staff", "PERMISSION_DENIED"),
        (admin, "EnrollmentService/DeleteIdentity", "staff", "OK"),
    ];
    let (known, strangers): (Vec<_>, Vec<_>) = told.into_iter().partition(|(who, ..)| *who != "unknown");
    assert_eq!(known, expected);
    // Of strangers a few a second have a line.
    assert!((1..100).contains(&strangers.len()), "{}", strangers.len());
    assert!(strangers.iter().all(|(_, _, _, code)| *code == "UNAUTHENTICATED"));
    assert!(entries.iter().all(|entry| entry.peer.starts_with("127.0.0.1:") && !entry.request_id.is_empty()));
    let text = std::fs::read_to_string(data.path().join("audit.log")).expect("the log");
    for private in ["Ann", "ann-smith", ADMIN_KEY] {
        assert!(!text.contains(private), "{private}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_calls_are_told_where_that_is_wanted_and_the_chain_goes_on_after_a_restart() {
    let data = tempfile::tempdir().expect("a folder");
    let running = serve(data.path(), &[("audit_calls", "all")]).await;
    work(&running).await;
    running.stop().await;
    assert!(entries(data.path()).iter().any(|entry| entry.call.ends_with("GetIdentity") && entry.code == "OK"));
    let before = entries(data.path()).len();
    let running = serve(data.path(), &[]).await;
    let mut galleries = GalleryServiceClient::new(caller(&running.channel, ADMIN_KEY));
    let delete = proto::DeleteGalleryRequest { gallery_id: "staff".into(), force: true };
    galleries.delete_gallery(delete).await.expect("deleted");
    running.stop().await;
    assert_eq!(entries(data.path()).len(), before + 1);
}

fn audit(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_facematch")).arg("audit").args(arguments).output().expect("run");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), text)
}

#[tokio::test(flavor = "multi_thread")]
async fn command_checks_a_log_and_finds_what_was_changed_or_cut_off() {
    let data = tempfile::tempdir().expect("a folder");
    let running = serve(data.path(), &[]).await;
    work(&running).await;
    running.stop().await;
    let path = data.path().join("audit.log");
    let log = path.to_str().expect("a path");
    let (code, text) = audit(&["verify", log]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("6 entries"), "{text}");
    let head = text.rsplit("head ").next().expect("a head").trim().to_owned();
    assert_eq!(audit(&["verify", log, "--contains", &head]).0, Some(0));
    let whole = std::fs::read_to_string(&path).expect("the log");
    std::fs::write(&path, whole.replace("staff", "stuff")).expect("write");
    let (code, text) = audit(&["verify", log]);
    assert!(code == Some(2) && text.contains("line 1"), "{text}");
    let lines: Vec<&str> = whole.lines().collect();
    std::fs::write(&path, lines[..5].join("\n") + "\n").expect("write");
    assert_eq!(audit(&["verify", log]).0, Some(0));
    let (code, text) = audit(&["verify", log, "--contains", &head]);
    assert!(code == Some(2) && text.contains("taken out"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn server_does_not_start_on_a_file_that_is_no_log() {
    let data = tempfile::tempdir().expect("a folder");
    let path = data.path().join("notes.txt");
    std::fs::write(&path, "my notes\n").expect("write");
    let settings = [("audit_log", path.to_str().expect("a path"))];
    let started = common::start_server(&common::starter_pack(), &data.path().join("store"), &settings).await;
    assert!(started.err().expect("refused").to_string().contains("audit log"));
    assert_eq!(std::fs::read_to_string(&path).expect("the notes"), "my notes\n");
}

/// Servers that are killed in the midst of their work, by the rounds.
const KILLS: usize = 16;
const CALLERS: usize = 16;

/// A kill loses what the server has not written yet; a power cut, what is not on the disk.
#[tokio::test(flavor = "multi_thread")]
async fn change_that_was_acknowledged_has_its_line_though_the_server_is_killed() {
    let data = tempfile::tempdir().expect("a folder");
    let (pack, log) = (common::starter_pack(), data.path().join("audit.log"));
    let (pack, log) = (pack.to_str().expect("a path"), log.to_str().expect("a path"));
    let flags = ["--workers", "1", "--pack", pack, "--pack-files", pack, "--audit-log", log];
    let mut acknowledged = BTreeSet::new();
    for round in 0..KILLS {
        let served = Served::start_with(data.path(), &data.path().join("store"), &flags);
        let (sender, mut made) = tokio::sync::mpsc::unbounded_channel();
        let channel = Channel::from_shared(served.endpoint.clone()).expect("an address").connect_lazy();
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let (sender, mut galleries) = (sender.clone(), GalleryServiceClient::new(channel.clone()));
                tokio::spawn(async move {
                    for number in 0.. {
                        let id = format!("g-{round}-{caller}-{number}");
                        let gallery = proto::Gallery { gallery_id: id.clone(), ..Default::default() };
                        let create = proto::CreateGalleryRequest { gallery: Some(gallery) };
                        if galleries.create_gallery(create).await.is_err() || sender.send(id).is_err() {
                            return;
                        }
                    }
                })
            })
            .collect();
        drop(sender);
        for _ in 0..20 + 3 * round {
            acknowledged.insert(made.recv().await.expect("it is served"));
        }
        served.kill();
        for caller in callers {
            caller.await.expect("a caller");
        }
        while let Some(id) = made.recv().await {
            acknowledged.insert(id);
        }
    }
    // Begun once more: what a kill left of a last line is cut off.
    Served::start_with(data.path(), &data.path().join("store"), &flags).stop();
    let entries = entries(data.path());
    let told: BTreeSet<String> =
        entries.into_iter().filter(|entry| entry.code == "OK").flat_map(|entry| entry.galleries).collect();
    assert!(acknowledged.len() > KILLS * 20);
    assert_eq!(acknowledged.difference(&told).collect::<Vec<_>>(), Vec::<&String>::new());
}
