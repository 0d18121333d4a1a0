//! What is refused is let go. Alone in its program: other tests' memory would be measured too.
#![cfg(target_os = "linux")]

mod common;

use facematch::contract as proto;

/// What refuses a photo must not keep it: memory is the same after many rounds as after a few.
#[tokio::test(flavor = "multi_thread")]
async fn refused_photos_leave_no_memory_behind() {
    let Some(shared) = common::shared("refused_photos_leave_no_memory_behind") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[]).await;
    let names =
        ["bomb_30000x30000_1bit.png", "huge_8000.jpg", "lying_header_65500.jpg", "trunc_95pct.jpg", "photo.avif"];
    let photos = names.map(|name| std::fs::read(shared.join("faces/hard").join(name)).expect(name));
    let round = async || {
        for photo in &photos {
            let request =
                proto::DetectRequest { photo: Some(proto::Photo { data: photo.clone() }), ..Default::default() };
            running.faces().detect(request).await.expect_err("refused");
        }
    };
    for _ in 0..10 {
        round().await;
    }
    let before = resident_bytes();
    for _ in 0..60 {
        round().await;
    }
    let grown = resident_bytes().saturating_sub(before);
    println!("grown by {grown} bytes in 300 refused photos");
    // 300 photos of 0.1 to 4 MB went through; a leak of one in ten would show.
    assert!(grown < 16 << 20);
    running.stop().await;
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("statm");
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("pages") * 4_096
}
