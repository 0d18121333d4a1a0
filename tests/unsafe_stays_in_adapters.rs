//! `unsafe` is denied by the compiler but where an expectation lets it in. Here: that there is none elsewhere than in the
//! files that are adapters of the machine, and that each says why it is sound.

use std::path::{Path, PathBuf};

/// Calls of the C library, and kernels for instruction sets. A new one is a decision, made here.
const ADAPTERS: [&str; 8] = [
    "decode/confinement.rs",
    "gallery/embedded/coarse.rs",
    "gallery/embedded/coarse/kernel.rs",
    "gallery/embedded/coarse/quantize.rs",
    "gallery/embedded/memory.rs",
    "model/library.rs",
    "runtime/core_dumps.rs",
    "runtime/disk.rs",
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("read a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Lines that open an `unsafe` block, function or implementation; `unsafe_code` is the lint's name.
fn unsafe_lines(text: &str) -> Vec<usize> {
    let opens = |line: &str| {
        let code = line.split("//").next().unwrap_or_default();
        code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe")
    };
    text.lines().enumerate().filter(|(_, line)| opens(line)).map(|(at, _)| at).collect()
}

/// Whether the comment right above, or above the attributes of it, says why it is sound.
fn is_explained(text: &str, at: usize) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let above = lines[..at].iter().rev().take_while(|line| line.starts_with("//") || line.starts_with("#["));
    above.into_iter().any(|line| line.starts_with("// SAFETY: "))
}

#[test]
fn unsafe_is_in_adapters_alone_and_each_says_why_it_is_sound() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&root, &mut paths);
    let mut found = Vec::new();
    let mut faults = Vec::new();
    for path in &paths {
        let text = std::fs::read_to_string(path).expect("read a source");
        let name = path.strip_prefix(&root).expect("below it").to_str().expect("UTF-8").replace('\\', "/");
        for at in unsafe_lines(&text) {
            if !is_explained(&text, at) {
                faults.push(format!("src/{name}:{}: no SAFETY comment above", at + 1));
            }
            found.push(name.clone());
        }
    }
    found.sort();
    found.dedup();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert_eq!(found, ADAPTERS, "files of src/ with unsafe code");
}

#[test]
fn unsafe_without_a_word_is_seen() {
    let lone = "fn f() {\n    let x = unsafe { g() };\n}\n";
    assert_eq!(unsafe_lines(lone), [1]);
    assert!(!is_explained(lone, 1));
    let explained = "// SAFETY: it is.\n#[inline]\nlet x = unsafe { g() };\n#[expect(unsafe_code)] // unsafe\n";
    assert_eq!(unsafe_lines(explained), [2]);
    assert!(is_explained(explained, 2));
    assert!(!is_explained("// SAFETY: it is.\n\nunsafe { g() }\n", 2), "of something else");
}
