//! `pydefrag snapshot PID`: the account of one process, shown or kept.

use pydefrag_heap::{Detail, pdsnap};
use pydefrag_report::{html, json, map, text};

use crate::args::Snapshot;
use crate::failure::{hinted, say};
use crate::look::look_with_bar;
use crate::output;

pub(crate) fn run(args: &Snapshot) -> anyhow::Result<()> {
    if args.output.as_deref().is_some_and(|o| o.as_os_str() == "-") {
        let file = "pydefrag snapshot PID -o FILE.pdsnap   (or ./- for a file of that name)";
        return Err(hinted("a snapshot is not kept on stdout, where the report goes", file));
    }
    // Nobody waits for a look that cannot be written.
    args.output.as_deref().map_or(Ok(()), output::check)?;
    args.html.as_deref().map_or(Ok(()), output::check_page)?;
    if args.tree {
        return super::tree::run(args.pid, args.json, args.html.as_deref());
    }
    let looked = look_with_bar(args.pid, &args.objects())?;
    if let Some(path) = &args.output {
        output::write_whole(path, &pdsnap::encode(&looked.snapshot, &looked.detail)?)?;
        say(&format!("kept in {}", path.display()));
    }
    if let Some(path) = &args.html {
        let look = html::Look { snapshot: &looked.snapshot, detail: &looked.detail };
        output::write_page(path, &html::snapshot(look))?;
    }
    output::print(&match args.json {
        true => json::render(&looked.snapshot),
        false => {
            text::render(&looked.snapshot, output::style()) + &picture(&looked.detail, args.no_map)
        }
    })
}

/// The picture of the arenas, where there is a terminal to show it and it is wanted.
pub(super) fn picture(detail: &Detail, unwanted: bool) -> String {
    let style = output::picture_style().filter(|_| !unwanted);
    style.map_or_else(String::new, |style| map::render(detail, style))
}
