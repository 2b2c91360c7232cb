//! `pydefrag diff A B`: what grew between two looks, each a file that was kept or a process now.

use std::ffi::OsStr;
use std::path::Path;

use pydefrag_heap::{Detail, Diff, Snapshot};
use pydefrag_report::{diff, html};

use crate::args;
use crate::failure::hinted;
use crate::look::look_with_bar;
use crate::objects::Objects;
use crate::{kept, output};

/// What stands for one of the two looks.
#[derive(Debug, PartialEq, Eq)]
enum Side<'a> {
    File(&'a Path),
    Process(i32),
}

impl Side<'_> {
    /// A number is a pid, unless a file has that name.
    fn of(typed: &OsStr) -> Side<'_> {
        let path = Path::new(typed);
        match typed.to_str().and_then(|t| t.parse().ok()) {
            Some(pid @ 1..) if !path.exists() => Side::Process(pid),
            _ => Side::File(path),
        }
    }

    fn read(&self, objects: &Objects) -> anyhow::Result<(Snapshot, Detail)> {
        match self {
            Side::File(path) => kept::read(path),
            Side::Process(pid) => {
                let looked = look_with_bar(*pid, objects)?;
                Ok((looked.snapshot, looked.detail))
            }
        }
    }
}

pub(crate) fn run(args: &args::Diff) -> anyhow::Result<()> {
    let (before, after) = (Side::of(&args.before), Side::of(&args.after));
    if let (Side::Process(a), Side::Process(b)) = (&before, &after) {
        let hint =
            format!("pydefrag snapshot {a} -o A.pdsnap   (and later: pydefrag diff A.pdsnap {b})");
        let sentence = format!("{a} and {b} are both processes: there is no look from before");
        return Err(hinted(sentence, hint));
    }
    args.html.as_deref().map_or(Ok(()), output::check_page)?;
    let objects = Objects { map: args.html.is_some(), ..args.looked_at.objects() };
    // A file that cannot be read is told before a process is looked at.
    let (a, b) = match before {
        Side::File(_) => {
            let a = before.read(&objects)?;
            (a, after.read(&objects)?)
        }
        Side::Process(_) => {
            let b = after.read(&objects)?;
            (before.read(&objects)?, b)
        }
    };
    let mut difference = Diff::of(&a.0, &b.0);
    difference.verdict = pydefrag_advise::of_diff(&difference, &a.0, &b.0);
    if let Some(path) = &args.html {
        let [before, after] = [&a, &b].map(|(snapshot, detail)| html::Look { snapshot, detail });
        output::write_page(path, &html::diff(&difference, before, after))?;
    }
    output::print(&match args.json {
        true => diff::render_json(&difference),
        false => diff::render(&difference, output::style()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_a_pid_unless_a_file_has_that_name() {
        assert_eq!(Side::of("4242".as_ref()), Side::Process(4242));
        for file in ["a.pdsnap", "-7", "0", "99999999999", "./4242", ""] {
            assert_eq!(Side::of(file.as_ref()), Side::File(Path::new(file)), "{file}");
        }
    }
}
