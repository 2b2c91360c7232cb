//! The two kinds of running other people's tests: under purge, and recorded.
//!
//! Owns what differs in what is counted, and in the words of a page. How a process is run is a job's (`suites/job.rs`).

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a test file is run with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The agent in it gives memory back every 50 ms.
    Purge,
    /// Every allocation of it is written to a trace, and every stack is walked twice.
    Record,
}

/// As in "passes under purge".
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Purge => "under purge",
            Kind::Record => "recorded",
        })
    }
}

/// Numbers that are counted of either kind.
pub(super) const COUNTS: usize = 4;

impl Kind {
    /// What [`Did::amount`] counts.
    pub(super) fn unit(self) -> &'static str {
        match self {
            Kind::Purge => "heals",
            Kind::Record => "events",
        }
    }

    /// A run with a smaller amount has shown nothing.
    pub(super) fn least(self) -> u64 {
        match self {
            Kind::Purge => 100,
            Kind::Record => 100_000,
        }
    }

    /// Heads of a page's columns, as [`Did::cells`] fills them.
    pub(super) fn columns(self) -> [&'static str; COUNTS] {
        match self {
            Kind::Purge => ["heals", "pools parked", "pools unparked", "MiB dropped"],
            Kind::Record => ["events", "stacks checked", "stacks wrong", "MiB of traces"],
        }
    }

    /// The begin of a page.
    pub(super) fn head(self) -> &'static str {
        match self {
            Kind::Purge => PURGE,
            Kind::Record => RECORD,
        }
    }
}

/// What came of it beside the tests' own results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Did {
    /// Under purge.
    Healed(Healed),
    /// Recorded.
    Recorded(Recorded),
}

/// What the agent did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Healed {
    /// Passes over pymalloc's arenas.
    pub(super) heals: u64,
    pub(super) pools_parked: u64,
    pub(super) pools_unparked: u64,
    pub(super) bytes_dropped: u64,
}

/// What is in the trace.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recorded {
    /// All that were read from it.
    pub(super) events: u64,
    /// Stacks that were walked twice.
    pub(super) checked_stacks: u64,
    /// Those that came out otherwise.
    pub(super) wrong_stacks: u64,
    /// Of the file.
    pub(super) trace_bytes: u64,
}

impl Did {
    pub(super) fn nothing(kind: Kind) -> Did {
        match kind {
            Kind::Purge => Did::Healed(Healed::default()),
            Kind::Record => Did::Recorded(Recorded::default()),
        }
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Did::Healed(_) => Kind::Purge,
            Did::Recorded(_) => Kind::Record,
        }
    }

    /// How much of it was under test: heals, or events.
    pub(super) fn amount(&self) -> u64 {
        match self {
            Did::Healed(one) => one.heals,
            Did::Recorded(one) => one.events,
        }
    }

    /// Adds another of the same kind.
    pub(super) fn add(&mut self, other: &Did) {
        match (self, other) {
            (Did::Healed(to), Did::Healed(one)) => {
                to.heals += one.heals;
                to.pools_parked += one.pools_parked;
                to.pools_unparked += one.pools_unparked;
                to.bytes_dropped += one.bytes_dropped;
            }
            (Did::Recorded(to), Did::Recorded(one)) => {
                to.events += one.events;
                to.checked_stacks += one.checked_stacks;
                to.wrong_stacks += one.wrong_stacks;
                to.trace_bytes += one.trace_bytes;
            }
            _ => {}
        }
    }

    /// Its numbers as a page has them.
    pub(super) fn cells(&self) -> [String; COUNTS] {
        let numbers = match self {
            Did::Healed(one) => {
                [one.heals, one.pools_parked, one.pools_unparked, one.bytes_dropped >> 20]
            }
            Did::Recorded(one) => {
                [one.events, one.checked_stacks, one.wrong_stacks, one.trace_bytes >> 20]
            }
        };
        numbers.map(|n| n.to_string())
    }
}

const PURGE: &str = "\
# Other people's tests, under purge

<!-- Made from suites.jsonl by `cargo xtask suites --docs`; not to be edited. -->

Does a program notice that its memory is given back? Here the programs are CPython's own test suite and four packages
with C extensions. Each test file runs in a fresh process with the agent, which purges every 50 ms whatever the
trough (`auto` with `always`). What fails is run without the agent: only what then passes, and fails with the agent
again, is a **new failure**, and fails the command. A heal is one whole pass. `of` is how many files the suite has; 3.10,
3.12 and 3.15 run those that use most memory.

    cargo xtask suites                       all of it, some hours; goes on where it was cut off
    cargo xtask suites --only 3.11 --modules test_dict,test_gc
    cargo xtask suites --subset              what `.ci/run` runs; leaves the ledger alone

Test files run without network and without the resources that `-u` would name. The ledger has a line for each,
with the commit of the agent, what the agent did and which tests failed.

";

const RECORD: &str = "\
# Other people's tests, recorded

<!-- Made from suites-record.jsonl by `cargo xtask suites --docs --record`; not to be edited. -->

Does a program notice that its allocations are recorded, and are the stacks right? Here the programs are CPython's own
test suite. Each test file runs in a fresh process with the agent preloaded, which records every allocation and walks
every stack twice: as it always does, by what has changed since the last one, and from the innermost frame to the
outermost. What fails is run without the agent: only what then passes, and fails with the agent again, is a
**new failure**, and fails the command. So does a trace that cannot be read, is damaged, or ends before the program
does, and a stack whose two walks differ. `of` is how many files the suite has.

    cargo xtask suites --record              all of it, some hours; goes on where it was cut off
    cargo xtask suites --record --only 3.11 --modules test_gc,test_generators
    cargo xtask suites --subset              what `.ci/run` runs, of both kinds; leaves the ledgers alone

Test files run without network and without the resources that `-u` would name; the processes that a test starts are
not recorded. An event is an allocation or a free, or what stands beside them: a stack that is new, another thread, a
collection. A trace is read whole, and then removed. The ledger has a line for each file, with the commit of the agent,
what the trace had and which tests failed.

";
