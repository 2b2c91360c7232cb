//! The map of ten million objects: what making it adds to explaining them, and what its columns take.
//!
//! Both looks are made by a child of ours that does nothing else, so that its memory can be told.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use pydefrag_harness::{Interpreters, Target};
use pydefrag_image::{Image, ProcessFacts};
use pydefrag_walk::{Asked, Runtime, Wanted, explain, snapshot};

use crate::objects::{OBJECTS, field};
use crate::table::{Table, median};

const ROUNDS: usize = 5;

pub(crate) fn measure(table: &mut Table) -> anyhow::Result<()> {
    for (name, env) in [("3.8", None), ("3.13", None), ("3.13", Some(("PYTHONMALLOC", "malloc")))] {
        let Some(interpreter) = Interpreters::load().get(name) else {
            eprintln!("not run: {name} (no source)");
            continue;
        };
        let script = pydefrag_harness::repository().join("bench/targets/objects.py");
        let env: Vec<(&str, &str)> = env.into_iter().collect();
        let what = match env.is_empty() {
            true => format!("{name}, map of 10 million objects"),
            false => format!("{name} on malloc, map of 10 million objects"),
        };
        let target = Target::spawn(interpreter, &script.display().to_string(), &[OBJECTS], &env);
        target.wait_blocked();
        let (mut with, mut without) = (Measured::default(), Measured::default());
        for _ in 0..ROUNDS {
            with.add(look(target.pid(), "map")?);
            without.add(look(target.pid(), "none")?);
        }
        let rss = field(target.pid(), "VmRSS:");
        let (a, b) = (median(with.times).as_secs_f64(), median(without.times).as_secs_f64());
        table.add(
            &format!("{what}: seconds more"),
            a - b,
            Some(0.5),
            format!("{a:.2} s / {b:.2} s"),
        );
        let mib = |bytes: u64| bytes >> 20;
        table.add(
            &format!("{what}: RssAnon more / RSS of the target"),
            (with.own as f64 - without.own as f64) / rss as f64,
            Some(0.05),
            format!("{} / {} of {} MiB", mib(with.own), mib(without.own), mib(rss)),
        );
        println!("{what}: column, bytes, by gzip -6, by zstd -3\n{}", with.columns);
    }
    Ok(())
}

#[derive(Default)]
struct Measured {
    times: Vec<Duration>,
    own: u64,
    columns: String,
}

impl Measured {
    fn add(&mut self, (time, own, columns): (Duration, u64, String)) {
        self.times.push(time);
        self.own = self.own.max(own);
        self.columns = columns;
    }
}

/// Looks once, in a child: how long, most anonymous memory, and the columns.
fn look(pid: u32, map: &str) -> anyhow::Result<(Duration, u64, String)> {
    let out = Command::new(std::env::current_exe()?)
        .args(["explain", &pid.to_string(), map])
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(out.status.success(), "a look failed");
    let said = String::from_utf8(out.stdout)?;
    let (first, columns) = said.split_once('\n').context("a line")?;
    let (micros, own) = first.split_once(' ').context("two numbers")?;
    Ok((Duration::from_micros(micros.parse()?), own.parse()?, columns.to_owned()))
}

/// The child: looks at a process, with or without a map, and says what it cost.
pub(crate) fn child(args: &[String]) -> anyhow::Result<()> {
    let [pid, map] = args else { anyhow::bail!("look PID map|none") };
    let wanted = Wanted { objects: true, map: map == "map" };
    let done = AtomicBool::new(false);
    let most = || {
        let mut most = 0;
        while !done.load(Ordering::Relaxed) {
            most = most.max(field(std::process::id(), "RssAnon:"));
            std::thread::sleep(Duration::from_millis(5));
        }
        most
    };
    let (time, most, looked) = std::thread::scope(|scope| {
        let most = scope.spawn(most);
        let start = Instant::now();
        let looked = (|| {
            let facts = ProcessFacts::of(pid.parse()?)?;
            let image = Image::open(&facts)?;
            let runtime = Runtime::find(&image)?;
            let mut looked = snapshot(&facts, &image, &runtime, wanted)?;
            let asked = Asked {
                until: None,
                progress: &|_, _| {},
                show_values: false,
                blocks: 0,
                at: &[],
                sites: None,
            };
            explain(&image, &runtime, &mut looked, &asked)?;
            anyhow::Ok(looked)
        })();
        let time = start.elapsed();
        done.store(true, Ordering::Relaxed);
        (time, most.join().expect("it only reads"), looked)
    });
    println!("{} {most}", time.as_micros());
    let Some(map) = looked?.detail.map else { return Ok(()) };
    for (name, bytes) in map.columns()? {
        let packed = |tool: &str, level: &str| -> anyhow::Result<usize> {
            let file = std::env::temp_dir().join(format!("pydefrag-bench-{}", std::process::id()));
            std::fs::write(&file, &bytes)?;
            let from = std::fs::File::open(&file)?;
            let out = Command::new(tool).args([level, "-c"]).stdin(from).output();
            std::fs::remove_file(&file)?;
            Ok(out?.stdout.len())
        };
        println!("{name} {} {} {}", bytes.len(), packed("gzip", "-6")?, packed("zstd", "-3")?);
    }
    if let Some(n) = &map.named {
        let (types, owners, groups) = (n.types.len(), n.owners.len(), n.groups.len());
        println!("({types} types, {owners} owners, {groups} groups, {} blocks)", n.blocks.len());
    }
    Ok(())
}
