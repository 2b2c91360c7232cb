//! A heal from its first look to its last.
//!
//! Owns the order of the steps and what each failure means for the process. Does not own how an agent is reached or
//! asked, nor how it gives memory back.

use std::path::Path;
use std::time::{Duration, Instant};

use pydefrag_heap::{Diff, Heal, HealLevel, HealWay, HealWork, Left, Memory, Realised, Snapshot};
use pydefrag_image::{Image, ProcessFacts, diagnose};
use pydefrag_layout::agent::Ask;
use pydefrag_walk::{Runtime, memory};

use super::advice;
use super::agent::{self, Agent};
use super::inject::{self, Closed, Thread};
use super::interrupt::Interrupt;
use super::mailbox::{Question, Unanswered, ask};
use super::theirs::Theirs;
use crate::failure::hinted;
use crate::look::look_with_bar;
use crate::objects::Objects;
use crate::progress::Progress;

/// Owners that are kept of the difference.
const OWNERS: usize = 40;

/// What is wanted.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) pid: i32,
    pub(crate) level: HealLevel,
    pub(crate) collect: bool,
    pub(crate) dry_run: bool,
    pub(crate) slice: Duration,
    pub(crate) timeout: Duration,
    /// After so long it is looked whether what came back stayed away; not at all if zero.
    pub(crate) settle: Duration,
    /// What is wanted of the objects afterwards.
    pub(crate) objects: Objects,
}

/// The number of what the agent is asked for.
pub(crate) fn asked(level: HealLevel) -> Ask {
    match level {
        HealLevel::Trim => Ask::Trim,
        HealLevel::Purge => Ask::Purge,
    }
}

/// The way to an agent.
enum Way {
    Listening(Agent),
    /// The thread that can start it, and the agent that is there but does not listen.
    Start(Thread, Option<Agent>),
}

/// Has a process give memory back, and tells what came of it.
pub(crate) fn heal(order: &Order) -> anyhow::Result<Heal> {
    let pid = order.pid;
    let before = look_with_bar(pid, &Objects::none())?.snapshot;
    if let Some(partial) = &before.partial {
        let hint = partial.hint.clone().unwrap_or_else(|| format!("pydefrag snapshot {pid}"));
        return Err(hinted(format!("process {pid} was left as it is: {}", partial.reason), hint));
    }
    let facts = ProcessFacts::of(pid).map_err(|_| advice::gone(pid))?;
    if matches!(facts.state, 'T' | 't') {
        return Err(advice::stopped(pid, "it was left as it is"));
    }
    let promised = advice::promised(order.level, &before.ladder);
    let way = way(&facts, promised.as_deref())?;
    let theirs = Theirs::open(pid).map_err(|e| match e.kind() {
        std::io::ErrorKind::PermissionDenied => {
            let denial = diagnose(pid, true);
            hinted(
                format!("the memory of process {pid} may not be written: {denial}"),
                denial.hint(pid),
            )
        }
        _ => advice::gone(pid),
    })?;
    let reached = match &way {
        Way::Listening(_) => HealWay::Agent,
        Way::Start(..) => HealWay::RemoteExec,
    };
    let mut heal = Heal::planned(&before, order.level, order.collect, reached);
    if order.dry_run {
        if let Way::Listening(agent) = &way {
            heal.would_refuse = would_refuse(&theirs, agent, order)?;
        }
        return Ok(heal);
    }
    heal.work = Some(carry_out(&theirs, way, order, promised.as_deref(), &mut heal.notes)?);
    heal.dry_run = false;
    let (done, faults) = (Instant::now(), theirs.minor_faults());
    let Some(now) = memory_of(pid).filter(|_| theirs.is_there()) else {
        heal.notes.push(format!("process {pid} ended before it was looked at again"));
        heal.left = None;
        return Ok(heal);
    };
    heal.memory.rss.after = now.rss;
    heal.memory.pss.after = now.pss;
    heal.memory.anon_huge_pages.after = now.anon_huge_pages;
    heal.returned = before.memory.rss as i64 - now.rss as i64;
    look_again(&mut heal, &before, order);
    heal.realised = settle(&theirs, order, done, faults).map(|(seconds, then, faults)| Realised {
        seconds,
        rss: then.rss,
        pss: then.pss,
        returned: before.memory.rss as i64 - then.rss as i64,
        huge_pages_grown: then.anon_huge_pages.saturating_sub(now.anon_huge_pages),
        minor_faults: faults,
    });
    Ok(heal)
}

/// The account after it: by owner, and who keeps what is still there.
fn look_again(heal: &mut Heal, before: &Snapshot, order: &Order) {
    let after = match look_with_bar(order.pid, &order.objects) {
        Ok(looked) if looked.snapshot.partial.is_none() => looked.snapshot,
        Ok(_) => return heal.notes.push("after it, memory could not be read".into()),
        Err(e) => return heal.notes.push(format!("after it, there is no account: {e:#}")),
    };
    let mut owners = Diff::of(before, &after).owners;
    owners.retain(|o| o.resident.grown() != 0);
    owners.truncate(OWNERS);
    heal.owners = owners;
    heal.left = Left::of(&after);
}

/// How the process can be reached; if it cannot, why, and what helps.
fn way(facts: &ProcessFacts, promised: Option<&str>) -> anyhow::Result<Way> {
    let pid = facts.pid;
    let image = Image::open(facts).map_err(|_| advice::gone(pid))?;
    let agent = agent::find(&image)?;
    if let Some(agent) = agent.clone().filter(|a| a.listens(pid)) {
        return Ok(Way::Listening(agent));
    }
    let runtime = Runtime::find(&image)
        .map_err(|e| hinted(e, "pydefrag ps   (lists the Python processes there are)"))?;
    let thread = Thread::find(&image, &runtime)
        .map_err(|why| advice::closed(pid, why, agent.is_some(), promised))?;
    if let Some(agent) = &agent
        && agent.file.to_string_lossy().ends_with(" (deleted)")
    {
        // A second copy would know nothing of what the first one parked.
        let why = Closed::NotUnderstood("its agent does not listen, and its file is gone".into());
        return Err(advice::closed(pid, why, true, promised));
    }
    Ok(Way::Start(thread, agent))
}

/// Starts the agent if need be, and has it work.
fn carry_out(
    theirs: &Theirs,
    way: Way,
    order: &Order,
    promised: Option<&str>,
    notes: &mut Vec<String>,
) -> anyhow::Result<HealWork> {
    let pid = theirs.pid;
    // Not before anything is left behind: until then Ctrl-C may end us at once.
    let interrupt = Interrupt::hold();
    let agent = match way {
        Way::Listening(agent) => agent,
        Way::Start(thread, there) => {
            let file = there.as_ref().map(|a| Path::new(&a.file));
            let library = agent::library()?;
            inject::start(theirs, &thread, library, file, order.timeout, &interrupt)
                .map_err(|why| advice::closed(pid, why, false, promised))?
        }
    };
    let question = Question {
        ask: asked(order.level),
        collect: order.collect,
        slice: order.slice,
        timeout: order.timeout,
    };
    let text = ask(theirs, &agent, question, Some(&interrupt))
        .map_err(|why| unanswered(pid, why, order.timeout))?;
    work(&text).or_else(|e| {
        notes.push(format!("what the agent says of its work is not understood ({e})"));
        Ok(HealWork::default())
    })
}

/// What the agent says of its work. What it does not say is nothing.
pub(crate) fn work(text: &str) -> serde_json::Result<HealWork> {
    let mut said: serde_json::Value = serde_json::from_str(text)?;
    if let Some(fields) = said.as_object_mut() {
        // malloc's own trim is told apart from the rest.
        if let Some(ms) = fields.get("trim").and_then(|t| t.get("ms")).cloned() {
            fields.insert("trim_ms".into(), ms);
        }
    }
    serde_json::from_value(said)
}

/// Why the agent would refuse; `None` if it would not.
fn would_refuse(theirs: &Theirs, agent: &Agent, order: &Order) -> anyhow::Result<Option<String>> {
    let (slice, timeout) = (order.slice, order.timeout);
    let question = Question { ask: Ask::Check, collect: false, slice, timeout };
    let interrupt = Interrupt::hold();
    match ask(theirs, agent, question, Some(&interrupt)) {
        Ok(_) => Ok(None),
        Err(Unanswered::Refused(why)) => Ok(Some(why)),
        Err(why) => Err(unanswered(theirs.pid, why, timeout)),
    }
}

/// The failure that stands for a missing answer.
fn unanswered(pid: i32, why: Unanswered, timeout: Duration) -> anyhow::Error {
    let seconds = timeout.as_secs_f64();
    let again = |when: &str| format!("pydefrag fix {pid}   ({when})");
    match why {
        Unanswered::Refused(why) => hinted(
            format!("process {pid} was left as it is: {}", why.trim_end_matches('.')),
            format!("pydefrag snapshot {pid}   (says what is free in it)"),
        ),
        Unanswered::Busy => {
            hinted(format!("another heal of process {pid} is under way"), again("when it is done"))
        }
        Unanswered::Gone => advice::gone(pid),
        Unanswered::NotBegun(Some('T' | 't')) => {
            advice::stopped(pid, "nothing was done, and nothing will be")
        }
        Unanswered::NotBegun(_) => hinted(
            format!(
                "the agent in process {pid} did not get to work within {seconds} s, as where C code holds \
                 the GIL: nothing was done, and nothing will be"
            ),
            format!("pydefrag fix {pid} --timeout 300   (waits longer)"),
        ),
        Unanswered::NotDone => hinted(
            format!(
                "the heal of process {pid} has begun, but was not done within {seconds} s: it may still finish"
            ),
            format!("pydefrag snapshot {pid}   (says what has come back)"),
        ),
        Unanswered::Interrupted(begun) => {
            let what = match begun {
                true => "it had begun, and may still finish",
                false => "nothing was done, and nothing will be",
            };
            hinted(format!("the heal of process {pid} was interrupted: {what}"), again("again"))
        }
        Unanswered::Unreachable(what) => hinted(
            format!("the agent in process {pid} cannot be asked: {what}"),
            again("again, if it was starting or ending"),
        ),
    }
}

/// Memory some seconds after the heal, and the page faults until then.
fn settle(
    theirs: &Theirs,
    order: &Order,
    done: Instant,
    faults: Option<u64>,
) -> Option<(f64, Memory, u64)> {
    if order.settle.is_zero() {
        return None;
    }
    let progress = Progress::shares("waiting whether it stays away");
    let total = order.settle.as_millis() as u64;
    while done.elapsed() < order.settle {
        progress.set(done.elapsed().as_millis() as u64, total);
        std::thread::sleep(Duration::from_millis(50).min(order.settle));
    }
    progress.finish();
    let then = memory_of(theirs.pid)?;
    let faults = theirs.minor_faults()?.saturating_sub(faults?);
    theirs.is_there().then_some((done.elapsed().as_secs_f64(), then, faults))
}

fn memory_of(pid: i32) -> Option<Memory> {
    let facts = ProcessFacts::of(pid).ok()?;
    let image = Image::open(&facts).ok()?;
    Some(memory(&facts, &image.mappings))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_agent_says_is_taken_as_it_is() {
        let said = r#"{"level":"purge","collected":null,"trim":{"malloc":"glibc","ms":1.5},
            "pools_parked":7,"longest_slice_us":4100,"skipped":["x"],"new":[1]}"#;
        let work = work(said).unwrap();
        assert_eq!((work.trim_ms, work.pools_parked, work.collected), (1.5, 7, None));
        assert_eq!((work.longest_slice_us, &work.skipped[..]), (4100.0, &["x".to_owned()][..]));
        assert!(super::work("[").is_err());
    }
}
