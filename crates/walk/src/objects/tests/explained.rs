//! The explanation as a whole, where the command line cannot ask for it.

use std::time::{Duration, Instant};

use pydefrag_harness::{Interpreters, Target};
use pydefrag_image::{Image, ProcessFacts};

use crate::objects::{Asked, explain};
use crate::runtime::Runtime;
use crate::snapshot::{Looked, Wanted, snapshot};

fn looked(target: &Target, until: Option<Instant>) -> Looked {
    target.wait_blocked();
    let facts = ProcessFacts::of(target.pid() as i32).expect("it runs");
    let image = Image::open(&facts).expect("it may be looked at");
    let runtime = Runtime::find(&image).expect("it is Python");
    let mut looked = snapshot(&facts, &image, &runtime, Wanted { objects: true, map: false })
        .expect("it is understood");
    let asked =
        Asked { until, progress: &|_, _| {}, show_values: false, blocks: 0, at: &[], sites: None };
    explain(&image, &runtime, &mut looked, &asked).expect("it may be read");
    looked
}

#[test]
fn what_takes_too_long_leaves_the_account() {
    let interpreters = Interpreters::load();
    let interpreter = interpreters.minors().into_iter().next().expect("an interpreter");
    let target = Target::spawn(interpreter, "records.py", &["20000"], &[]);
    let now = Instant::now();
    let late = looked(&target, Some(now));
    let notes = &late.snapshot.notes;
    assert!(late.snapshot.explanation.is_none());
    assert!(notes.iter().any(|n| n.contains("taken too long")), "{notes:?}");
    assert!(!late.snapshot.owners.is_empty() && !late.detail.pools.is_empty());
    let early = looked(&target, Some(now + Duration::from_secs(60)));
    assert!(early.snapshot.explanation.is_some(), "{:?}", early.snapshot.notes);
}
