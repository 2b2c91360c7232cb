//! A 1 GiB pymalloc heap: the whole look and the quick look beside a bare copy of the same bytes.
//!
//! The bare copy is one thread reading the resident OS pages of the arenas in pieces of a MiB into one
//! buffer with `process_vm_readv`, nothing else. What is compared is everything that a look does:
//! smaps, residency, finding the interpreter, walking, the account.

use std::io::IoSliceMut;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use pydefrag_harness::{Interpreters, Target};
use pydefrag_image::{Image, ProcessFacts};
use pydefrag_walk::{Runtime, State, Wanted, headers, snapshot, states};

use crate::peak;
use crate::table::{Table, median};

const ROUNDS: usize = 9;
const MIB: &str = "1024";

pub(crate) fn measure(tool: &Path, table: &mut Table) -> anyhow::Result<()> {
    for name in ["3.8", "3.11", "3.15"] {
        let Some(interpreter) = Interpreters::load().get(name) else {
            eprintln!("not run: {name} (no source)");
            continue;
        };
        for (keep, how) in [("1", "all live"), ("0.5", "half live"), ("0.03", "3% live")] {
            let script = pydefrag_harness::repository().join("bench/targets/heap.py");
            let script = script.display().to_string();
            let target = Target::spawn(interpreter, &script, &[MIB, keep], &[]);
            target.wait_blocked();
            let what = format!("{name}, {how}");
            one(tool, &what, interpreter.minor, target.pid(), table)?;
        }
    }
    Ok(())
}

fn one(tool: &Path, what: &str, minor: u32, pid: u32, table: &mut Table) -> anyhow::Result<()> {
    let facts = ProcessFacts::of(pid as i32)?;
    let (mut bare, mut whole, mut quick, mut command) = (vec![], vec![], vec![], vec![]);
    let mut resident = 0;
    for round in 0..=ROUNDS {
        let image = Image::open(&facts)?;
        let runtime = Runtime::find(&image)?;
        let found = states(&image, &runtime)?.states;
        let pid = pid.to_string();
        let times = [
            timed(|| {
                resident = bare_copy(facts.pid, &image, &found)?;
                Ok(())
            })?,
            timed(|| {
                let image = Image::open(&facts)?;
                let runtime = Runtime::find(&image)?;
                snapshot(&facts, &image, &runtime, Wanted::default())?;
                Ok(())
            })?,
            timed(|| {
                let image = Image::open(&facts)?;
                let runtime = Runtime::find(&image)?;
                headers(&image, &states(&image, &runtime)?.states)?;
                Ok(())
            })?,
            timed(|| {
                let out = std::process::Command::new(tool)
                    .args(["snapshot", "--no-objects", &pid])
                    .output()?;
                anyhow::ensure!(out.status.success());
                Ok(())
            })?,
        ];
        // The first round warms caches and is not counted.
        if round > 0 {
            for (all, time) in
                [&mut bare, &mut whole, &mut quick, &mut command].into_iter().zip(times)
            {
                all.push(time);
            }
        }
    }
    let (bare, whole) = (median(bare), median(whole));
    let (quick, command) = (median(quick), median(command));
    let ratio = |a: Duration| a.as_secs_f64() / bare.as_secs_f64();
    let ms = |d: Duration| format!("{:.0} ms", d.as_secs_f64() * 1000.0);
    let beside = |d| format!("{} / {} for {} MiB", ms(d), ms(bare), resident >> 20);
    table.add(&format!("snapshot / bare copy ({what})"), ratio(whole), Some(1.5), beside(whole));
    table.add(
        &format!("`pydefrag snapshot` / bare copy ({what})"),
        ratio(command),
        Some(1.5),
        beside(command),
    );
    let limit = if minor < 10 { 0.8 } else { 0.25 };
    table.add(
        &format!("header-only / bare copy ({what})"),
        ratio(quick),
        Some(limit),
        beside(quick),
    );
    let kept = std::env::temp_dir().join(format!("pydefrag-bench-{pid}.pdsnap"));
    let peak = peak::of(
        tool,
        &["snapshot", "--no-objects", &pid.to_string(), "-o", &kept.display().to_string()],
    )?;
    let file = kept.metadata()?.len();
    std::fs::remove_file(&kept)?;
    let allowed = (64 << 20) + resident / 50;
    table.add(
        &format!("peak RSS of the tool / (64 MiB + 2%) ({what})"),
        peak as f64 / allowed as f64,
        Some(1.0),
        format!("{} MiB / {} MiB; the file has {} KiB", peak >> 20, allowed >> 20, file >> 10),
    );
    Ok(())
}

fn timed(work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Duration> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}

/// Copies the resident pages of all arenas; the bytes copied.
fn bare_copy(pid: i32, image: &Image, states: &[State]) -> anyhow::Result<u64> {
    const PIECE: usize = 1 << 20;
    let mut buffer = vec![0; PIECE];
    let mut copied = 0;
    let mut copy = |pieces: &mut Vec<RemoteIoVec>, bytes: usize| -> anyhow::Result<()> {
        let mut into = [IoSliceMut::new(&mut buffer[..bytes])];
        let n = process_vm_readv(Pid::from_raw(pid), &mut into, pieces)?;
        anyhow::ensure!(n == bytes, "the target changed while it was copied");
        copied += n as u64;
        pieces.clear();
        Ok(())
    };
    let (mut pieces, mut bytes) = (Vec::new(), 0);
    for state in states {
        for a in &state.arenas {
            let (start, end) = (a.arena.address, a.arena.address + state.geometry.arena_size);
            for run in image.residency.runs_in(start, end).filter(|r| r.resident) {
                let mut base = run.start as usize;
                while base < run.end as usize {
                    let len = (run.end as usize - base).min(PIECE - bytes);
                    pieces.push(RemoteIoVec { base, len });
                    (base, bytes) = (base + len, bytes + len);
                    // The kernel takes at most 1024 pieces in one call.
                    if bytes == PIECE || pieces.len() == 1024 {
                        copy(&mut pieces, bytes)?;
                        bytes = 0;
                    }
                }
            }
        }
    }
    copy(&mut pieces, bytes)?;
    Ok(copied)
}
