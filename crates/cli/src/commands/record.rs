//! `pydefrag record`: a program with every allocation recorded, and what came of it.
//!
//! Owns the order of it: checks, the start, the end, the finished file, the report.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use pydefrag_heap::Ended;

use crate::args::Record;
use crate::failure::{hinted, say, tell};
use crate::output;
use crate::record::can::can_be_recorded;
use crate::record::demand;
use crate::record::files::{Files, finish, is_written};
use crate::record::preload::{Preload, VARIABLE, Wanted, tool};
use crate::run::{Environment, Program, Signals, end_alike, launch, program};
use crate::traces;

pub(crate) fn run(args: &Record) -> anyhow::Result<ExitCode> {
    if let Some(pid) = args.pid {
        return on_demand(pid, args);
    }
    crate::run::not_an_option("record", &args.words)?;
    let program = program(args.python.as_deref(), &args.words)?;
    can_be_recorded(&program.file)?;
    if args.wait {
        let signals = Signals::catch()?;
        return Ok(end_alike(start(args, &program, Path::new(""), &signals)?));
    }
    let files = Files::new(&args.output.clone().unwrap_or_else(|| named_after(args)))?;
    args.html.as_deref().map_or(Ok(()), output::check_page)?;
    let signals = Signals::catch()?;
    let ended = start(args, &program, &files.part, &signals)?;

    let reported = report(args, &files);
    if reported.is_err() && ended == Ended::Code(0) {
        return reported.map(|()| ExitCode::SUCCESS);
    }
    if let Err(e) = reported {
        tell(&e);
    }
    Ok(end_alike(ended))
}

/// Records a process that waits for it.
fn on_demand(pid: i32, args: &Record) -> anyhow::Result<ExitCode> {
    let name = args.output.clone().unwrap_or_else(|| format!("{pid}.pdtrace").into());
    let files = Files::new(&name)?;
    args.html.as_deref().map_or(Ok(()), output::check_page)?;
    demand::record(pid, args, &files)?;
    report(args, &files)?;
    Ok(ExitCode::SUCCESS)
}

/// `app.pdtrace` for `dir/app.py`, here.
fn named_after(args: &Record) -> PathBuf {
    let first = args.words[0].to_string_lossy();
    let second = args.words.get(1).map(|w| w.to_string_lossy());
    let name = match (&*first, second) {
        ("-m", Some(module)) => module.rsplit('.').next().unwrap_or_default().to_owned(),
        _ => {
            let name = PathBuf::from(&*first);
            name.file_stem().unwrap_or_default().to_string_lossy().into_owned()
        }
    };
    let name: String = name.trim_start_matches('-').chars().filter(|c| !c.is_control()).collect();
    PathBuf::from(if name.is_empty() { "recording".into() } else { name }).with_extension("pdtrace")
}

/// Starts the program with the agent in it, and waits for its end.
fn start(
    args: &Record,
    program: &Program,
    path: &Path,
    signals: &Signals,
) -> anyhow::Result<Ended> {
    let preload = Preload::make()?;
    let library = preload.library.to_string_lossy().into_owned();
    let wanted = Wanted {
        path,
        tool: tool(),
        library: library.clone(),
        children: args.children,
        every: args.sample,
        native: args.native,
        check: args.check_stacks,
        wait: args.wait,
        seconds: args.duration.map(|d| d.as_secs_f64()),
        free_threaded: args.as_free_threaded,
    };
    let mut environment = Environment::ours();
    environment.put_before("LD_PRELOAD", &library);
    environment.set(VARIABLE, &serde_json::to_string(&wanted)?);
    let pid = launch(program, &environment, None, signals)?;
    Ok(signals.attend(pid))
}

/// Finishes the files and reports the main one.
fn report(args: &Record, files: &Files) -> anyhow::Result<()> {
    if !files.part.exists() {
        return Err(hinted(
            "nothing was recorded: no process of the program's said that it records",
            "a Python that is linked statically, built for musl, set-user-id or in a container of its own is not reached; \
             nor is one whose starter clears the environment",
        ));
    }
    for part in files.of_children() {
        match is_written(&part) {
            true => say(&format!(
                "pydefrag: {} is still written by a child that runs on; `pydefrag report` reads it",
                part.display()
            )),
            false => match finish(&part) {
                Ok((file, _)) => say(&format!("kept in {}", file.display())),
                Err(e) => tell(&e),
            },
        }
    }
    if is_written(&files.part) {
        say(&format!(
            "pydefrag: {} is still written by a process that runs on; `pydefrag report` reads it",
            files.part.display()
        ));
        return Ok(());
    }
    let (file, _) = finish(&files.part)?;
    if !args.no_report {
        let (recording, _) = traces::read(&file)?;
        traces::page(args.html.as_deref(), &recording)?;
        output::print_stderr(&traces::text(&recording, args.json, output::stderr_style()));
    }
    say(&format!("kept in {}", file.display()));
    Ok(())
}
