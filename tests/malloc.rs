//! malloc in a target at rest, beside what glibc says of itself and what was planted in it.
//!
//! `tests/targets/malloc_truth.c` is loaded into the target and answers from static memory: between
//! what it says and our look nothing is allocated. Owns the conversation with it. What needs a C compiler
//! says `not run: …` where there is none, and fails where CI=true.

mod account;
mod corrupted;
mod mallinfo;
mod recount;
mod tcache;
mod trim;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use pydefrag_harness::{Interpreter, Interpreters, Target};
use serde_json::Value;

use crate::support::{TERMS, compile, snapshot_at_rest};

/// malloc_truth.c, compiled once; None where that cannot be.
fn library() -> Option<&'static Path> {
    static ONCE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let flags = ["-shared", "-fPIC", "-nostdlib", "-fno-stack-protector"];
    ONCE.get_or_init(|| compile(folder, "malloc_truth.so", "malloc_truth.c", &flags)).as_deref()
}

/// One interpreter per C library that there is.
fn libraries() -> &'static [Interpreter] {
    static ONCE: OnceLock<Vec<Interpreter>> = OnceLock::new();
    ONCE.get_or_init(|| {
        let all = Interpreters::load();
        let own = ["3.12", "3.15"].iter().filter_map(|name| all.get(name).cloned());
        own.chain(all.libc_variants()).collect()
    })
}

/// A target whose console answers.
struct Truth {
    target: Target,
    what: String,
}

/// What mallinfo2 says.
#[derive(Debug)]
struct Mallinfo {
    arena: u64,
    hblks: u64,
    hblkhd: u64,
    fsmblks: u64,
    uordblks: u64,
    fordblks: u64,
    keepcost: u64,
}

impl Truth {
    fn spawn(of: &Interpreter, script: &str, args: &[&str], env: &[(&str, &str)]) -> Option<Truth> {
        let what = format!("{script} {args:?} {env:?} on {}", of.name);
        let mut target = Target::spawn(of, script, args, env);
        target.ask(&format!("console {}", library()?.display()));
        Some(Truth { target, what })
    }

    /// Tells the console a line; the numbers that it answers.
    fn say(&mut self, line: &str) -> Vec<u64> {
        let answer = self.target.ask(line);
        answer.split_whitespace().map(|n| n.parse().expect("a number")).collect()
    }

    fn mallinfo(&mut self) -> Mallinfo {
        let [arena, _, hblks, hblkhd, fsmblks, uordblks, fordblks, keepcost] = self.say("i")[..]
        else {
            panic!("{}: eight numbers", self.what)
        };
        Mallinfo { arena, hblks, hblkhd, fsmblks, uordblks, fordblks, keepcost }
    }

    /// A snapshot of it, blocked, whose accounts balance.
    fn look(&self) -> Value {
        let s = snapshot_at_rest(&self.target);
        accounts_balance(&s, &self.what);
        s
    }
}

/// What holds of every snapshot, of sound and of corrupted heaps.
fn accounts_balance(s: &Value, what: &str) {
    let owners = s["owners"].as_array().expect("owners");
    let owned: u64 = owners.iter().map(|o| number(&o["resident"])).sum();
    let rss = number(&s["memory"]["rss"]);
    assert_eq!(owned, rss, "{what}: {owners:#?}");
    assert_eq!(number(&s["unattributed"]), 0, "{what}");
    assert_eq!(number(&s["residency_difference"]), 0, "{what}");
    for o in owners.iter().filter(|o| o.get("live").is_some()) {
        let terms = TERMS.iter().map(|t| number(&o[*t])).sum::<u64>();
        assert_eq!(terms, number(&o["resident"]), "{what}: {o:#}");
    }
    for a in s["malloc"]["arenas"].as_array().into_iter().flatten() {
        let parts = ["used", "overhead", "tcache", "free", "unread"];
        let parts: u64 = parts.iter().map(|t| number(&a[*t])).sum();
        assert_eq!(parts, number(&a["system"]), "{what}: {a:#}");
    }
}

fn number(v: &Value) -> u64 {
    v.as_u64().unwrap_or_else(|| panic!("{v} is not a number"))
}

fn arenas(s: &Value) -> &[Value] {
    s["malloc"]["arenas"].as_array().expect("malloc's arenas")
}

/// The sum of a field over all arenas.
fn total(s: &Value, field: &str) -> u64 {
    arenas(s).iter().map(|a| number(&a[field])).sum()
}

/// The sum of a term over malloc's owners.
fn term(s: &Value, term: &str) -> u64 {
    let owners = s["owners"].as_array().expect("owners").iter();
    owners
        .filter(|o| o["kind"] == "malloc" && o.get("live").is_some())
        .map(|o| number(&o[term]))
        .sum()
}
