//! `record --native`: what the trace has below a Python function, against what glibc's `backtrace(3)` says at the same place.

use pydefrag_heap::Recording;
use pydefrag_trace::event::{Domain, NO_FILE};

use super::*;

/// A native frame: its file, and the address that this states for the call.
type Native = (String, u64);
/// The same with the exported symbol that the C library finds for it.
type Told = (String, u64, Option<String>);

const LOOP: &str = "_PyEval_EvalFrameDefault";

fn real(file: &str) -> String {
    let file = std::fs::canonicalize(file).unwrap_or_else(|_| file.into());
    file.to_string_lossy().into_owned()
}

/// The native frames of a stack, innermost first.
fn native(stacks: &Stacks, trace: &Trace, node: u32) -> Vec<Native> {
    let mut frames = Vec::new();
    let mut at = node;
    while let Some((parent, code, offset)) = stacks.nodes.get(&at) {
        if *code == NO_FILE {
            frames.push((String::new(), 0));
        } else {
            let code = trace.codes.iter().find(|c| c.number == *code).unwrap();
            if !code.is_native() {
                break;
            }
            frames.push((real(&code.file), u64::from(*offset) - 1));
        }
        at = *parent;
    }
    frames
}

/// As [`recorded`], with what it imports compiled before: the compiler calls itself more often than native frames are kept.
fn compiled(of: &Interpreter, options: &[&str], words: &[&str]) -> Recorded {
    let folder = tempfile::tempdir().unwrap();
    let bytecode = folder.path().join("bytecode");
    let status = Command::new(&of.program)
        .args(&of.args)
        .envs(of.env.iter().map(|(k, v)| (k, v)))
        .env_remove("PYTHONDONTWRITEBYTECODE")
        .env("PYTHONPYCACHEPREFIX", &bytecode)
        .args(["-c", "import ctypes, json, struct, threading"])
        .status();
    assert!(status.unwrap().success() && bytecode.is_dir(), "{}", of.name);
    let mut command = recording(of, folder.path(), options, words);
    command.env("PYTHONPYCACHEPREFIX", &bytecode);
    Recorded { output: command.output().unwrap(), folder }
}

#[test]
fn native_frames_are_those_of_a_backtrace() {
    for of in every_minor() {
        let recorded = compiled(of, &["--native", "--no-report", "--check-stacks"], &["native.py"]);
        let said = String::from_utf8_lossy(&recorded.output.stderr);
        assert!(recorded.stdout().ends_with("done\n"), "{}: {said}", of.name);
        let trace = recorded.trace();
        let end = trace.end.as_ref().expect("an end");
        assert_eq!(end.wrong_stacks, Some(0), "{}", of.name);
        assert!(end.notes.is_empty(), "{}: {:?}", of.name, end.notes);
        let mut stacks = Stacks::default();
        let mut of_size = HashMap::new();
        for (_, event) in events(&trace) {
            stacks.take(&event);
            if let Event::Alloc { size, node, domain: Domain::Malloc, .. } = event {
                of_size.insert(size, node);
            }
        }
        let mut lengths = Vec::new();
        for line in recorded.stdout().lines().filter(|line| line.starts_with('[')) {
            let (size, told): (u64, Vec<Told>) = serde_json::from_str(line).unwrap();
            let node = of_size.get(&size).unwrap_or_else(|| panic!("{}: {size}", of.name));
            let frames = native(&stacks, &trace, *node);
            let what = format!("{}: the block of {size} bytes: {frames:x?} of {told:x?}", of.name);
            // The innermost is strdup itself.
            assert!(frames.first().is_some_and(|(file, _)| file.contains("libc")), "{what}");
            let ours = &frames[1..];
            assert!(ours.len() <= told.len(), "{what}");
            let theirs: Vec<Native> =
                told[..ours.len()].iter().map(|(file, at, _)| (real(file), *at)).collect();
            assert_eq!(ours, theirs, "{what}");
            // They end where the loop begins. (A part of it that was moved away, .cold, has no exported symbol.)
            let next = told.get(ours.len()).unwrap_or_else(|| panic!("{what}"));
            assert!(next.2.as_deref().is_none_or(|symbol| symbol == LOOP), "{what}");
            let outside = |(_, _, symbol): &Told| symbol.as_deref() == Some(LOOP);
            assert!(!told[..ours.len()].iter().any(outside), "{what}");
            lengths.push(ours.len());
        }
        assert_eq!(lengths.len(), 7, "{}", of.name);
        // The same C code has called strdup everywhere.
        assert!(lengths.iter().all(|n| *n == lengths[0] && *n >= 4), "{}: {lengths:?}", of.name);
    }
}

/// Code that was made at run time calls strdup: what called that nobody's tables tell.
const MADE: &str = "
import ctypes, mmap, struct
strdup = ctypes.cast(ctypes.CDLL(None).strdup, ctypes.c_void_p).value
page = mmap.mmap(-1, 4096, prot=7)
# mov rax, strdup; sub rsp, 8; call rax; add rsp, 8; ret
page.write(b'\\x48\\xb8' + struct.pack('<Q', strdup) + b'\\x48\\x83\\xec\\x08\\xff\\xd0\\x48\\x83\\xc4\\x08\\xc3')
at = ctypes.addressof(ctypes.c_char.from_buffer(page))
made = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(at)
text = ctypes.create_string_buffer(b'x' * 700_500)
def plant():
    for _ in range(3):
        made(ctypes.addressof(text))
plant()
print('done')
";

#[test]
fn a_walk_ends_at_code_of_no_file() {
    for of in every_minor() {
        let recorded = recorded(of, &["--native", "--no-report"], &["-c", MADE]);
        let said = String::from_utf8_lossy(&recorded.output.stderr);
        assert_eq!(recorded.stdout(), "done\n", "{}: {said}", of.name);
        let trace = recorded.trace();
        let (mut stacks, mut planted) = (Stacks::default(), Vec::new());
        for (_, event) in events(&trace) {
            stacks.take(&event);
            if let Event::Alloc { size: 700_501, node, domain: Domain::Malloc, .. } = event {
                planted.push(node);
            }
        }
        // One stack, however often: an address that means nothing makes no other.
        assert_eq!(planted, [planted[0]; 3], "{}", of.name);
        let frames = native(&stacks, &trace, planted[0]);
        assert!(frames[0].0.contains("libc"), "{}: {frames:x?}", of.name);
        assert_eq!(frames[1..], [(String::new(), 0)], "{}", of.name);
        let mut at = planted[0];
        for _ in &frames {
            at = stacks.nodes[&at].0;
        }
        let python = stacks.of(&trace, at);
        assert_eq!(python.last().map(|(_, _, name)| &**name), Some("plant"), "{}", of.name);
        let notes = &trace.end.as_ref().expect("an end").notes;
        let told = "3 allocations have native frames only in part";
        assert!(notes.iter().any(|note| note.starts_with(told)), "{}: {notes:?}", of.name);
    }
}

#[test]
fn native_functions_have_names_and_python_lines_keep_what_they_call() {
    for of in two() {
        for options in [&["--native", "--json"][..], &["--native", "--json", "--sample=64KiB"]] {
            let recorded = recorded(of, options, &["native.py"]);
            let said = String::from_utf8_lossy(&recorded.output.stderr);
            let json = said.lines().filter(|line| !line.starts_with("kept in")).collect::<Vec<_>>();
            let recording: Recording = serde_json::from_str(&json.join("\n")).expect(&said);
            let function =
                |call: u32| &recording.functions[recording.calls[call as usize].function as usize];
            let of_strdup = (0u32..)
                .zip(&recording.calls)
                .filter(|(i, c)| {
                    function(*i).name.contains("strdup") && c.own.allocated.bytes >= 700_000
                })
                .map(|(i, _)| i)
                .collect::<Vec<_>>();
            assert!(!of_strdup.is_empty(), "{}: {said}", of.name);
            for call in of_strdup {
                let mut at = call;
                while function(at).native {
                    assert_ne!(function(at).name, LOOP);
                    at = recording.calls[at as usize].parent;
                }
                assert_eq!(function(at).name, "plant", "{}", of.name);
            }
        }
    }
}

#[test]
fn native_is_not_for_a_program_that_waits() {
    let of = two()[0];
    let output = recorded(of, &["--native", "--wait"], &["native.py"]).output;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("--wait"), "{said}");
}
