//! Stacks: what `traceback` says at the same place, and what a second walk of every stack says.

use pydefrag_trace::event::Event;

use super::*;

/// `recorded.py` allocates blocks of a size that no other has, each where it also asks `traceback`.
#[test]
fn they_are_tracebacks() {
    for of in every_minor() {
        let recorded = recorded(of, &["--no-report", "--check-stacks"], &["recorded.py"]);
        let said = String::from_utf8_lossy(&recorded.output.stderr);
        assert!(recorded.output.status.success(), "{}: {said}", of.name);
        let trace = recorded.trace();
        let end = trace.end.as_ref().expect("an end");
        assert_eq!(end.wrong_stacks, Some(0), "{}: of {:?}", of.name, end.checked_stacks);
        assert!(end.checked_stacks > Some(10_000), "{}", of.name);
        let mut stacks = Stacks::default();
        let mut of_size = HashMap::new();
        for (_, event) in events(&trace) {
            stacks.take(&event);
            if let Event::Alloc { size, node, .. } = event {
                of_size.insert(size, node);
            }
        }
        let header = 33;
        let mut planted = 0;
        for line in recorded.stdout().lines() {
            let (size, said): (u64, Vec<Frame>) = serde_json::from_str(line).unwrap();
            let node =
                of_size.get(&(size + header)).unwrap_or_else(|| panic!("{}: {size}", of.name));
            let told: Vec<Frame> = stacks
                .of(&trace, *node)
                .into_iter()
                .map(|(file, line, name)| {
                    // traceback has `co_name`, the trace `co_qualname`.
                    (file, line, name.rsplit('.').next().unwrap_or_default().to_owned())
                })
                .collect();
            let said: Vec<Frame> = said
                .into_iter()
                .map(|(file, line, name)| (file, line, name.rsplit('.').next().unwrap().to_owned()))
                .collect();
            assert_eq!(told, said, "{}: the block of {size} bytes", of.name);
            planted += 1;
        }
        assert!(planted > 600, "{}: {planted} places", of.name);
    }
}

/// A frame that waits goes on elsewhere, which its mark does not tell (`frame.f_lineno`, as in test_pdb).
#[test]
fn a_debugger_may_have_a_frame_jump() {
    for of in every_minor() {
        let recorded = recorded(of, &["--check-stacks", "--no-report"], &["jumping.py"]);
        let trace = recorded.trace();
        let end = trace.end.as_ref().expect("an end");
        assert!(end.checked_stacks.is_some_and(|n| n > 1000), "{}", of.name);
        assert_eq!(end.wrong_stacks, Some(0), "{}", of.name);
    }
}

/// A frame that was marked goes on after an exception, which leaves the mark, and waits otherwise at the same place. Sampled too,
/// where most of what happens between is not seen; and by the compiler, in builds that have it.
#[test]
fn a_mark_that_stayed_says_nothing() {
    none_is_wrong("stale.py");
}

#[test]
fn a_function_that_has_gone_is_not_taken_for_the_next_at_its_address() {
    none_is_wrong("gone.py");
}

/// Every stack of a target comes out the same when it is walked twice.
fn none_is_wrong(target: &str) {
    for of in every_minor() {
        for (options, jit) in [(&[][..], "0"), (&["--sample=2KiB"], "0"), (&[], "1")] {
            let options = [&["--check-stacks", "--no-report"], options].concat();
            let folder = tempfile::tempdir().unwrap();
            let mut command = recording(of, folder.path(), &options, &[target]);
            let output = command.env("PYTHON_JIT", jit).output().unwrap();
            let recorded = Recorded { output, folder };
            let said = String::from_utf8_lossy(&recorded.output.stderr);
            assert!(recorded.output.status.success(), "{}: {said}", of.name);
            let trace = recorded.trace();
            let end = trace.end.as_ref().expect("an end");
            assert!(end.checked_stacks.is_some_and(|n| n > 1000), "{}: {end:?}", of.name);
            assert_eq!(end.wrong_stacks, Some(0), "{}: of {:?}", of.name, end.checked_stacks);
        }
    }
}
