//! `pydefrag fix PID`: has a running process give memory back, and reports what came of it.

use pydefrag_report::heal;

use crate::args::Fix;
use crate::failure::{hinted, say};
use crate::fix::{self, Order};
use crate::output;

pub(crate) fn run(args: &Fix) -> anyhow::Result<()> {
    if let Some(path) = &args.output {
        if path.as_os_str() == "-" {
            let file = "pydefrag fix PID -o FILE   (or ./- for a file of that name)";
            return Err(hinted("the report goes to stdout unless a file is named", file));
        }
        // Nobody is healed for a report that cannot be written.
        output::check(path)?;
    }
    let healed = fix::heal(&Order {
        pid: args.pid,
        level: args.level.healed(),
        collect: args.collect,
        dry_run: args.dry_run,
        slice: args.slice,
        timeout: args.timeout,
        settle: args.settle,
        objects: args.looked_at.objects(),
    })?;
    let render = |style| match args.json {
        true => heal::render_json(&healed),
        false => heal::render(&healed, style),
    };
    match &args.output {
        None => output::print(&render(output::style())),
        Some(path) => {
            output::write_whole(path, render(output::file_style()).as_bytes())?;
            say(&format!("reported to {}", path.display()));
            Ok(())
        }
    }
}
