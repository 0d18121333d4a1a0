//! A thousand photos decoded apart, and as many failures, leave files and processes as they were.
#![cfg(target_os = "linux")]

mod common;

use common::decoders::{isolation, signal, state, wait_until};
use common::samples;
use facematch::decode::{Decoders, PhotoLimits};

/// As many photos, one in a hundred of which costs the process.
const PHOTOS: usize = 1_000;
const DEATHS: usize = 10;

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("files").count()
}

/// One test: it counts the files of this process.
#[test]
fn thousand_photos_leave_files_and_processes_as_they_were() {
    let limits = PhotoLimits::default();
    let photos: Vec<Vec<u8>> = samples::people().iter().map(|name| samples::photo(name, 1)).collect();
    let decoder = Decoders::new(limits, Some(isolation(&limits))).open();
    decoder.start();
    let before = open_files();
    let mut processes = std::collections::BTreeSet::new();
    for number in 0..PHOTOS {
        // A photo and what is left of one.
        let photo = &photos[number % photos.len()];
        let picture = decoder.decode(photo).expect("a picture");
        decoder.take_back(picture);
        assert!(decoder.decode(&photo[..photo.len() / 2]).is_err());
        let process = decoder.process_id().expect("a process");
        processes.insert(process);
        if number % (PHOTOS / DEATHS) == 0 {
            signal(process, "KILL");
            wait_until("it is dead", || state(process) == Some('Z'));
        }
    }
    assert!((DEATHS..=DEATHS + 1).contains(&processes.len()), "{}", processes.len());
    assert_eq!(open_files(), before);
    let last = decoder.process_id().expect("a process");
    let left: Vec<u32> = processes.into_iter().filter(|process| state(*process).is_some()).collect();
    assert_eq!(left, [last], "the others are no more, not even as zombies");
    drop(decoder);
    assert_eq!(state(last), None);
    assert_eq!(open_files(), before - 1, "its socket");
}
