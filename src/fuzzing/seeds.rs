//! What fuzzers begin with: small inputs that are right, made of the engine's own writers and of this repository's files.
//! `FACEMATCH_SEEDS=write cargo test --lib seeds` writes them anew, as `seed-…`; what fuzzers found stays.

use std::io::{Cursor, Write};
use std::path::Path;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use prost::Message;

use super::TARGETS;
use crate::contract as proto;
use crate::gallery::fuzzing as gallery;
use crate::server::fuzzing::{REQUESTS, Read};

type Seeds = Vec<(String, Vec<u8>)>;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn file(path: &str) -> Vec<u8> {
    std::fs::read(root().join(path)).unwrap_or_else(|error| panic!("read {path}: {error}"))
}

fn picture() -> DynamicImage {
    RgbImage::from_fn(24, 16, |x, y| Rgb([(x * 10) as u8, (y * 15) as u8, ((x ^ y) * 9) as u8])).into()
}

fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).expect("encode");
    bytes.into_inner()
}

fn photos() -> Seeds {
    let formats = [
        ("jpg", ImageFormat::Jpeg),
        ("png", ImageFormat::Png),
        ("webp", ImageFormat::WebP),
        ("bmp", ImageFormat::Bmp),
        ("gif", ImageFormat::Gif),
        ("tiff", ImageFormat::Tiff),
    ];
    let mut seeds: Seeds =
        formats.map(|(name, format)| (format!("rgb.{name}"), encoded(&picture(), format))).into_iter().collect();
    let gray = DynamicImage::ImageLuma8(picture().to_luma8());
    let deep = DynamicImage::ImageRgba16(picture().to_rgba16());
    seeds.push(("gray.jpg".into(), encoded(&gray, ImageFormat::Jpeg)));
    seeds.push(("gray.tiff".into(), encoded(&gray, ImageFormat::Tiff)));
    seeds.push(("deep.png".into(), encoded(&deep, ImageFormat::Png)));
    seeds.push(("deep.tiff".into(), encoded(&deep, ImageFormat::Tiff)));
    seeds.push(("person.jpg".into(), file("models/samples/people/alex/1.jpg")));
    // An EXIF segment that turns it, behind the start marker.
    let exif = b"\xff\xe1\x00\x22Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    let jpeg = encoded(&picture(), ImageFormat::Jpeg);
    let (start, rest) = jpeg.split_at(2);
    seeds.push(("turned.jpg".into(), [start, exif, rest].concat()));
    seeds
}

fn detectors() -> Seeds {
    let values: Vec<u8> =
        [0.9f32, 0.8, 0.1, 1.5, 2.0, -0.5, 0.0, 3.0, 0.7, 1.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    let hostile: Vec<u8> = [f32::NAN, f32::INFINITY, f32::MAX, -f32::MAX, 1.0, f32::MIN_POSITIVE, 0.9]
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let mut seeds = Seeds::new();
    for (name, kind) in [("scrfd", 0u8), ("yunet", 1), ("short", 4)] {
        seeds.push((name.into(), [&[kind, 63, 100][..], &values].concat()));
        seeds.push((format!("{name}-hostile"), [&[kind, 0, 0][..], &hostile].concat()));
        // A number that is one, until it is scaled to the photo.
        seeds.push((format!("{name}-largest"), [&[kind, 0, 0][..], &1e37f32.to_le_bytes()].concat()));
    }
    seeds
}

fn manifests() -> Seeds {
    let mut seeds = vec![("starter".to_owned(), file("models/starter/pack.toml"))];
    for name in ["yunet-foamliu", "scrfd25-edgeface-xs"] {
        seeds.push((name.to_owned(), file(&format!("tests/packs/{name}/pack.toml"))));
    }
    let least = String::from_utf8(file("tests/packs/yunet-foamliu/pack.toml")).expect("UTF-8");
    let curve = "\n[curve]\npack = \"0a\"\nsource = \"s\"\nmated = [[0.1, 50], [0.4, 20], [0.9, 0]]\nnon_mated = [[-0.2, 9000], [0.2, 10], [0.5, 0]]\ninflation = [[0.25, 2.5, 1.25]]\n";
    seeds.push(("curve".into(), format!("{}{curve}", least.split("\n[curve]").next().unwrap_or_default()).into()));
    seeds
}

fn catalogues() -> Seeds {
    let small = "format = 1\n[licences.free]\ntitle = \"free\"\ntext = \"t\"\n[[packs]]\nname = \"one\"\nabout = \"a\"\nlicence = \"free\"\n[[packs.files]]\nfile = \"one.zip\"\naddresses = [\"https://h/one.zip\"]\nbytes = 5\n";
    vec![("small".into(), small.into()), ("own".into(), file("models/catalogue.toml"))]
}

fn archives() -> Seeds {
    use zip::write::SimpleFileOptions;
    let zipped = |entries: &[(&str, &[u8])], method| {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in entries {
            let options = SimpleFileOptions::default().compression_method(method);
            writer.start_file(*name, options).expect("an entry");
            writer.write_all(content).expect("its bytes");
        }
        writer.finish().expect("an archive").into_inner()
    };
    let entries: [(&str, &[u8]); 4] =
        [("p/a.onnx", b"a model"), ("p/pack.toml", b"format = 1"), ("LICENSE.txt", b"free"), ("other", b"x")];
    let mut link = zip::ZipWriter::new(Cursor::new(Vec::new()));
    link.add_symlink("a.onnx", "/etc/passwd", SimpleFileOptions::default()).expect("a link");
    vec![
        ("stored".into(), zipped(&entries, zip::CompressionMethod::Stored)),
        ("deflated".into(), zipped(&entries, zip::CompressionMethod::Deflated)),
        ("climbs".into(), zipped(&[("../a.onnx", b"x"), ("a\\b.onnx", b"y")], zip::CompressionMethod::Stored)),
        ("link".into(), link.finish().expect("an archive").into_inner()),
    ]
}

fn filters() -> Seeds {
    let texts = [
        "site = \"HQ\" AND (age >= 18 OR NOT staff = true)",
        "since < \"2026-01-01T00:00:00Z\" AND key:*",
        "`a key` IN (\"x\", 2, false) OR a.b-c != -2.5e3",
        "NOT NOT (((a = 1)))",
        "name = \"say \\\"hi\\\" \\\\ é\"",
    ];
    texts.iter().enumerate().map(|(at, text)| (at.to_string(), text.as_bytes().to_vec())).collect()
}

fn csv() -> Seeds {
    vec![
        ("plain".into(), b"path,identity,key,metadata.age:number,metadata.since:time\n1.jpg,ann,k,30,2026-01-02T03:04:05Z\n\n1.jpg,bob,,x,\r\n".to_vec()),
        ("quoted".into(), b"\xef\xbb\xbfpath,identity,display_name\n\"1.jpg\",\"fay\nx\",\"F \"\"X\"\"\"\n1.jpg\n2.jpg,g\xff,h\n".to_vec()),
    ]
}

fn jsonl() -> Seeds {
    vec![
        ("plain".into(), b"{\"path\":\"1.jpg\",\"identity\":\"ann\",\"metadata\":{\"age\":3,\"since:time\":\"2026-01-02T03:04:05Z\"}}\n{\"path\":\"1.jpg\",\"identity\":\"bob\",\"key\":\"k\",\"metadata.staff:bool\":true}\n".to_vec()),
        ("bad".into(), b"nonsense\n[1]\n{\"path\":3}\n\xff\n{\"path\":\"1.jpg\",\"identity\":\"b\",\"metadata\":[]}".to_vec()),
    ]
}

fn tars() -> Seeds {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind) in [
        ("people/", tar::EntryType::Directory),
        ("people/ann/1.jpg", tar::EntryType::Regular),
        ("bob/2.png", tar::EntryType::Regular),
        ("eve/3.jpg", tar::EntryType::Symlink),
        ("../cat/1.jpg", tar::EntryType::Regular),
    ] {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_size(if kind == tar::EntryType::Regular { 3 } else { 0 });
        header.set_cksum();
        builder.append(&header, &b"abc"[..header.entry_size().expect("a size") as usize]).expect("append");
    }
    let mut long = tar::Header::new_gnu();
    long.set_size(3);
    let name = format!("{}/{}.jpg", "long".repeat(20), "name".repeat(20));
    builder.append_data(&mut long, name, &b"abc"[..]).expect("append");
    let plain = builder.into_inner().expect("an archive");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&plain).expect("compress");
    vec![("plain".into(), plain), ("gzip".into(), gzip.finish().expect("compress"))]
}

fn snapshots() -> Seeds {
    let whole = gallery::House::new(3).snapshot();
    let frames = [&[1], &whole[gallery::header_end(&whole)..]].concat();
    vec![("frames".into(), frames), ("whole".into(), [&[0], &whole[..]].concat())]
}

fn gallery_files() -> Seeds {
    let mut seeds = Seeds::new();
    for people in [0, 3] {
        seeds.push((format!("{people}-people"), gallery::House::new(people).file(&gallery::gallery_id())));
    }
    seeds
}

fn embedding() -> proto::Embedding {
    proto::Embedding { values: vec![0.5, 0.5, 0.5, 0.5], pack_id: "0a".repeat(16) }
}

/// Requests that say something, by name. All others begin empty.
fn requests() -> Vec<(&'static str, Vec<u8>)> {
    let (gallery_id, identity_id) = ("g".to_owned(), "ann".to_owned());
    let photo = || Some(proto::Photo { data: encoded(&picture(), ImageFormat::Png) });
    let cosine = || Some(proto::OperatingPoint { value: Some(proto::operating_point::Value::Cosine(0.3)) });
    let person = || {
        proto::verify_side::Side::Identity(proto::IdentityReference {
            gallery_id: gallery_id.clone(),
            identity_id: identity_id.clone(),
        })
    };
    let text = proto::MetadataValue { value: Some(proto::metadata_value::Value::StringValue("HQ".into())) };
    let sample = |source| proto::Sample { source: Some(source), template_id: "1".into() };
    let options = proto::BulkEnrollOptions { gallery_id: gallery_id.clone(), ..Default::default() };
    let gallery = proto::Gallery { gallery_id: "h".into(), display_name: "H".into(), ..Default::default() };
    vec![
        ("DetectRequest", proto::DetectRequest { photo: photo(), ..Default::default() }.encode_to_vec()),
        ("EmbedRequest", proto::EmbedRequest { photo: photo(), ..Default::default() }.encode_to_vec()),
        (
            "VerifyRequest",
            proto::VerifyRequest {
                a: Some(proto::VerifySide { side: Some(person()) }),
                b: Some(proto::VerifySide { side: Some(person()) }),
                operating_point: cosine(),
                ..Default::default()
            }
            .encode_to_vec(),
        ),
        (
            "IdentifyRequest",
            proto::IdentifyRequest {
                gallery_id: gallery_id.clone(),
                probe: Some(proto::Probe { probe: Some(proto::probe::Probe::Embedding(embedding())) }),
                operating_point: cosine(),
                filter: "site = \"HQ\"".into(),
                candidate_identity_ids: vec![identity_id.clone()],
                ..Default::default()
            }
            .encode_to_vec(),
        ),
        (
            "EnrollRequest",
            proto::EnrollRequest {
                gallery_id: gallery_id.clone(),
                identity_id: "cat".into(),
                metadata: [("site".to_owned(), text)].into(),
                samples: vec![sample(proto::sample::Source::Embedding(embedding()))],
                if_exists: proto::IfExists::Add.into(),
                ..Default::default()
            }
            .encode_to_vec(),
        ),
        (
            "BulkEnrollRequest",
            proto::BulkEnrollRequest { message: Some(proto::bulk_enroll_request::Message::Options(options)) }
                .encode_to_vec(),
        ),
        ("CreateGalleryRequest", proto::CreateGalleryRequest { gallery: Some(gallery) }.encode_to_vec()),
        (
            "GetIdentityRequest",
            proto::GetIdentityRequest { gallery_id: gallery_id.clone(), identity_id, include_embeddings: true }
                .encode_to_vec(),
        ),
        (
            "ListIdentitiesRequest",
            proto::ListIdentitiesRequest { gallery_id: gallery_id.clone(), ..Default::default() }.encode_to_vec(),
        ),
        ("GetGalleryRequest", proto::GetGalleryRequest { gallery_id: gallery_id.clone() }.encode_to_vec()),
        ("ExportGalleryRequest", proto::ExportGalleryRequest { gallery_id: gallery_id.clone() }.encode_to_vec()),
        ("DeleteGalleryRequest", proto::DeleteGalleryRequest { gallery_id, force: true }.encode_to_vec()),
    ]
}

fn messages() -> Seeds {
    let known = requests();
    let stated = |wanted: &str| known.iter().find(|(name, _)| *name == wanted).map(|(_, bytes)| bytes.clone());
    let seed = |(which, (name, _)): (usize, &(&str, Read))| {
        ((*name).to_owned(), [vec![which as u8], stated(name).unwrap_or_default()].concat())
    };
    REQUESTS.iter().enumerate().map(seed).collect()
}

fn calls() -> Seeds {
    let known = requests();
    let stated = |wanted: &str| known.iter().find(|(name, _)| *name == wanted).map(|(_, bytes)| bytes.clone());
    let seed = |(which, (name, takes_stream)): (usize, (String, bool))| {
        let message = stated(&format!("{name}Request")).unwrap_or_default();
        let message = match takes_stream {
            true => [(message.len() as u16).to_le_bytes().to_vec(), message].concat(),
            false => message,
        };
        (name, [vec![which as u8], message].concat())
    };
    crate::server::fuzzing::method_names().into_iter().enumerate().map(seed).collect()
}

fn seeds(target: &str) -> Seeds {
    match target {
        "photo" => photos(),
        "detector" => detectors(),
        "manifest" => manifests(),
        "catalogue" => catalogues(),
        "unpack" => archives(),
        "record" => gallery::records(),
        "snapshot" => snapshots(),
        "gallery_file" => gallery_files(),
        "filter" => filters(),
        "enroll_csv" => csv(),
        "enroll_jsonl" => jsonl(),
        "enroll_tar" => tars(),
        "message" => messages(),
        "rpc" => calls(),
        other => panic!("no seeds of {other}"),
    }
}

#[test]
fn every_target_has_seeds_that_do_no_harm() {
    for (target, open) in TARGETS {
        let run = open();
        let folder = root().join("fuzz/corpus").join(target);
        for (name, bytes) in seeds(target) {
            run(&bytes);
            if std::env::var_os("FACEMATCH_SEEDS").is_some() {
                std::fs::create_dir_all(&folder).expect("make a folder");
                std::fs::write(folder.join(format!("seed-{name}")), bytes).expect("write a seed");
            }
        }
    }
}
