//! The environment as it was given to us: every entry in its order, be it well-formed or not.
//!
//! Owns the changes that are made to it: a folder put first on PYTHONPATH, or on another list; a variable of our own.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

const NAME: &[u8] = b"PYTHONPATH=";

/// Entries as in `NAME=value`.
pub(crate) struct Environment(Vec<Vec<u8>>);

/// What PYTHONPATH was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Former {
    Unset,
    /// Set to nothing, which Python takes for unset but shows.
    Empty,
    Set,
}

impl Former {
    /// Its name in the hook.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Former::Unset => "unset",
            Former::Empty => "empty",
            Former::Set => "set",
        }
    }
}

impl Environment {
    /// Ours. std's own list leaves out what has no `=`.
    pub(crate) fn ours() -> Environment {
        match std::fs::read("/proc/self/environ") {
            Ok(all) if !all.is_empty() => {
                let all = all.strip_suffix(&[0]).unwrap_or(&all);
                Environment(all.split(|b| *b == 0).map(<[u8]>::to_vec).collect())
            }
            _ => {
                let entry = |(mut name, value): (OsString, OsString)| {
                    name.push("=");
                    name.push(value);
                    name.into_vec()
                };
                Environment(std::env::vars_os().map(entry).collect())
            }
        }
    }

    fn pythonpath(&self) -> Option<usize> {
        self.0.iter().position(|e| e.starts_with(NAME))
    }

    pub(crate) fn former(&self) -> Former {
        match self.pythonpath().map(|i| self.0[i].len() - NAME.len()) {
            None => Former::Unset,
            Some(0) => Former::Empty,
            Some(_) => Former::Set,
        }
    }

    /// Puts a folder first on PYTHONPATH.
    pub(crate) fn put_first(&mut self, folder: &Path) {
        self.before(NAME, folder.as_os_str().as_bytes());
    }

    /// Puts an entry first on a list of entries with colons between them.
    pub(crate) fn put_before(&mut self, name: &str, entry: &str) {
        self.before(format!("{name}=").as_bytes(), entry.as_bytes());
    }

    /// Sets a variable.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        let name = format!("{name}=").into_bytes();
        self.0.retain(|e| !e.starts_with(&name));
        self.0.push([&name, value.as_bytes()].concat());
    }

    fn before(&mut self, name: &[u8], first: &[u8]) {
        let mut entry = [name, first].concat();
        match self.0.iter().position(|e| e.starts_with(name)) {
            None => self.0.push(entry),
            Some(i) => {
                let rest = &self.0[i][name.len()..];
                if !rest.is_empty() {
                    entry.push(b':');
                    entry.extend(rest);
                }
                self.0[i] = entry;
            }
        }
    }

    /// As exec takes it.
    pub(crate) fn entries(&self) -> Vec<CString> {
        self.0.iter().filter_map(|e| CString::new(e.clone()).ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_kept_and_only_pythonpath_changes() {
        let of = |e: &[&str]| {
            let mut e = Environment(e.iter().map(|e| e.as_bytes().to_vec()).collect());
            let former = e.former();
            e.put_first(Path::new("/f"));
            let text = e.entries().into_iter().map(|e| e.into_string().unwrap());
            (former, text.collect::<Vec<_>>().join(" "))
        };
        assert_eq!(of(&["Z=1", "A=2", "odd"]), (Former::Unset, "Z=1 A=2 odd PYTHONPATH=/f".into()));
        assert_eq!(of(&["PYTHONPATH=", "A=2"]), (Former::Empty, "PYTHONPATH=/f A=2".into()));
        assert_eq!(of(&["PYTHONPATH=x:y", "A="]), (Former::Set, "PYTHONPATH=/f:x:y A=".into()));
    }
}
