//! gRPC-Web: pages of the origins that are named may call, over HTTP/1.1; others get nothing that a browser would give them.

mod common;

use std::net::SocketAddr;

use facematch::contract::{self as proto};
use prost_reflect::prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const ORIGIN: &str = "https://app.corp";

/// What a browser sends, and all that comes back.
async fn ask(server: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(server).await.expect("connect");
    let mut head =
        format!("{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    let all = [head.as_bytes(), b"\r\n", body].concat();
    let mut reply = Vec::new();
    // A server that speaks no HTTP/1.1 may reset what it does not read.
    let _ = stream.write_all(&all).await;
    let _ = stream.read_to_end(&mut reply).await;
    let end = reply.windows(4).position(|part| part == b"\r\n\r\n").map_or(reply.len(), |at| at + 4);
    (String::from_utf8_lossy(&reply[..end]).to_lowercase(), reply[end..].to_vec())
}

fn list_request() -> Vec<u8> {
    let bytes = proto::ListGalleriesRequest::default().encode_to_vec();
    [&[0][..], &(bytes.len() as u32).to_be_bytes(), &bytes].concat()
}

const LIST: &str = "/facematch.v1.GalleryService/ListGalleries";
const CALL: [(&str, &str); 2] = [("content-type", "application/grpc-web+proto"), ("x-grpc-web", "1")];

#[tokio::test(flavor = "multi_thread")]
async fn page_of_a_named_origin_is_answered_and_sees_the_status() {
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve_starter(data.path(), &[("grpc_web_origins", ORIGIN)]).await;
    running.create_gallery("staff").await;
    let headers = [&CALL[..], &[("origin", ORIGIN)]].concat();
    let (head, body) = ask(running.server.address(), "POST", LIST, &headers, &list_request()).await;
    assert!(
        head.starts_with("http/1.1 200") && head.contains(&format!("access-control-allow-origin: {ORIGIN}")),
        "{head}"
    );
    let has = |text: &[u8]| body.windows(text.len()).any(|part| part == text);
    assert!(has(b"staff") && has(b"grpc-status:0"), "{}", String::from_utf8_lossy(&body));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn page_whose_own_name_leads_here_is_refused() {
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve_starter(data.path(), &[("grpc_web_origins", ORIGIN)]).await;
    let headers = [&CALL[..], &[("origin", "http://evil.test:50051"), ("host", "evil.test:50051")]].concat();
    let (head, body) = ask(running.server.address(), "POST", LIST, &headers, &list_request()).await;
    let all = format!("{head}{}", String::from_utf8_lossy(&body));
    assert!(all.contains("grpc-status: 3") || all.contains("grpc-status:3"), "{all}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn browser_is_told_which_pages_may_call() {
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve_starter(data.path(), &[("grpc_web_origins", ORIGIN)]).await;
    for (origin, may) in [(ORIGIN, true), ("https://evil.test", false), ("null", false)] {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "authorization,content-type,x-grpc-web"),
        ];
        let (head, _) = ask(running.server.address(), "OPTIONS", LIST, &headers, b"").await;
        assert_eq!(head.contains("access-control-allow-origin"), may, "{origin}: {head}");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn page_needs_a_key_like_everybody() {
    let data = tempfile::tempdir().expect("a folder");
    let key = "a-key-of-the-admin-which-is-long-enough-for-one";
    let file = data.path().join("admin.key");
    common::write_secret(&file, key);
    let file = file.to_str().expect("a path");
    let settings = [("grpc_web_origins", "*"), ("keys", "required"), ("admin_key_file", file)];
    let running = common::serve_starter(&data.path().join("store"), &settings).await;
    let (head, _) = ask(running.server.address(), "POST", LIST, &CALL, &list_request()).await;
    assert!(head.contains("grpc-status: 16"), "{head}");
    let bearer = format!("Bearer {key}");
    let headers = [&CALL[..], &[("authorization", &bearer)]].concat();
    let (head, body) = ask(running.server.address(), "POST", LIST, &headers, &list_request()).await;
    let body = String::from_utf8_lossy(&body).into_owned();
    assert!(head.starts_with("http/1.1 200") && body.contains("grpc-status:0"), "{head}{body}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_named_origins_there_is_no_answer_for_pages() {
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve_starter(data.path(), &[]).await;
    let headers = [&CALL[..], &[("origin", ORIGIN)]].concat();
    let (head, _) = ask(running.server.address(), "POST", LIST, &headers, &list_request()).await;
    assert!(!head.contains("200 ok") && !head.contains("access-control"), "{head}");
    running.stop().await;
}
