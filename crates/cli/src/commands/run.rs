//! `pydefrag run`: a program as it would run without us, and its memory when it ends.
//!
//! Owns where the report goes and with which code pydefrag ends.

use std::process::ExitCode;

use pydefrag_heap::{Ended, pdsnap};
use pydefrag_image::command_line;
use pydefrag_report::{Style, html, json, text};

use crate::args::Run;
use crate::failure::{hinted, say, tell};
use crate::output;
use crate::run::guard::{Limits, Outcome};
use crate::run::{Ending, end_alike, ending, follow, not_an_option, program};

/// A limit was exceeded.
const EXCEEDED: u8 = 3;

pub(crate) fn run(args: &Run) -> anyhow::Result<ExitCode> {
    not_an_option("run", &args.words)?;
    let program = program(args.python.as_deref(), &args.words)?;
    if let Some(path) = &args.output {
        if path.as_os_str() == "-" {
            let file = "pydefrag run -o FILE …   (or ./- for a file of that name)";
            return Err(hinted("the report does not go to stdout, which is the program's", file));
        }
        output::check(path)?;
    }
    args.html.as_deref().map_or(Ok(()), output::check_page)?;
    let followed = follow(&program, args.at_peak, args.objects(), args.healing())?;
    let ended = followed.ended;
    let words: Vec<_> = program.argv.iter().map(|a| a.to_string_lossy()).collect();
    let ending = ending(followed, command_line(words.iter().map(AsRef::as_ref)));
    let reported = report(args, &ending);

    let failed = ended != Ended::Code(0);
    let limits = Limits { fragmentation: args.max_fragmentation, retained: args.max_retained };
    Ok(match limits.check(ending.end.as_ref().map_err(String::as_str)) {
        Outcome::Exceeded(sentences) => {
            sentences.iter().for_each(|s| say(&format!("pydefrag: {s}")));
            ExitCode::from(EXCEEDED)
        }
        Outcome::Undecided(sentence) => {
            say(&format!("pydefrag: {sentence}"));
            if failed { end_alike(ended) } else { ExitCode::FAILURE }
        }
        Outcome::Kept if !reported && !failed => ExitCode::FAILURE,
        Outcome::Kept => end_alike(ended),
    })
}

/// Reports to where it was asked for; false, and to stderr, if that fails.
fn report(args: &Run, ending: &Ending) -> bool {
    let page = args.html.as_ref().is_none_or(|path| {
        let look = html::Look { snapshot: &ending.snapshot, detail: &ending.detail };
        told(output::write_page(path, &html::snapshot(look)))
    });
    report_text(args, ending) && page
}

fn report_text(args: &Run, ending: &Ending) -> bool {
    let snapshot = &ending.snapshot;
    let render = |style: Style| match args.json {
        true => json::render(snapshot),
        false => text::render(snapshot, style),
    };
    let written = match &args.output {
        None => None,
        Some(path) if path.extension().is_some_and(|e| e == "pdsnap") => {
            let encoded = pdsnap::encode(snapshot, &ending.detail).map_err(anyhow::Error::from);
            output::print_stderr(&render(output::stderr_style()));
            let written = encoded.and_then(|bytes| output::write_whole(path, &bytes));
            if written.is_ok() {
                say(&format!("kept in {}", path.display()));
            }
            return told(written);
        }
        Some(path) => Some(output::write_whole(path, render(output::file_style()).as_bytes())),
    };
    let done = written.is_some_and(told);
    if !done {
        output::print_stderr(&render(output::stderr_style()));
    }
    done || args.output.is_none()
}

fn told(result: anyhow::Result<()>) -> bool {
    result.inspect_err(tell).is_ok()
}
