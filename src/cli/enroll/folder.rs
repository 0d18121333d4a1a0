//! A folder of people: DIR/NAME/PHOTO. Names of the people's folders are held, and of one person's photos at a time.

use std::ffi::OsString;
use std::path::Path;

use anyhow::Context;

use super::super::arguments::count;
use super::metadata::Metadata;
use super::source::{Bytes, Found, Place, Taker, Unusable, id, is_photo};

/// Gives the photos of a folder of people, by name.
///
/// *Errors*: where the folder itself cannot be read; one in it is passed over, for the others are not its fault.
pub(super) fn read(folder: &Path, taker: &mut Taker) -> anyhow::Result<()> {
    let mut astray = 0;
    for name in names(folder).with_context(|| format!("cannot read the folder {}", folder.display()))? {
        let person = folder.join(&name);
        if !person.is_dir() {
            astray += usize::from(is_photo(&name.to_string_lossy()));
            continue;
        }
        read_person(&person, &name, taker)?;
    }
    if astray > 0 {
        let (astray, folder) = (count(astray, "photo", "photos"), folder.display());
        taker.passed_over(format!("{astray} in {folder} itself; the photos of a person go into a folder"))?;
    }
    Ok(())
}

fn read_person(person: &Path, name: &OsString, taker: &mut Taker) -> anyhow::Result<()> {
    let Some(identity) = name.to_str() else {
        return taker.passed_over(format!("{}, which is not a UTF-8 name", person.display()));
    };
    let files = match names(person) {
        Ok(files) => files,
        Err(error) => return taker.passed_over(format!("the folder {}: {error}", person.display())),
    };
    let mut others = 0;
    for file in files {
        let path = person.join(&file);
        if !is_photo(&file.to_string_lossy()) || path.is_dir() {
            others += 1;
            continue;
        }
        let place = Place::of_photo(path.to_string_lossy());
        let Some(key) = file.to_str().map(id) else {
            let (identity, key, reason) = (identity.to_owned(), String::new(), "UNREADABLE");
            taker.unusable(Unusable { place, identity, key, reason, message: "it is not a UTF-8 name".to_owned() })?;
            continue;
        };
        taker.photo(Found {
            place,
            identity: identity.to_owned(),
            key,
            display_name: String::new(),
            metadata: Metadata::new(),
            bytes: Bytes::File(path),
        })?;
    }
    if others > 0 {
        taker.passed_over(format!("{} in {}", count(others, "other thing", "other things"), person.display()))?;
    }
    Ok(())
}

/// Counts the photos, for a progress bar: without looking at the files themselves.
pub(super) fn count_photos(folder: &Path) -> u64 {
    let photos = |person: std::fs::DirEntry| {
        let files = std::fs::read_dir(person.path()).into_iter().flatten().flatten();
        files.filter(|file| is_photo(&file.file_name().to_string_lossy())).count() as u64
    };
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(photos).sum()
}

fn names(folder: &Path) -> std::io::Result<Vec<OsString>> {
    let entries = std::fs::read_dir(folder)?;
    let mut names = entries.map(|entry| Ok(entry?.file_name())).collect::<std::io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::super::source::given;
    use super::*;

    #[tokio::test]
    async fn photos_are_found_a_folder_an_identity() {
        let folder = tempfile::tempdir().expect("a folder");
        for file in ["zoe/b.JPG", "zoe/a.png", "ann/1.webp", "ann/notes.txt", "ann/more.jpg/x.jpg", "stray.jpg"] {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            std::fs::write(path, b"x").expect("a file");
        }
        std::fs::create_dir(folder.path().join("nobody")).expect("a folder");
        let path = folder.path().to_path_buf();
        let (lines, end) = given(move |taker| read(&path, taker)).await;
        end.expect("read");
        let root = folder.path().display();
        let passed_over = [
            format!("passed over: 2 other things in {root}/ann"),
            format!("passed over: 1 photo in {root} itself; the photos of a person go into a folder"),
        ];
        let [ann, root] = &passed_over;
        assert_eq!(lines, ["ann 1.webp 1", ann, "zoe a.png 1", "zoe b.JPG 1", root]);
        assert_eq!(count_photos(folder.path()), 4, "a folder that is called as a photo is, too");
        let absent = folder.path().join("absent");
        assert!(given(move |taker| read(&absent, taker)).await.1.is_err());
    }
}
