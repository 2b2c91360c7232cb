//! Every way to an end: what was recorded until then can be read, and the program ends as it would.

use std::os::unix::process::ExitStatusExt;

use pydefrag_trace::sum;

use super::*;

/// Records code that ends in some way; the names of the happenings, and the recording.
fn ended(of: &Interpreter, options: &[&str], code: &str) -> (Recorded, pydefrag_heap::Recording) {
    let recorded = recorded(of, &[&["--no-report"], options].concat(), &["-c", code]);
    let summed = sum(&recorded.trace(), &|_, _| {});
    (recorded, summed)
}

const WORK: &str = "import os, sys, signal, threading, time, ctypes\n\
                    x = [str(i) for i in range(200000)]\n";

#[test]
fn killed_by_a_signal_all_but_the_last_buffers_are_there() {
    for of in two() {
        for signal in ["SIGKILL", "SIGTERM"] {
            let (recorded, summed) =
                ended(of, &[], &format!("{WORK}os.kill(os.getpid(), signal.{signal})"));
            assert!(
                recorded.output.status.signal().is_some(),
                "{signal}: {:?}",
                recorded.output.status
            );
            assert!(summed.events.allocations > 150_000, "{signal}: {:?}", summed.events);
            assert!(summed.notes.iter().any(|n| n.contains("killed")), "{:?}", summed.notes);
        }
        let (recorded, summed) = ended(of, &[], &format!("{WORK}ctypes.string_at(8)"));
        assert_eq!(recorded.output.status.signal(), Some(11));
        assert!(summed.events.allocations > 150_000, "{:?}", summed.events);
    }
}

#[test]
fn exit_exec_and_daemons() {
    for of in every_minor() {
        let (recorded, summed) = ended(of, &[], &format!("{WORK}os._exit(7)"));
        assert_eq!(recorded.output.status.code(), Some(7), "{}", of.name);
        assert!(summed.events.allocations > 200_000, "{}: {:?}", of.name, summed.events);
        assert!(recorded.trace().end.is_some(), "{}", of.name);

        let (recorded, summed) =
            ended(of, &[], &format!("{WORK}os.execv('/bin/echo', ['echo', 'became another'])"));
        assert_eq!(recorded.stdout(), "became another\n", "{}", of.name);
        assert!(summed.events.allocations > 200_000, "{}: {:?}", of.name, summed.events);

        let daemons = format!(
            "{WORK}def spin():\n    while True: [str(i) for i in range(1000)]\n\
             for _ in range(4): threading.Thread(target=spin, daemon=True).start()\n\
             time.sleep(0.3); print('end')"
        );
        let (recorded, summed) = ended(of, &[], &daemons);
        assert_eq!(recorded.output.status.code(), Some(0), "{}", of.name);
        assert_eq!(recorded.stdout(), "end\n", "{}", of.name);
        assert!(
            summed.events.allocations > 200_000 && recorded.trace().damage.is_empty(),
            "{}",
            of.name
        );
    }
}

#[test]
fn forks_are_left_alone_or_recorded_each() {
    let code = format!(
        "{WORK}def busy():\n    while True: bytes(100000); bytearray(3000)\n\
         for _ in range(3): threading.Thread(target=busy, daemon=True).start()\n\
         pids = []\n\
         for i in range(FORKS):\n    \
             pid = os.fork()\n    \
             if pid == 0:\n        \
                 y = [str(i) for i in range(3000)]; os._exit(i % 50)\n    \
             pids.append(pid)\n    \
             if i % 20 == 19:\n        \
                 [os.waitpid(p, 0) for p in pids]; pids = []\n\
         print('done')"
    );
    for of in two() {
        let (recorded, summed) = ended(of, &[], &code.replace("FORKS", "500"));
        assert_eq!(
            recorded.stdout(),
            "done\n",
            "{}",
            String::from_utf8_lossy(&recorded.output.stderr)
        );
        assert!(recorded.children().is_empty());
        let forks = summed
            .happenings
            .iter()
            .filter(|h| matches!(h.what, pydefrag_heap::What::Forked { .. }));
        assert_eq!(forks.count(), 500);

        let (recorded, _) = ended(of, &["--children"], &code.replace("FORKS", "40"));
        assert_eq!(
            recorded.stdout(),
            "done\n",
            "{}",
            String::from_utf8_lossy(&recorded.output.stderr)
        );
        let children = recorded.children();
        assert_eq!(children.len(), 40, "{children:?}");
        for child in children {
            let trace = Trace::open(&child).unwrap();
            assert_eq!(trace.begin.parent, Some(recorded.trace().begin.pid));
            let summed = sum(&trace, &|_, _| {});
            assert!((3000..30_000).contains(&summed.events.allocations), "{:?}", summed.events);
            assert!(trace.end.is_some() && trace.damage.is_empty());
        }
    }
}

#[test]
fn what_it_starts_is_recorded_where_that_is_asked_for() {
    let code = "import subprocess, sys\n\
                subprocess.run([sys.executable, '-c', 'y = [str(i) for i in range(5000)]'], check=True)\n\
                subprocess.run(['/bin/sh', '-c', 'true'], check=True); print('done')";
    for of in two() {
        let (recorded, _) = ended(of, &["--children"], code);
        assert_eq!(recorded.stdout(), "done\n");
        assert_eq!(recorded.children().len(), 1);
    }
}

#[test]
fn a_disk_that_is_full_ends_the_recording_and_not_the_program() {
    // A limit on the size of files stands for it: a write fails with EFBIG, once the signal is ignored, as Python does.
    let code = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (300000, 300000))\n\
                x = [str(i) for i in range(400000)]; print(len(x))";
    for of in two() {
        let (recorded, summed) = ended(of, &[], code);
        assert_eq!(recorded.stdout(), "400000\n");
        assert_eq!(recorded.output.status.code(), Some(0));
        assert!(summed.events.allocations > 10_000, "{:?}", summed.events);
        assert!(recorded.trace().damage.is_empty(), "{:?}", recorded.trace().damage);
    }
}

#[test]
fn a_program_that_closes_everything_is_recorded_on() {
    let code = "import os; os.closerange(3, 4096); f = open('/tmp', 'r') if False else os.open('/dev/null', 1)\n\
                x = [str(i) for i in range(300000)]; print(os.fstat(f).st_size, len(x))";
    for of in two() {
        let (recorded, summed) = ended(of, &[], code);
        assert_eq!(recorded.stdout(), "0 300000\n");
        assert!(summed.events.allocations > 300_000, "{:?}", summed.events);
        assert!(recorded.trace().end.is_some());
    }
}
