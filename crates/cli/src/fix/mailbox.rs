//! Asking an agent: a request into its mailbox, and its answer.
//!
//! Owns the conversation and its end: an answer, a refusal, or none in time. The bytes are `pydefrag_layout::agent`'s.
//!
//! Invariants: a request is written whole, with one write, after the table was validated in this very address space. It has
//! a deadline, after which the agent does not begin, and it is taken out of the mailbox when nobody waits for it any more.

use std::fs::File;
use std::io::Read;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use pydefrag_layout::agent::{self, ANSWER, Answer, Ask, REQUEST, Request, Stage, TABLE, at};

use super::agent::Agent;
use super::interrupt::Interrupt;
use super::theirs::Theirs;

/// Between two looks at the answer.
const POLL: Duration = Duration::from_millis(10);
/// After the deadline, for an agent that has just begun to say so.
const GRACE: Duration = Duration::from_millis(500);

/// What is asked of an agent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question {
    pub(crate) ask: Ask,
    pub(crate) collect: bool,
    pub(crate) slice: Duration,
    /// How long it may take until the agent begins, and then again until it is done.
    pub(crate) timeout: Duration,
}

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// The agent said why not, and did nothing.
    Refused(String),
    /// Another request is being attended to.
    Busy,
    /// The process has ended, or has become another program.
    Gone,
    /// It never began, and never will; the state of the process.
    NotBegun(Option<char>),
    /// It had begun, and may still finish.
    NotDone,
    /// Somebody wants us to end; whether it had begun.
    Interrupted(bool),
    /// The table could not be read or written, or is none any more.
    Unreachable(String),
}

/// Asks, and returns the JSON text of what was done.
pub(crate) fn ask(
    theirs: &Theirs,
    agent: &Agent,
    question: Question,
    interrupt: Option<&Interrupt>,
) -> Result<String, Unanswered> {
    let box_ = Mailbox { theirs, table: agent.table };
    // Two of us must not write over each other; whoever else may be at it is seen by what stands in the mailbox.
    let Some(_lock) = lock(theirs.pid) else { return Err(Unanswered::Busy) };
    let table = box_.read()?;
    if busy(&table, theirs.clock()) {
        return Err(Unanswered::Busy);
    }
    let timeout = u64::try_from(question.timeout.as_nanos()).unwrap_or(u64::MAX);
    let request = Request {
        token: token()?,
        ask: question.ask,
        collect: question.collect,
        slice_us: u64::try_from(question.slice.as_micros()).unwrap_or(u64::MAX),
        deadline_ns: theirs.clock().saturating_add(timeout),
    };
    if !theirs.is_there() {
        return Err(Unanswered::Gone);
    }
    box_.write(at::REQUEST, &request.bytes())?;
    let answer = box_.wait(&request, question.timeout, interrupt);
    if !matches!(answer, Ok(_) | Err(Unanswered::Refused(_) | Unanswered::Gone | Unanswered::Busy))
    {
        box_.withdraw(&request);
    }
    answer
}

/// How a process's mailbox is locked among ourselves; `None` while another of us has it.
fn lock(pid: i32) -> Option<Option<Flock<File>>> {
    // Where that cannot be had, the mailbox itself tells most of it.
    let Ok(folder) = File::open(format!("/proc/{pid}")) else { return Some(None) };
    match Flock::lock(folder, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Some(Some(lock)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => None,
        Err(_) => Some(None),
    }
}

/// Whether a request is there that is neither answered nor too late, or one that was begun and not finished.
fn busy(table: &[u8], now: u64) -> bool {
    let answer = Answer::of(&table[at::ANSWER..]);
    if answer.is_some_and(|a| a.stage == Stage::Begun) {
        return true;
    }
    let request = Request::of(&table[at::REQUEST..at::REQUEST + REQUEST]);
    request.is_some_and(|r| r.deadline_ns > now && answer.is_none_or(|a| a.token != r.token))
}

/// A number that no other request has.
fn token() -> Result<u64, Unanswered> {
    let mut bytes = [0; 8];
    let read = File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut bytes));
    read.map_err(|e| Unanswered::Unreachable(format!("no random number could be had ({e})")))?;
    Ok(u64::from_le_bytes(bytes) | 1)
}

struct Mailbox<'a> {
    theirs: &'a Theirs,
    table: u64,
}

impl Mailbox<'_> {
    fn read(&self) -> Result<Vec<u8>, Unanswered> {
        let mut table = vec![0; TABLE];
        self.theirs.read(self.table, &mut table).map_err(|e| self.failed("read", &e))?;
        match agent::head(&table) {
            Ok(_) => Ok(table),
            Err(_) if !self.theirs.is_there() => Err(Unanswered::Gone),
            Err(_) => Err(Unanswered::Unreachable("its table is not there any more".into())),
        }
    }

    fn write(&self, at: usize, bytes: &[u8]) -> Result<(), Unanswered> {
        self.theirs.write(self.table + at as u64, bytes).map_err(|e| self.failed("written", &e))
    }

    fn failed(&self, what: &str, e: &std::io::Error) -> Unanswered {
        match self.theirs.is_there() {
            true => Unanswered::Unreachable(format!("its table could not be {what} ({e})")),
            false => Unanswered::Gone,
        }
    }

    fn wait(
        &self,
        request: &Request,
        timeout: Duration,
        interrupt: Option<&Interrupt>,
    ) -> Result<String, Unanswered> {
        let start = Instant::now();
        let mut begun: Option<Instant> = None;
        loop {
            let table = self.read()?;
            let answer = Answer::of(&table[at::ANSWER..at::ANSWER + ANSWER]);
            let answer = answer.filter(|a| a.token == request.token);
            match answer {
                Some(Answer { stage: Stage::Done, text, .. }) => return Ok(text.to_owned()),
                Some(Answer { stage: Stage::Refused, text, .. }) => {
                    return Err(Unanswered::Refused(text.to_owned()));
                }
                Some(_) => begun = begun.or(Some(Instant::now())),
                None => {
                    let now = Request::of(&table[at::REQUEST..at::REQUEST + REQUEST]);
                    if now.is_some_and(|r| r.token != request.token) {
                        return Err(Unanswered::Busy);
                    }
                }
            }
            if interrupt.is_some_and(Interrupt::came) {
                return Err(Unanswered::Interrupted(begun.is_some()));
            }
            match begun {
                Some(since) if since.elapsed() > timeout => return Err(Unanswered::NotDone),
                None if start.elapsed() > timeout + GRACE => {
                    return Err(Unanswered::NotBegun(self.theirs.state()));
                }
                _ => std::thread::sleep(POLL),
            }
        }
    }

    /// Takes the request back, if it is still there: its token alone makes it none.
    fn withdraw(&self, request: &Request) {
        let mut there = [0; 8];
        let at = self.table + at::REQUEST as u64;
        if self.theirs.read(at, &mut there).is_ok() && u64::from_le_bytes(there) == request.token {
            let _ = self.theirs.write(at, &[0; 8]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(request: Option<Request>, answer: Option<(u64, Stage)>) -> Vec<u8> {
        let mut table = vec![0; TABLE];
        if let Some(request) = request {
            table[at::REQUEST..at::REQUEST + REQUEST].copy_from_slice(&request.bytes());
        }
        if let Some((token, stage)) = answer {
            table[at::ANSWER..at::ANSWER + 8].copy_from_slice(&token.to_le_bytes());
            table[at::ANSWER + 8] = stage as u8;
        }
        table
    }

    #[test]
    fn a_mailbox_is_busy_while_a_request_may_still_be_begun_or_is_not_done() {
        let ask = Ask::Purge;
        let request =
            Some(Request { token: 5, ask, collect: false, slice_us: 5000, deadline_ns: 100 });
        assert!(!busy(&table(None, None), 50));
        assert!(busy(&table(request, None), 50));
        assert!(!busy(&table(request, None), 101), "too late to be begun");
        assert!(busy(&table(request, Some((5, Stage::Begun))), 101));
        assert!(!busy(&table(request, Some((5, Stage::Done))), 50));
        assert!(busy(&table(request, Some((3, Stage::Done))), 50), "that was another one's");
        assert!(!busy(&table(request, Some((5, Stage::Refused))), 50));
    }

    #[test]
    fn tokens_are_random_and_not_zero() {
        let tokens: std::collections::HashSet<u64> = (0..100).map(|_| token().unwrap()).collect();
        assert!(tokens.len() == 100 && !tokens.contains(&0));
    }

    #[test]
    fn one_of_us_at_a_time() {
        let pid = std::process::id() as i32;
        let first = lock(pid).expect("nobody else has it");
        assert!(first.is_none() || lock(pid).is_none());
        drop(first);
        assert!(lock(pid).is_some());
    }
}
