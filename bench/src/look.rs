//! The HTML report of ten million objects: how large it is, how long it takes to write, and how fast it is to look
//! into in a real browser that draws with the processor alone.
//!
//! Times within the page are taken by the browser's own clock: the first picture by a watch laid around the canvas
//! before the page's scripts run, frames by the browser's record of long ones and by what the map says of its own,
//! of which the longer counts.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use pydefrag_harness::browser::{Page, View, address};
use pydefrag_harness::{Interpreters, Target};

use crate::table::{Table, median};

const OBJECTS: &str = "10000000";
const INTERPRETER: &str = "3.13";
const ROUNDS: usize = 5;
/// Browsers that look at the page.
const TOURS: usize = 3;

/// The most that the file may take, in MB.
const LARGEST: f64 = 10.0;
/// Seconds that writing it may add to the explanation.
const SLOWEST_WRITE: f64 = 3.0;
/// Seconds until the first picture.
const SLOWEST_PICTURE: f64 = 3.0;
/// Milliseconds of a frame, while a reader zooms or pans.
const SLOWEST_FRAME: f64 = 150.0;
/// Milliseconds until a block is named under the pointer.
const SLOWEST_HOVER: f64 = 30.0;

/// Notes when a large canvas was first drawn on and shown, and every long frame.
const WATCH: &str = "
  window.watch = { first: null, frames: [] };
  for (const name of ['putImageData', 'drawImage', 'fillRect']) {
    const draw = CanvasRenderingContext2D.prototype[name];
    CanvasRenderingContext2D.prototype[name] = function (...args) {
      draw.apply(this, args);
      if (watch.first === null && this.canvas.isConnected && this.canvas.width >= 400) {
        watch.first = 0;
        requestAnimationFrame(() => setTimeout(() => { watch.first = performance.now(); }));
      }
    };
  }
  new PerformanceObserver((list) => watch.frames.push(...list.getEntries().map((e) => e.duration)))
    .observe({ type: 'long-animation-frame' });
";

pub(crate) fn measure(tool: &Path, table: &mut Table) -> anyhow::Result<()> {
    let Some(interpreter) = Interpreters::load().get(INTERPRETER) else {
        eprintln!("not run: {INTERPRETER} (no source)");
        return Ok(());
    };
    let script = pydefrag_harness::repository().join("bench/targets/objects.py");
    let folder = tempfile::tempdir()?;
    for (heap, args) in [("records", &[OBJECTS][..]), ("mixed", &[OBJECTS, "mixed"][..])] {
        let target = Target::spawn(interpreter, &script.display().to_string(), args, &[]);
        target.wait_blocked();
        let file = folder.path().join(heap).with_extension("html");
        let what = format!("{INTERPRETER}, 10 million objects ({heap})");
        write(tool, &target, &file, &what, table)?;
        drop(target);
        look(&file, &what, table)?;
    }
    Ok(())
}

/// The file: its size, and what writing it costs beside the same look without it.
fn write(
    tool: &Path,
    target: &Target,
    file: &Path,
    what: &str,
    table: &mut Table,
) -> anyhow::Result<()> {
    let (pid, html) = (target.pid().to_string(), file.display().to_string());
    let (mut with, mut without) = (vec![], vec![]);
    for _ in 0..ROUNDS {
        without.push(run(tool, &["snapshot", &pid, "--json"])?);
        with.push(run(tool, &["snapshot", &pid, "--json", "--html", &html])?);
    }
    let (with, without) = (median(with).as_secs_f64(), median(without).as_secs_f64());
    let bytes = file.metadata().context("the HTML report")?.len();
    table.add(
        &format!("{what}: MB of the HTML report"),
        bytes as f64 / 1e6,
        Some(LARGEST),
        format!("{bytes} bytes"),
    );
    table.add(
        &format!("{what}: seconds that the HTML report adds"),
        with - without,
        Some(SLOWEST_WRITE),
        format!("{with:.2} s, without it {without:.2} s"),
    );
    Ok(())
}

fn run(tool: &Path, args: &[&str]) -> anyhow::Result<Duration> {
    let start = Instant::now();
    let status = Command::new(tool).args(args).stdout(Stdio::null()).status()?;
    ensure!(status.success(), "the tool failed: {status}");
    Ok(start.elapsed())
}

/// The page in a browser.
fn look(file: &Path, what: &str, table: &mut Table) -> anyhow::Result<()> {
    let mut firsts = vec![];
    let mut tours: Vec<Toured> = vec![];
    for _ in 0..TOURS {
        let Some(mut page) = Page::blank(View { height: 1000, ..View::wide(1600) }) else {
            table.add(
                "HTML report in a browser: not run, chromium is lacking",
                0.0,
                None,
                "-".into(),
            );
            return Ok(());
        };
        page.before_each(WATCH);
        page.go(&address(file));
        page.wait("watch.first > 0");
        firsts.push(Duration::from_secs_f64(page.number("watch.first / 1000")));
        page.wait("document.documentElement.dataset.ready === 'map'");
        tours.push(tour(&mut page)?);
        ensure!(page.complaints().is_empty(), "the page complains: {:#?}", page.complaints());
    }
    let all = firsts.iter().map(|f| format!("{:.2}", f.as_secs_f64())).collect::<Vec<_>>();
    table.add(
        &format!("{what}: seconds to the first picture"),
        median(firsts).as_secs_f64(),
        Some(SLOWEST_PICTURE),
        format!("{} s from navigation, in three browsers", all.join(", ")),
    );
    // Another process can make any frame late: what the page costs is the least of the tours' worst.
    let least = |of: fn(&Toured) -> f64| tours.iter().map(of).fold(f64::INFINITY, f64::min);
    let each = |of: fn(&Toured) -> f64| {
        tours.iter().map(|t| format!("{:.1}", of(t))).collect::<Vec<_>>().join(", ")
    };
    table.add(
        &format!("{what}: ms of the worst zoom or pan frame"),
        least(|t| t.frame),
        Some(SLOWEST_FRAME),
        format!("{} in as many browsers, of {} steps each", each(|t| t.frame), tours[0].steps),
    );
    table.add(
        &format!("{what}: ms of the worst hover"),
        least(|t| t.hover),
        Some(SLOWEST_HOVER),
        each(|t| t.hover),
    );
    table.add(
        &format!("{what}: ms of the worst change of colours or rung"),
        least(|t| t.change),
        None,
        format!("{} (0: none over 50)", each(|t| t.change)),
    );
    Ok(())
}

/// The worst of a tour, in ms.
struct Toured {
    steps: usize,
    frame: f64,
    hover: f64,
    change: f64,
}

/// Into the heap and out again by the wheel and by dragging, in each colouring, as it is and compacted; the pointer all
/// over the map.
fn tour(page: &mut Page) -> anyhow::Result<Toured> {
    let (x, y) = page.middle("canvas");
    page.move_to(x, y);
    long_frames(page);
    let mut toured = Toured { steps: 0, frame: 0.0, hover: 0.0, change: 0.0 };
    let step = |page: &mut Page, toured: &mut Toured, act: &dyn Fn(&mut Page)| {
        act(page);
        page.settle();
        toured.steps += 1;
        toured.frame = toured.frame.max(page.number("pydefrag.maps[0].lastFrame"));
    };
    for colour in ["state", "type", "owner"] {
        for rung in ["now", "compact"] {
            page.eval(&format!("pydefrag.state.set({{ colour: '{colour}', rung: '{rung}' }})"));
            page.settle();
            // Another colouring or rung is computed first: that is no frame of the tour.
            toured.change = toured.change.max(long_frames(page));
            for _ in 0..12 {
                step(page, &mut toured, &|page| page.wheel(-240.0, "Control"));
            }
            ensure!(page.holds("pydefrag.maps[0].folding.zoom > 100"), "the wheel does not zoom");
            for (dx, dy) in [(300.0, 0.0), (-200.0, 150.0), (0.0, -300.0)] {
                step(page, &mut toured, &|page| {
                    page.drag_to(x + dx, y + dy);
                    page.move_to(x, y);
                });
            }
            for _ in 0..12 {
                step(page, &mut toured, &|page| page.wheel(240.0, "Control"));
            }
            // What the browser says of a frame has all of it in it.
            toured.frame = toured.frame.max(long_frames(page));
        }
    }
    for zoomed in 0..3 {
        for n in 0..60_i32 {
            let (dx, dy) = (f64::from(n * 37 % 600 - 300), f64::from(n * 53 % 200 - 100));
            page.move_to(x + dx, y + dy);
            page.settle();
            toured.hover = toured.hover.max(page.number("pydefrag.maps[0].lastHover"));
        }
        ensure!(
            page.holds("document.querySelector('.mapline').textContent !== ''"),
            "no word of a hover"
        );
        page.move_to(x, y);
        for _ in 0..(4 * (zoomed + 1)) {
            page.wheel(-240.0, "Control");
            page.settle();
        }
    }
    Ok(toured)
}

/// The longest of the frames over 50 ms since it was last asked, in ms; 0 without any.
fn long_frames(page: &mut Page) -> f64 {
    // The browser tells of them a little later.
    page.number(
        "new Promise((done) => setTimeout(() => done(Math.max(0, ...watch.frames.splice(0))), 300))",
    )
}
