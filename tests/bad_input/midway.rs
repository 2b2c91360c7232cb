//! A process that ends or becomes another program while it is looked at: a consistent account or one
//! of a few sentences, whenever it happens.

use std::io::Write;
use std::process::Child;
use std::time::{Duration, Instant};

use super::{LIMIT, Stranger, account, python, python_says, refused, signal};
use crate::support::pydefrag;

/// No run may take longer than this, whatever its target does.
const SOON: Duration = Duration::from_secs(10);

const ENDED: &[&str] = &[
    "no process has pid ",
    " is a zombie: it has ended and has no memory any more",
    " ended while it was looked at",
];
const EXECED: &[&str] = &[
    " began another program (exec) while it was looked at",
    " is not a Python process: it runs ",
    // The new program is a Python that has not begun yet.
    "but its memory is not understood: ",
];

/// Looks while `happen` is called after this long; the outcome must be an account or a known sentence.
fn look_while(pid: u32, after: Duration, happen: impl FnOnce(), sentences: &[&str]) -> String {
    let mut command = pydefrag(&["snapshot", &pid.to_string(), "--json", "--no-objects"]);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let start = Instant::now();
    let looking: Child = command.spawn().expect("pydefrag starts");
    let watch = std::thread::spawn(move || looking.wait_with_output());
    std::thread::sleep(after);
    happen();
    while !watch.is_finished() {
        assert!(start.elapsed() < LIMIT, "it hangs");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(start.elapsed() < SOON, "it took {:?}", start.elapsed());
    let out = watch.join().expect("no panic").expect("its output");
    if out.status.success() {
        account(&out, "midway");
        return "an account".into();
    }
    let (sentence, _) = refused(&out);
    let known = sentences.iter().find(|s| sentence.contains(*s));
    (*known.unwrap_or_else(|| panic!("after {after:?}: {sentence}"))).into()
}

/// Delays from nothing to about as long as a look takes, and a little more.
fn delays(count: u64) -> impl Iterator<Item = Duration> {
    let pid = u64::from(std::process::id());
    let mut state = pid.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..count).map(move |_| {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        Duration::from_micros(state % 30_000)
    })
}

#[test]
fn a_process_killed_midway() {
    let mut outcomes = std::collections::BTreeMap::<_, u32>::new();
    for after in delays(60) {
        let target = Stranger::ready(&mut python_says(python(), "ready()"));
        let kill = || signal(target.pid(), "KILL");
        *outcomes.entry(look_while(target.pid(), after, kill, ENDED)).or_default() += 1;
    }
    eprintln!("killed midway: {outcomes:?}");
    assert!(outcomes.len() > 1, "it was always killed too soon or too late: {outcomes:?}");
}

#[test]
fn a_process_that_execs_midway() {
    let python = python();
    let exe = python.program.display();
    let sleep = "ready(); os.execv('/bin/sleep', ['sleep', '60'])".to_owned();
    let same =
        format!("ready(); os.execv('{exe}', ['{exe}', '-S', '-c', 'import time; time.sleep(60)'])");
    let mut outcomes = std::collections::BTreeMap::<_, u32>::new();
    for (i, after) in delays(60).enumerate() {
        let statement = if i % 2 == 0 { &sleep } else { &same };
        let mut target = Stranger::ready(&mut python_says(python, statement));
        let pid = target.pid();
        let stdin = target.child.stdin.as_mut().expect("stdin is piped");
        let exec = || stdin.write_all(b"\n").expect("it reads");
        *outcomes.entry(look_while(pid, after, exec, EXECED)).or_default() += 1;
    }
    eprintln!("execs midway: {outcomes:?}");
    assert!(outcomes.len() > 1, "it always became another too soon or too late: {outcomes:?}");
}
