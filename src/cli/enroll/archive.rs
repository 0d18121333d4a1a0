//! A TAR of people: …/NAME/PHOTO. Its names become identities and keys, and never touch the file system.

use std::io::Read;

use anyhow::Context;
use flate2::read::MultiGzDecoder;
use tar::{Archive, Entry, EntryType};

use super::super::arguments::count;
use super::bounded::{Bounded, Input};
use super::metadata::Metadata;
use super::source::{Bytes, Found, Place, Taker, Unusable, id, is_photo};

/// What an entry may take before its bytes: its headers and long names, which are held in memory, and padding.
const HEADER_BYTES_MAX: u64 = 1 << 20;

/// Gives the photos of an archive, in its order; compressed or not.
///
/// *Errors*: an archive that is damaged or cut short, after all that was whole.
pub(super) fn read(mut input: Input, taker: &mut Taker) -> anyhow::Result<()> {
    let reader: Box<dyn Read> = match input.is_gzip()? {
        true => Box::new(MultiGzDecoder::new(input.reader)),
        false => Box::new(input.reader),
    };
    let (bounded, allowance) = Bounded::new(reader);
    let mut archive = Archive::new(bounded);
    let mut entries = archive.entries()?;
    let (mut last, mut others) = (String::new(), 0);
    loop {
        allowance.set(HEADER_BYTES_MAX);
        let after = |last: &str| if last.is_empty() { "at its beginning".to_owned() } else { format!("after {last}") };
        let Some(entry) = entries.next() else {
            // An archive says where it ends; one that was cut between two entries does not.
            anyhow::ensure!(!allowance.has_ended(), "it has no end {}: it may have been cut short", after(&last));
            break;
        };
        let mut entry = entry.with_context(|| format!("it is cut short, damaged or no TAR {}", after(&last)))?;
        last = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        allowance.set(u64::MAX);
        match name(&entry, &last) {
            Name::Other => others += 1,
            Name::Folder => {}
            Name::Refused(message) => {
                let (place, reason) = (Place::of_photo(&last), "BAD_ENTRY");
                let (identity, key, message) = (String::new(), String::new(), message.to_owned());
                taker.unusable(Unusable { place, identity, key, reason, message })?;
            }
            Name::Photo { identity, key } => {
                let size = entry.size();
                taker
                    .photo(Found {
                        place: Place::of_photo(&last),
                        identity,
                        key,
                        display_name: String::new(),
                        metadata: Metadata::new(),
                        bytes: Bytes::Entry(&mut entry, size),
                    })
                    .with_context(|| last.clone())?;
            }
        }
        // Here rather than on the way to the next entry, which is allowed less. What a sparse file leaves out is nowhere, and
        // may be without end.
        if entry.header().entry_type() != EntryType::GNUSparse {
            std::io::copy(&mut entry, &mut std::io::sink()).with_context(|| format!("{last}: it is cut short"))?;
        }
    }
    if others > 0 {
        taker.passed_over(format!("{} in the archive", count(others, "other thing", "other things")))?;
    }
    Ok(())
}

/// What an entry is by its name and kind.
enum Name {
    Photo { identity: String, key: String },
    Folder,
    Other,
    Refused(&'static str),
}

fn name<R: Read>(entry: &Entry<'_, R>, shown: &str) -> Name {
    let kind = entry.header().entry_type();
    if kind == EntryType::Directory {
        return Name::Folder;
    }
    if !is_photo(shown.rsplit('/').next().unwrap_or_default()) {
        return Name::Other;
    }
    if !matches!(kind, EntryType::Regular | EntryType::Continuous) {
        return Name::Refused("a link, a device or a sparse file; links in archives are not followed");
    }
    let bytes = entry.path_bytes();
    let Ok(path) = std::str::from_utf8(&bytes) else { return Name::Refused("its name is not UTF-8") };
    if path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return Name::Refused("its name leads out of the archive; expected NAME/PHOTO");
    }
    let mut parts = path.rsplit('/').filter(|part| !part.is_empty() && *part != ".");
    match (parts.next(), parts.next()) {
        (Some(photo), Some(person)) => Name::Photo { identity: person.to_owned(), key: id(photo) },
        _ => Name::Refused("it is in no folder; expected NAME/PHOTO"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::source::given;
    use super::*;

    /// An archive whose names are as they are stated; entries of three bytes.
    fn archive(entries: &[(&[u8], EntryType)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, kind) in entries {
            let mut header = tar::Header::new_gnu();
            header.as_old_mut().name[..name.len()].copy_from_slice(name);
            header.set_entry_type(*kind);
            header.set_size(if *kind == EntryType::Regular { 3 } else { 0 });
            header.set_cksum();
            builder.append(&header, &b"abc"[..header.entry_size().expect("a size") as usize]).expect("append");
        }
        builder.into_inner().expect("an archive")
    }

    async fn read_bytes(bytes: Vec<u8>) -> (Vec<String>, anyhow::Result<()>) {
        given(move |taker| read(Input::of_bytes(bytes), taker)).await
    }

    #[tokio::test]
    async fn names_lead_nowhere_and_every_photo_is_told_of() {
        let (file, link) = (EntryType::Regular, EntryType::Symlink);
        let bytes = archive(&[
            (b"./people/", EntryType::Directory),
            (b"./people/ann/1.jpg", file),
            (b"bob/2.PNG", file),
            (b"bob/notes.txt", file),
            (b"bob/._2.PNG", file),
            (b"/etc/passwd.jpg", file),
            (b"../cat/1.jpg", file),
            (b"dan/../../1.jpg", file),
            (b"eve/1.jpg", link),
            (b"eve/2.jpg", EntryType::Link),
            (b"eve/3.jpg", EntryType::Char),
            (b"eve/fifo", EntryType::Fifo),
            (b"fay/\xff.jpg", file),
            (b"1.jpg", file),
            (b"other/ann/1.jpg", file),
        ]);
        let expected = [
            "ann 1.jpg 3",
            "bob 2.PNG 3",
            "BAD_ENTRY /etc/passwd.jpg: its name leads out of the archive",
            "BAD_ENTRY ../cat/1.jpg: its name leads out",
            "BAD_ENTRY dan/../../1.jpg: its name leads out",
            "BAD_ENTRY eve/1.jpg: a link, a device",
            "BAD_ENTRY eve/2.jpg: a link, a device",
            "BAD_ENTRY eve/3.jpg: a link, a device",
            "BAD_ENTRY fay/\u{fffd}.jpg: its name is not UTF-8",
            "BAD_ENTRY 1.jpg: it is in no folder",
            "REPEATED_KEY other/ann/1.jpg: ",
            "passed over: 3 other things in the archive",
        ];
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&bytes).expect("compress");
        for bytes in [bytes, gzip.finish().expect("compress")] {
            let (lines, end) = read_bytes(bytes).await;
            end.expect("read");
            assert_eq!(lines.len(), expected.len(), "{lines:#?}");
            for (line, expected) in lines.iter().zip(expected) {
                assert!(line.starts_with(expected), "{line:?} is not {expected:?}");
            }
        }
    }

    #[tokio::test]
    async fn archive_that_is_cut_short_is_told_wherever_it_is_cut() {
        let whole = archive(&[(b"ann/1.jpg", EntryType::Regular), (b"ann/2.jpg", EntryType::Regular)]);
        assert_eq!(whole.len(), 6 * 512);
        for length in [0, 100, 512, 513, 600, 1_024, 1_100, 1_536, 1_600, 2_048] {
            let (lines, end) = read_bytes(whole[..length].to_vec()).await;
            let error = format!("{:#}", end.expect_err("cut"));
            assert!(error.contains("cut short"), "{length}: {error}");
            // A photo that is there in full is taken, though its padding is not.
            let photos = if length >= 1_024 + 515 { 2 } else { usize::from(length >= 515) };
            assert_eq!(lines.len(), photos, "{length}: {lines:?}");
        }
        let (_, end) = read_bytes(b"no archive".repeat(200)).await;
        assert!(format!("{:#}", end.expect_err("no archive")).contains("no TAR"));
    }

    #[tokio::test]
    async fn entry_that_claims_or_has_too_much_is_not_held() {
        let mut header = tar::Header::new_gnu();
        header.set_path("ann/huge.jpg").expect("a name");
        header.set_size(80 << 20);
        header.set_cksum();
        let mut builder = tar::Builder::new(Vec::new());
        builder.append(&header, std::io::repeat(0).take(80 << 20)).expect("append");
        let (lines, end) = read_bytes(builder.into_inner().expect("an archive")).await;
        end.expect("read on");
        assert!(lines.iter().all(|line| line.starts_with("PHOTO_TOO_LARGE ann/huge.jpg: ")), "{lines:?}");

        // The name of the entry after it, 8 MiB of it: a parser would hold it in memory.
        let mut long = tar::Header::new_gnu();
        long.set_path("././@LongLink").expect("a name");
        long.set_entry_type(EntryType::GNULongName);
        long.set_size(8 << 20);
        long.set_cksum();
        let mut builder = tar::Builder::new(Vec::new());
        builder.append(&long, std::io::repeat(b'x').take(8 << 20)).expect("append");
        let (_, end) = read_bytes(builder.into_inner().expect("an archive")).await;
        assert!(format!("{:#}", end.expect_err("refused")).contains("larger than any"));
    }
}
