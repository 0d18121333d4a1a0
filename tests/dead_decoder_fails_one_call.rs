//! Over gRPC: a decoder's process that dies or takes too long fails the call whose photo it had, with a reason of its own; it is
//! counted, and the next call is answered.
#![cfg(target_os = "linux")]

mod common;

use std::time::Duration;

use common::decoders::{children, signal, wait_until, wait_until_exchanging};
use common::samples;
use facematch::contract as proto;
use tonic::Code;

/// One test: its server's decoders are this process's children.
#[tokio::test(flavor = "multi_thread")]
async fn dead_decoder_fails_one_call_and_the_next_is_answered() {
    let data = tempfile::tempdir().expect("a folder");
    let settings = [("isolate_decoding", "yes"), ("workers", "1"), ("metrics_listen", "127.0.0.1:0")];
    let running = common::serve_starter_with(data.path(), &settings, |config| {
        config.isolation.as_mut().expect("it is on").time_max = Duration::from_secs(3);
    })
    .await;
    let photo = samples::photo(&samples::people()[0], 1);
    let embed = async || {
        let request = proto::EmbedRequest { photo: Some(proto::Photo { data: photo.clone() }), ..Default::default() };
        running.faces().embed(request).await.map(|reply| reply.into_inner().embedded_faces.len())
    };
    // One a worker, from the start.
    wait_until("its process is there", || children(std::process::id()).len() == 1);
    let first = decoder();
    assert_eq!(embed().await.expect("a face"), 1);
    assert_eq!(decoder(), first, "it is kept");

    // Killed while it has the photo.
    signal(first, "STOP");
    let worker = thread("worker-0");
    let kill = tokio::task::spawn_blocking(move || {
        wait_until_exchanging(worker);
        signal(first, "KILL");
    });
    let died = embed().await.expect_err("its process was killed");
    kill.await.expect("killed");
    let told = |status: &tonic::Status| (status.code(), common::reason(status), common::fields(status));
    let expected = (Code::InvalidArgument, "PHOTO_DECODER_DIED".to_owned(), "photo".to_owned());
    assert_eq!(told(&died), expected, "{died}");
    assert_eq!(embed().await.expect("the next call"), 1);
    let second = decoder();
    assert_ne!(second, first);

    // Stopped, and ended at its deadline.
    signal(second, "STOP");
    let late = embed().await.expect_err("its process is stopped");
    assert_eq!(told(&late), expected, "{late}");
    assert!(late.message().contains("it took too long"), "{late}");
    assert_eq!(embed().await.expect("the next call"), 1);

    let page = page(&running).await;
    for line in [
        "facematch_failures_to_acquire_total{reason=\"PHOTO_DECODER_DIED\"} 2",
        "facematch_errors_total{reason=\"PHOTO_DECODER_DIED\"} 2",
        "facematch_healthy 1",
    ] {
        assert!(page.contains(line), "{line} is not in\n{page}");
    }
    running.stop().await;
    assert_eq!(children(std::process::id()), [0; 0], "neither a process nor a zombie is left");
}

/// The one process that decodes.
fn decoder() -> u32 {
    let [decoder] = children(std::process::id())[..] else { panic!("one decoder") };
    decoder
}

/// A thread of this process, by its name.
fn thread(name: &str) -> u32 {
    let mut threads = std::fs::read_dir("/proc/self/task").expect("threads").map(|entry| entry.expect("a thread"));
    let is_it = |entry: &std::fs::DirEntry| {
        std::fs::read_to_string(entry.path().join("comm")).is_ok_and(|found| found.trim_end() == name)
    };
    let found = threads.find(is_it).expect(name).file_name();
    found.to_str().and_then(|id| id.parse().ok()).expect("its id")
}

async fn page(running: &common::Running) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let address = running.server.metrics_address().expect("the address of metrics");
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("connect");
    let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.expect("ask");
    let mut page = String::new();
    stream.read_to_string(&mut page).await.expect("a page");
    page
}
