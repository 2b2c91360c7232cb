//! Command lines without their secrets.
//!
//! Owns the rule of what looks secret. Every command line that leaves this crate went through it.

const SECRET: [&str; 9] =
    ["password", "passwd", "secret", "token", "apikey", "api-key", "api_key", "credential", "auth"];

fn looks_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET.iter().any(|s| name.contains(s)) || name.trim_start_matches('-') == "key"
}

/// Joins arguments with blanks; values of options that look secret, and passwords inside URLs, are
/// replaced by `***`.
pub fn command_line<'a>(arguments: impl IntoIterator<Item = &'a str>) -> String {
    let mut shown: Vec<String> = Vec::new();
    let mut hide_next = false;
    for a in arguments {
        let hide = std::mem::take(&mut hide_next) && !a.starts_with('-');
        shown.push(if hide { "***".into() } else { argument(a) });
        hide_next = a.starts_with('-') && !a.contains('=') && looks_secret(a);
    }
    shown.join(" ")
}

fn argument(a: &str) -> String {
    if let Some((name, _)) = a.split_once('=') {
        // The name may be a statement given to -c, of which nothing is a name.
        if looks_secret(name) && !name.contains(char::is_whitespace) {
            return format!("{name}=***");
        }
    }
    let Some((scheme, rest)) = a.split_once("://") else { return a.into() };
    let authority = rest.find('/').unwrap_or(rest.len());
    match rest[..authority].rfind('@') {
        Some(at) => format!("{scheme}://***{}", &rest[at..]),
        None => a.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_secret_is_hidden_and_nothing_else() {
        let line = |a: &[&str]| command_line(a.iter().copied());
        assert_eq!(line(&["python3", "app.py", "--port", "80"]), "python3 app.py --port 80");
        assert_eq!(line(&["a", "--password", "x", "b"]), "a --password *** b");
        assert_eq!(line(&["a", "--token=x"]), "a --token=***");
        assert_eq!(line(&["a", "DB_PASSWORD=x"]), "a DB_PASSWORD=***");
        assert_eq!(line(&["a", "--password", "--verbose"]), "a --password --verbose");
        assert_eq!(line(&["a", "postgres://me:pw@host/db"]), "a postgres://***@host/db");
        assert_eq!(line(&["a", "http://host/a@b"]), "a http://host/a@b");
        assert_eq!(line(&["ssh", "--key", "x"]), "ssh --key ***");
    }
}
