//! What pydefrag's agent leaves of pymalloc: our numbers beside CPython's own, and beside what the agent gave back.

use pydefrag_harness::Target;
use serde_json::Value;

use super::{library, purged};
use crate::ground_truth::{equals_debugmallocstats, u64_of};
use crate::support::{TERMS, snapshot_at_rest};

/// Bytes by which a promise may differ from what comes back: to ask runs Python, there are caches of malloc's, and the
/// last arena of the reserve, whose up to 64 pools keep their first pages, may be another one by then.
const ASKING: u64 = 32 * 4096 + 64 * 4096;

#[test]
fn after_churn_and_purge_pymalloc_agrees_with_the_account() {
    let agent = library();
    for interpreter in purged() {
        let path = agent.to_str().expect("text");
        let mut target = Target::spawn(interpreter, "healed_rounds.py", &[path], &[]);
        let mut parked = 0;
        for round in 0..20 {
            let what = format!("round {round} on {}", interpreter.name);
            target.ask(&format!("churn {}", 2 + round));
            let promised = {
                let ladder = &snapshot_at_rest(&target)["ladder"];
                u64_of(&ladder["purge"]) - u64_of(&ladder["trim"])
            };
            let said: Value = serde_json::from_str(&target.ask("purge")).expect("JSON");
            let healed = &said["done"];
            assert_eq!(healed["invalid"], 0, "{what}: {said}");
            let dropped = u64_of(&healed["bytes_dropped"]);
            assert!(promised.abs_diff(dropped) <= ASKING, "{what}: promised {promised}: {said}");
            let s = snapshot_at_rest(&target);
            assert_eq!(u64_of(&s["torn"]["left"]), 0, "{what}");
            equals_debugmallocstats(&s["pymalloc"], &target.debugmallocstats(), &what);
            let owners = s["owners"].as_array().expect("owners");
            let sum: u64 = owners.iter().map(|o| u64_of(&o["resident"])).sum();
            assert_eq!(sum + u64_of(&s["unattributed"]), u64_of(&s["memory"]["rss"]), "{what}");
            for o in owners.iter().filter(|o| o["kind"] == "pymalloc") {
                let total: u64 = TERMS.iter().map(|t| u64_of(&o[*t])).sum();
                assert_eq!(total, u64_of(&o["resident"]), "{what}: {o:#}");
                assert_eq!(u64_of(&o["unread"]), 0, "{what}");
            }
            parked = parked.max(u64_of(&s["pymalloc"]["parked_pools"]));
        }
        assert!(parked > 0, "nothing was ever parked on {}", interpreter.name);
    }
}
