//! The reference of all settings, written from the one table that there is of them.

use super::{FILE_ENV, SETTINGS, Scope, Setting};

const HEAD: &str = "\
# Settings

Each is a flag of the commands that use it, an environment variable, and a key of a file; a flag wins over the
environment, that over the file. The file is TOML, `key = value` a line: `facematch.toml` of the working folder, or that
which `--config` or `FACEMATCH_CONFIG` names. `facematch config check` shows what is in force, where it was stated, and
every fault.

This page is what `facematch config reference` prints.
";

/// Who uses a setting, and what that part of the reference is called.
const PARTS: [(Scope, &str); 7] = [
    (Scope::All, "Every command"),
    (Scope::Model, "`serve`, and commands that run the models themselves"),
    (Scope::Packs, "Those, and `models`"),
    (Scope::Catalogue, "`models`"),
    (Scope::Data, "`serve` and `store`"),
    (Scope::Server, "`serve`"),
    (Scope::Client, "Commands that talk to a server"),
];

/// Returns the reference of all settings as Markdown: `docs/configuration.md`.
pub fn reference() -> String {
    let mut page = HEAD.replace("FACEMATCH_CONFIG", FILE_ENV);
    for (scope, title) in PARTS {
        page.push_str(&format!("\n## {title}\n| Key | Variable | Default | |\n|---|---|---|---|\n"));
        SETTINGS.iter().filter(|setting| setting.scope == scope).for_each(|setting| page.push_str(&row(setting)));
    }
    page
}

fn row(setting: &Setting) -> String {
    let Setting { key, env, default, help, .. } = setting;
    let default = if default.is_empty() { String::new() } else { format!("`{default}`") };
    format!("| `{key}` | `{env}` | {default} | {} |\n", help.replace('|', "\\|"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_in_the_repository_is_this_programs() {
        let kept = include_str!("../../docs/configuration.md");
        assert_eq!(kept, reference(), "renew it: facematch config reference > docs/configuration.md");
    }

    #[test]
    fn every_setting_is_in_one_part() {
        let page = reference();
        for setting in &SETTINGS {
            assert_eq!(page.matches(&format!("\n| `{}` |", setting.key)).count(), 1, "{}", setting.key);
        }
    }
}
