//! An archive or a folder of anybody: what would lead elsewhere, fill the disk or deceive is refused, and leaves nothing.

mod common;

use common::packs::{BELIEVED, House, archive, stored};
use common::program::run;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// Replaces bytes wherever they are, by as many others.
fn patched(mut bytes: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let places: Vec<usize> = (0..bytes.len() - from.len()).filter(|at| bytes[*at..].starts_with(from)).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to);
    }
    bytes
}

/// Changes the bytes of an archive's only central header, from an offset on.
fn central(mut bytes: Vec<u8>, offset: usize, to: &[u8]) -> Vec<u8> {
    let header = bytes.windows(4).position(|window| window == b"PK\x01\x02").expect("a header");
    bytes[header + offset..header + offset + to.len()].copy_from_slice(to);
    bytes
}

#[test]
fn archive_that_would_do_harm_leaves_nothing() {
    let named = |name: &str| {
        let placeholder = "p".repeat(name.len());
        patched(stored(&[(&placeholder, b"x")]), placeholder.as_bytes(), name.as_bytes())
    };
    let link = |name: &str| {
        let mut writer = ZipWriter::new(std::io::Cursor::new(Vec::new()));
        writer.add_symlink(name, "/etc/passwd", SimpleFileOptions::default()).expect("a link");
        writer.finish().expect("an archive").into_inner()
    };
    let many: Vec<String> = (0..300).map(|number| format!("{number}.onnx")).collect();
    let many: Vec<(&str, &[u8])> = many.iter().map(|name| (name.as_str(), b"x".as_slice())).collect();
    let zeros = vec![0; 16 << 20];
    let model = stored(&[("a.onnx", b"a model")]);
    let cases: [(&str, Vec<u8>, &str); 20] = [
        ("climbs", named("../../a.onnx"), "leads out of the archive"),
        ("climbs after a folder", named("a/../../a.onnx"), "leads out of the archive"),
        ("climbs at the end", named("a.onnx/.."), "leads out of the archive"),
        ("begins at the root", named("/tmp/a.onnx"), "leads out of the archive"),
        ("climbs as Windows does", named("..\\a.onnx"), "leads elsewhere on some systems"),
        ("names a drive", named("c:a.onnx"), "leads elsewhere on some systems"),
        ("has a zero in its name", named("a.onnx\0.txt"), "leads elsewhere on some systems"),
        ("has a name of no letters", patched(stored(&[("pp.onnx", b"x")]), b"pp.onnx", b"\xff\xfe.onnx"), "not UTF-8"),
        ("is a link", link("a.onnx"), "is a link or a device"),
        ("is a link that is passed over", link("readme/a"), "is a link or a device"),
        (
            "is there twice",
            patched(stored(&[("a.onnx", b"x"), ("b.onnx", b"y")]), b"b.onnx", b"a.onnx"),
            "two of its files",
        ),
        ("is there twice in two folders", stored(&[("a/a.onnx", b"x"), ("b/a.onnx", b"y")]), "is there twice"),
        ("is there twice for some", stored(&[("a.onnx", b"x"), ("A.onnx", b"y")]), "is there twice"),
        ("is a bomb", archive(&[("a.onnx", &zeros)], zip::CompressionMethod::Deflated), "bytes of all files"),
        ("says it is small", central(model.clone(), 24, &3u32.to_le_bytes()), "no ZIP archive, or a damaged one"),
        ("has too many entries", stored(&many), "expected at most 256 entries"),
        ("has another checksum", patched(model.clone(), b"a model", b"a madel"), "no ZIP archive, or a damaged one"),
        ("is encrypted", central(model.clone(), 8, &1u16.to_le_bytes()), "is encrypted"),
        ("is no archive", b"<html>log in</html>".to_vec(), "no ZIP archive, or a damaged one"),
        ("has no model", stored(&[("readme.txt", b"x"), ("a.pb", b"x")]), "expected *.onnx files, found none"),
    ];
    for (what, bytes, said) in cases {
        let house = House::new();
        house.write_catalogue("instead = \"-\"\n");
        let file = house.path("x.zip");
        std::fs::write(&file, bytes).expect("write");
        let error = run(house.of_models(&["add"]).arg(&file), 2);
        assert!(error.contains(said), "{what}: {error}");
        assert!(house.leftovers().is_empty(), "{what}: {:?}", house.leftovers());
        let beside: Vec<_> = std::fs::read_dir(house.folder.path())
            .expect("read")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        assert_eq!(beside.len(), 3, "{what}: {beside:?}");
    }
    // Cut anywhere, it is no archive.
    for length in [0, 1, 30, model.len() / 2, model.len() - 1] {
        let house = House::new();
        house.write_catalogue("instead = \"-\"\n");
        let file = house.path("x.zip");
        std::fs::write(&file, &model[..length]).expect("write");
        let error = run(house.of_models(&["add"]).arg(&file), 2);
        assert!(
            error.contains("no ZIP archive, or a damaged one") && house.leftovers().is_empty(),
            "{length}: {error}"
        );
    }
}

#[test]
fn folder_that_is_added_is_read_and_not_followed_further() {
    let house = House::new();
    house.write_catalogue("instead = \"-\"\n");
    let folder = house.path("pack");
    std::fs::create_dir_all(folder.join("within")).expect("folders");
    std::fs::write(folder.join("within/a.onnx"), b"x").expect("write");
    assert!(run(house.of_models(&["add"]).arg(&folder), 2).contains("found none"));
    assert!(run(house.of_models(&["add"]).arg(house.path("absent")), 2).contains("cannot read"));
    assert!(run(&mut house.of_models(&["add", "/dev/zero"]), 2).contains("neither a file nor a folder"));
    std::os::unix::fs::symlink("/dev/zero", folder.join("zero.onnx")).expect("a link");
    assert!(run(house.of_models(&["add"]).arg(&folder), 2).contains("found none"));
    std::fs::write(folder.join("a.onnx"), b"x").expect("write");
    assert!(run(house.of_models(&["add"]).arg(&folder), 2).contains(BELIEVED));
    assert!(run(house.of_models(&["add", "--name", "A B"]).arg(&folder), 2).contains("a pack's name is"));
    assert!(house.leftovers().is_empty());
}
