//! The machine's own Debian mirror, read from its apt sources. No mirror's name stands in the
//! repository.

use std::fs;
use std::path::{Path, PathBuf};

/// A Debian archive that this machine already trusts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mirror {
    /// The archive's address.
    pub(super) uri: String,
    /// The keyring that signs it, where the sources name one.
    pub(super) signed_by: Option<String>,
}

/// The first Debian archive (not its security or backports part) among the sources in `etc_apt`.
pub(super) fn find(etc_apt: &Path) -> Option<Mirror> {
    let mut files: Vec<PathBuf> = fs::read_dir(etc_apt.join("sources.list.d"))
        .map(|folder| folder.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    files.push(etc_apt.join("sources.list"));
    files.sort();
    files.iter().find_map(|path| {
        let text = fs::read_to_string(path).ok()?;
        match path.extension()?.to_str()? {
            "sources" => from_deb822(&text),
            "list" => from_one_line(&text),
            _ => None,
        }
    })
}

/// Whether the address is that of a Debian archive: it has a folder `debian`, as all mirrors do.
fn is_debian(uri: &str) -> bool {
    uri.split('/').skip(3).any(|folder| folder == "debian")
}

fn from_deb822(text: &str) -> Option<Mirror> {
    let text: String = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| format!("{line}\n"))
        .collect();
    text.split("\n\n").find_map(|stanza| {
        let field = |name: &str| {
            stanza.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
        };
        let off = field("Enabled").is_some_and(|value| value.eq_ignore_ascii_case("no"));
        let binary = field("Types")?.split_whitespace().any(|kind| kind == "deb");
        let uri = field("URIs")?.split_whitespace().find(|uri| is_debian(uri))?.to_owned();
        // An empty value is a key that stands in the file itself: then apt's own keyrings serve.
        let signed_by = field("Signed-By").filter(|path| path.starts_with('/'));
        (binary && !off).then_some(Mirror { uri, signed_by })
    })
}

fn from_one_line(text: &str) -> Option<Mirror> {
    text.lines().find_map(|line| {
        let line = line.trim().strip_prefix("deb")?;
        let (options, rest) = match line.trim_start().strip_prefix('[') {
            Some(bracketed) => bracketed.split_once(']')?,
            None => ("", line.strip_prefix([' ', '\t'])?),
        };
        let uri = rest.split_whitespace().next().filter(|uri| is_debian(uri))?.to_owned();
        let signed_by = options
            .split_whitespace()
            .find_map(|option| option.strip_prefix("signed-by="))
            .map(str::to_owned);
        Some(Mirror { uri, signed_by })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

    fn mirror(signed_by: Option<&str>) -> Option<Mirror> {
        let uri = "http://mirror.invalid/debian".to_owned();
        Some(Mirror { uri, signed_by: signed_by.map(str::to_owned) })
    }

    #[test]
    fn reads_deb822_sources() {
        let text = format!(
            "Types: deb\nURIs: https://mirror.invalid/node\nSuites: nodistro\n\n\
             Enabled: no\nTypes: deb\nURIs: http://other.invalid/debian\nSuites: sid\n\n\
             Types: deb deb-src\n# a remark\nURIs: http://mirror.invalid/debian\n\
             Suites: bookworm bookworm-updates\nComponents: main\nSigned-By: {KEYRING}\n"
        );
        assert_eq!(from_deb822(&text), mirror(Some(KEYRING)));
    }

    #[test]
    fn an_inline_key_is_no_path() {
        let text = "Types: deb\nURIs: http://mirror.invalid/debian\nSigned-By:\n -----BEGIN\n .\n";
        assert_eq!(from_deb822(text), mirror(None));
    }

    #[test]
    fn reads_one_line_sources() {
        let text = format!(
            "# deb http://other.invalid/debian sid main\n\
             deb-src http://other.invalid/debian sid main\n\
             deb http://mirror.invalid/debian-security bookworm-security main\n\
             deb [arch=amd64 signed-by={KEYRING}] http://mirror.invalid/debian bookworm main\n"
        );
        assert_eq!(from_one_line(&text), mirror(Some(KEYRING)));
        assert_eq!(from_one_line("deb http://mirror.invalid/debian sid main"), mirror(None));
    }
}
