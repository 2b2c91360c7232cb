//! The snapshot that a run ends with: the account at the end or at the peak, and the run beside it.
//!
//! Owns what is said where there is no account. Nothing is made up then: of the heaps nothing is known, and
//! the resident bytes of the last look are nobody's.

use pydefrag_heap::{Detail, Ended, Memory, Partial, Process, Run, Sample, Snapshot, measures};

use super::follow::Followed;

/// In less than this, a Python may have come and gone unseen.
const SHORT: f64 = 0.5;

/// How a run ended.
pub(crate) struct Ending {
    /// What is reported.
    pub(crate) snapshot: Snapshot,
    /// The heap behind it.
    pub(crate) detail: Detail,
    /// The account at the end; or why there is none.
    pub(crate) end: Result<Snapshot, String>,
}

/// From what was seen; `command` is the program's command line.
pub(crate) fn ending(mut followed: Followed, command: String) -> Ending {
    let at_end = match followed.at_end.take() {
        Some(Ok(looked)) => Ok(looked),
        Some(Err(e)) => Err(format!("the account at the end failed: {e:#}")),
        None => Err(why_no_end(&followed)),
    };
    let end = at_end.as_ref().map(|l| l.snapshot.clone()).map_err(Clone::clone);
    let peak = followed.at_peak.take();
    let note = match (&peak, &at_end) {
        (Some((_, at)), _) => {
            Some(format!("the account is of the peak, {at:.1} s after the start"))
        }
        (None, Err(why)) => Some(why.clone()),
        (None, Ok(_)) => None,
    };
    let account = peak.map(|(looked, _)| looked).map_or(at_end, Ok);
    let (mut snapshot, detail) = match account {
        Ok(looked) => (looked.snapshot, looked.detail),
        Err(why) => (without_account(&followed, command, &why), Detail::default()),
    };
    snapshot.run = Some(over_time(followed, note, &snapshot));
    snapshot.verdict = pydefrag_advise::verdict(&snapshot);
    Ending { snapshot, detail, end }
}

/// Why the program never said that it ends.
fn why_no_end(followed: &Followed) -> String {
    let python = followed.hello || followed.last.as_ref().is_some_and(|s| s.python);
    let why = match followed.ended {
        // It may have been there before anyone looked.
        _ if !python && followed.seconds < SHORT => {
            return format!("no Python process was seen in {:.2} s", followed.seconds);
        }
        _ if !python => return "no Python process was seen".into(),
        _ if followed.main_runs => "it still ran when the command ended".into(),
        Ended::Signal(n) if followed.main == followed.program => match n {
            0 => "it was killed by a signal".into(),
            n => format!("it was killed by signal {n}"),
        },
        _ if followed.hello => {
            "it ended without its exit callbacks, or had closed all descriptors (os._exit, exec, a \
             signal, a daemon)"
                .into()
        }
        _ => match &followed.no_hook {
            Some(why) => format!("it could not be told to wait at its end: {why}"),
            None => {
                "it does not wait at its end, for it does not load sitecustomize (python -I, -E or \
                     -S, or a clean environment)"
                    .into()
            }
        },
    };
    format!("there is no account of the end: {why}")
}

fn without_account(followed: &Followed, command: String, why: &str) -> Snapshot {
    let last = followed.last.as_ref();
    let process = Process {
        pid: followed.main,
        command: last.map_or(command, |s| s.facts.command.clone()),
        threads: last.map_or(0, |s| s.facts.threads),
        python: None,
        libc: None,
    };
    Snapshot {
        partial: Some(Partial { reason: why.into(), hint: None }),
        ..Snapshot::bare(process, last.map_or_else(Memory::default, |s| s.memory))
    }
}

/// The run beside an account.
fn over_time(followed: Followed, note: Option<String>, account: &Snapshot) -> Run {
    let mut samples = followed.samples;
    let whole = note.is_none() && account.partial.is_none();
    if (samples.is_empty() && account.memory.rss > 0) || (followed.last_left_out && whole) {
        // It ended before a light look was due, or the last one was none of the samples.
        let free = account.owners.iter().filter_map(|o| o.account).map(|a| a.free()).sum();
        samples.push(Sample { at: followed.seconds, rss: account.memory.rss, free });
    }
    let none = (Sample::default(), Sample::default(), 1.0, 0.0);
    let (peak, trough, trough_ratio, waste) = measures(&samples).unwrap_or(none);
    let unknown = (!followed.free_known && account.partial.is_some())
        .then(|| "free bytes of its heaps are not known, and counted as none".to_owned());
    // A few while it starts another Python in its place are nothing to speak of.
    let many = followed.left_out > samples.len() as u64 / 4 || (followed.last_left_out && !whole);
    let left_out = (followed.left_out > 0 && many).then(|| {
        format!(
            "{} of the looks could not tell what is free in its heaps, and are no samples",
            followed.left_out
        )
    });
    let account_at_end = note.is_none();
    let note = [note, unknown, left_out].into_iter().flatten().collect::<Vec<_>>().join("; ");
    Run {
        seconds: followed.seconds,
        ended: followed.ended,
        peak,
        trough,
        end: samples.last().copied().unwrap_or_default(),
        trough_ratio,
        waste,
        account_at_end,
        account_note: (!note.is_empty()).then_some(note),
        samples,
        children: followed.children,
        children_left_out: followed.children_left_out,
        healed: followed.healed,
    }
}
