//! `pydefrag snapshot PID`: the account of one process, shown or kept.

use pydefrag_heap::pdsnap;
use pydefrag_report::{json, text};

use crate::args::Snapshot;
use crate::failure::{hinted, say};
use crate::look::look_with_bar;
use crate::output;

pub(crate) fn run(args: &Snapshot) -> anyhow::Result<()> {
    if args.output.as_deref().is_some_and(|o| o.as_os_str() == "-") {
        let file = "pydefrag snapshot PID -o FILE.pdsnap   (or ./- for a file of that name)";
        return Err(hinted("a snapshot is not kept on stdout, where the report goes", file));
    }
    if args.tree {
        return super::tree::run(args.pid, args.json);
    }
    let looked = look_with_bar(args.pid, &args.objects())?;
    if let Some(path) = &args.output {
        output::write_whole(path, &pdsnap::encode(&looked.snapshot, &looked.detail)?)?;
        say(&format!("kept in {}", path.display()));
    }
    output::print(&match args.json {
        true => json::render(&looked.snapshot),
        false => text::render(&looked.snapshot, output::style()),
    })
}
