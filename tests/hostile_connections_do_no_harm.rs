//! Slow, greedy and broken clients: each is refused or cut off within its limit, and others are served meanwhile.

mod common;

use std::time::{Duration, Instant};

use facematch::contract::{self as proto};
use h2::client::SendRequest;
use http::Request;
use prost_reflect::prost::Message;
use prost_reflect::prost::bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;

const WAIT_MAX: Duration = Duration::from_secs(30);

/// A connection without a client's good manners.
async fn raw(running: &common::Running) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(running.server.address()).await.expect("connect");
    let (client, connection) = h2::client::handshake(stream).await.expect("shake hands");
    tokio::spawn(async move {
        // However it ends: the test looks at the other side.
        let _ = connection.await;
    });
    client
}

fn post(path: &str) -> http::request::Builder {
    Request::post(format!("http://test{path}")).header("content-type", "application/grpc").header("te", "trailers")
}

/// A message as it is on the wire.
fn framed(flag: u8, length: u32, bytes: &[u8]) -> Bytes {
    [&[flag][..], &length.to_be_bytes(), bytes].concat().into()
}

/// The status of a reply, in its headers or behind them.
async fn ended(reply: h2::client::ResponseFuture) -> Result<Code, h2::Error> {
    let reply = tokio::time::timeout(WAIT_MAX, reply).await.expect("an end")?;
    let code = |headers: &http::HeaderMap| Some(Code::from_bytes(headers.get("grpc-status")?.as_bytes()));
    if let Some(code) = code(reply.headers()) {
        return Ok(code);
    }
    let mut body = reply.into_body();
    while let Some(data) = body.data().await {
        data?;
    }
    Ok(body.trailers().await?.as_ref().and_then(code).unwrap_or(Code::Unknown))
}

async fn is_served(running: &common::Running) {
    let started = Instant::now();
    loop {
        // A connection of its own: the one that is there may be the one that makes way.
        let address = format!("http://{}", running.server.address());
        let endpoint = tonic::transport::Endpoint::from_shared(address).expect("an address");
        let connected =
            endpoint.connect_timeout(Duration::from_secs(2)).timeout(Duration::from_secs(2)).connect().await;
        if let Ok(channel) = connected {
            let mut client = proto::gallery_service_client::GalleryServiceClient::new(channel);
            if client.list_galleries(proto::ListGalleriesRequest::default()).await.is_ok() {
                return;
            }
        }
        assert!(started.elapsed() < WAIT_MAX, "others are served");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_make_way_for_the_next() {
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve_starter(data.path(), &[("connections_max", "8")]).await;
    let mut idle = Vec::new();
    for _ in 0..40 {
        idle.push(TcpStream::connect(running.server.address()).await.expect("connect"));
    }
    is_served(&running).await;
    drop(idle);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_whose_calls_are_refused_make_way() {
    let data = tempfile::tempdir().expect("a folder");
    let key = data.path().join("admin.key");
    common::write_secret(&key, &"k".repeat(40));
    let key = key.to_str().expect("a path");
    let settings = [("connections_max", "4"), ("keys", "required"), ("admin_key_file", key)];
    let running = common::serve_starter(&data.path().join("store"), &settings).await;
    let mut asking = Vec::new();
    for _ in 0..4 {
        let mut client = raw(&running).await;
        asking.push(tokio::spawn(async move {
            loop {
                let request = post("/facematch.v1.GalleryService/ListGalleries").body(()).expect("a request");
                let Ok((reply, _)) = client.send_request(request, true) else { return };
                let _ = reply.await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }));
    }
    let started = Instant::now();
    loop {
        let stream = TcpStream::connect(running.server.address()).await.expect("connect");
        let shaken = tokio::time::timeout(Duration::from_secs(2), h2::client::handshake(stream)).await;
        if let Ok(Ok((mut client, connection))) = shaken {
            tokio::spawn(async move { drop(connection.await) });
            let request = post("/grpc.health.v1.Health/Check").body(()).expect("a request");
            if let Ok((reply, mut sender)) = client.send_request(request, false)
                && sender.send_data(framed(0, 0, b""), true).is_ok()
                && matches!(tokio::time::timeout(Duration::from_secs(2), reply).await, Ok(Ok(_)))
            {
                break;
            }
        }
        assert!(started.elapsed() < WAIT_MAX, "health is told");
    }
    asking.iter().for_each(tokio::task::JoinHandle::abort);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_with_a_call_does_not_make_way() {
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve_starter(data.path(), &[("connections_max", "4")]).await;
    let mut busy = raw(&running).await;
    let request = post("/facematch.v1.MatchService/IdentifyStream").body(()).expect("a request");
    let (reply, mut sender) = busy.send_request(request, false).expect("a stream");
    let idle = futures_of_idle(&running, 12).await;
    is_served(&running).await;
    // Still there: it is told that it has sent nothing.
    sender.send_data(Bytes::new(), true).expect("an open stream");
    assert_eq!(ended(reply).await.expect("a status"), Code::InvalidArgument);
    drop(idle);
    running.stop().await;
}

async fn futures_of_idle(running: &common::Running, count: usize) -> Vec<TcpStream> {
    let mut idle = Vec::new();
    for _ in 0..count {
        idle.push(TcpStream::connect(running.server.address()).await.expect("connect"));
    }
    idle
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_without_a_call_is_closed_after_its_time() {
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve_starter(data.path(), &[("connection_idle_max_ms", "1000")]).await;
    let mut silent = TcpStream::connect(running.server.address()).await.expect("connect");
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(WAIT_MAX, silent.read_to_end(&mut bytes)).await;
    assert!(read.is_ok(), "it is closed");
    let mut half = TcpStream::connect(running.server.address()).await.expect("connect");
    half.write_all(b"PRI * HTTP/2.0\r\n").await.expect("half a greeting");
    assert!(tokio::time::timeout(WAIT_MAX, half.read_to_end(&mut bytes)).await.is_ok(), "it is closed");
    is_served(&running).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_senders_hold_their_places_only_for_the_time_of_a_message() {
    let data = tempfile::tempdir().expect("a folder");
    let settings = [("calls_max", "4"), ("message_time_max_ms", "1500")];
    let running = common::serve_starter(data.path(), &settings).await;
    let mut slow = raw(&running).await;
    let mut calls = Vec::new();
    for _ in 0..4 {
        let request = post("/facematch.v1.FaceService/Detect").body(()).expect("a request");
        let (reply, mut sender) = slow.send_request(request, false).expect("a stream");
        sender.send_data(framed(0, 1_000, b"drip"), false).expect("send");
        calls.push((reply, sender));
    }
    is_served(&running).await;
    for (reply, sender) in calls {
        assert_eq!(ended(reply).await.expect("a status"), Code::DeadlineExceeded);
        drop(sender);
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flood_of_resets_ends_its_connection_and_no_other() {
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve_starter(data.path(), &[]).await;
    let mut flood = raw(&running).await;
    let mut is_cut = false;
    for _ in 0..20_000 {
        let request = post("/facematch.v1.FaceService/Detect").body(()).expect("a request");
        let Ok((_, mut sender)) = flood.send_request(request, false) else {
            is_cut = true;
            break;
        };
        sender.send_reset(h2::Reason::CANCEL);
        if flood.clone().ready().await.is_err() {
            is_cut = true;
            break;
        }
        tokio::task::yield_now().await;
    }
    // Whether it is cut depends on how fast the server reads; that others are served does not.
    eprintln!("the flood was {}", if is_cut { "cut" } else { "taken" });
    is_served(&running).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_messages_are_refused_unopened() {
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve_starter(data.path(), &[]).await;
    let mut client = raw(&running).await;
    // A gigabyte of zeros would be a megabyte of this.
    let bomb = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for encoding in [Some("gzip"), Some("zstd"), None] {
        let request = post("/facematch.v1.FaceService/Detect");
        let request =
            encoding.map_or(post("/facematch.v1.FaceService/Detect"), |name| request.header("grpc-encoding", name));
        let (reply, mut sender) = client.send_request(request.body(()).expect("a request"), false).expect("a stream");
        sender.send_data(framed(1, bomb.len() as u32, &bomb), true).expect("send");
        let code = ended(reply).await.expect("a status");
        assert!([Code::Unimplemented, Code::Internal].contains(&code), "{encoding:?}: {code:?}");
    }
    is_served(&running).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn message_that_says_it_is_huge_is_refused_before_it_comes() {
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve_starter(data.path(), &[]).await;
    let mut client = raw(&running).await;
    for length in [u32::MAX, 64 << 20 | 1] {
        let request = post("/facematch.v1.FaceService/Detect").body(()).expect("a request");
        let (reply, mut sender) = client.send_request(request, false).expect("a stream");
        sender.send_data(framed(0, length, b""), false).expect("send");
        assert_eq!(ended(reply).await.expect("a status"), Code::OutOfRange, "{length}");
    }
    is_served(&running).await;
    running.stop().await;
}

/// Resident memory of this process, server and clients together.
fn memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("what Linux tells of a process");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("its memory");
    line.split_whitespace().nth(1).and_then(|text| text.parse::<u64>().ok()).expect("a number") << 10
}

#[tokio::test(flavor = "multi_thread")]
async fn greedy_clients_get_no_more_memory_than_what_they_send() {
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve_starter(data.path(), &[]).await;
    is_served(&running).await;
    let before = memory_bytes();
    let mut held = Vec::new();
    for _ in 0..20 {
        let mut client = raw(&running).await;
        for _ in 0..10 {
            // A message of 60 MB begins, on 200 streams: 12 GB, if anybody made room for them.
            let request = post("/facematch.v1.FaceService/Detect").body(()).expect("a request");
            let (reply, mut sender) = client.send_request(request, false).expect("a stream");
            sender.send_data(framed(0, 60 << 20, &[0; 1_024]), false).expect("send");
            held.push((reply, sender));
        }
    }
    is_served(&running).await;
    let grown = memory_bytes().saturating_sub(before);
    assert!(grown < 200 << 20, "{} MB more", grown >> 20);
    drop(held);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_beyond_their_limit_are_refused() {
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve_starter(data.path(), &[]).await;
    let mut client = raw(&running).await;
    let mut request = post("/facematch.v1.GalleryService/ListGalleries");
    for number in 0..64 {
        request = request.header(format!("x-filler-{number}"), "f".repeat(1_000));
    }
    match client.send_request(request.body(()).expect("a request"), true) {
        // The server has said how much it takes, and the client keeps to it.
        Err(_) => {}
        Ok((reply, _)) => {
            let reply = tokio::time::timeout(WAIT_MAX, reply).await.expect("an end");
            assert!(reply.is_err() || reply.is_ok_and(|reply| reply.status().as_u16() == 431));
        }
    }
    is_served(&running).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_fields_are_passed_over_and_unknown_values_are_refused() {
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve_starter(data.path(), &[]).await;
    running.create_gallery("staff").await;
    let mut client = raw(&running).await;
    let mut call = async |path: &str, bytes: Vec<u8>| {
        let (reply, mut sender) =
            client.send_request(post(path).body(()).expect("a request"), false).expect("a stream");
        sender.send_data(framed(0, bytes.len() as u32, &bytes), true).expect("send");
        ended(reply).await.expect("a status")
    };
    let get = proto::GetGalleryRequest { gallery_id: "staff".into() }.encode_to_vec();
    // Field 1000: a number, a text.
    let with_unknown = [&get[..], &[0xc0, 0x3e, 7], &[0xc2, 0x3e, 3, b'a', b'b', b'c']].concat();
    assert_eq!(call("/facematch.v1.GalleryService/GetGallery", with_unknown).await, Code::Ok);
    let group = [&get[..], &[0xc3, 0x3e, 0xc4, 0x3e]].concat();
    assert_eq!(call("/facematch.v1.GalleryService/GetGallery", group).await, Code::InvalidArgument);
    let gallery = proto::Gallery { gallery_id: "new".into(), search_policy: 99, ..Default::default() };
    let create = proto::CreateGalleryRequest { gallery: Some(gallery) }.encode_to_vec();
    assert_eq!(call("/facematch.v1.GalleryService/CreateGallery", create).await, Code::InvalidArgument);
    let photo = Some(proto::Photo { data: vec![1] });
    let embed = proto::EmbedRequest { photo, face_selection: -7, ..Default::default() }.encode_to_vec();
    assert_eq!(call("/facematch.v1.FaceService/Embed", embed).await, Code::InvalidArgument);
    running.stop().await;
}
