//! What is in a trace beside allocations, each against a source of its own; and what sampling makes of a program.

use pydefrag_heap::{Recording, What};
use pydefrag_trace::sum;

use super::*;

fn summed(recorded: &Recorded) -> Recording {
    let said = String::from_utf8_lossy(&recorded.output.stderr).into_owned();
    assert!(recorded.output.status.success(), "{said}");
    sum(&recorded.trace(), &|_, _| {})
}

/// The agent as an extension module, as `import pydefrag` loads it.
fn module() -> String {
    let tool = Path::new(env!("CARGO_BIN_EXE_pydefrag"));
    tool.with_file_name("deps/libpydefrag_agent.so").display().to_string()
}

#[test]
fn marks_collections_arenas_threads_and_mappings() {
    let code = format!(
        "import gc, json, mmap, os, sys, threading, importlib.machinery, importlib.util\n\
         loader = importlib.machinery.ExtensionFileLoader('_agent', {:?})\n\
         agent = importlib.util.module_from_spec(importlib.util.spec_from_loader('_agent', loader))\n\
         loader.exec_module(agent)\n\
         mark = lambda text: agent.call(json.dumps({{'do': 'mark', 'text': text}}))\n\
         assert mark('first phase') == '{{\"done\":true}}', mark('x')\n\
         gc.collect(1); gc.collect()\n\
         before = [s['collections'] for s in gc.get_stats()]\n\
         x = [[i] for i in range(300000)]\n\
         class A: pass\n\
         for i in range(100):\n    a = A(); a.me = a\n\
         del a\n\
         mark('collect')\n\
         n = gc.collect()\n\
         mark('collected %d' % n)\n\
         t = threading.Thread(target=lambda: [str(i) for i in range(9000)]); t.start(); t.join()\n\
         m = mmap.mmap(-1, 7 << 20); m.close()\n\
         del x\n\
         mark('last phase')\n\
         print(os.getpid(), sys.implementation.cache_tag)",
        module()
    );
    for of in every_minor().into_iter().filter(|of| of.minor >= 10) {
        let recorded = recorded(of, &["--no-report"], &["-c", &code]);
        let recording = summed(&recorded);
        let what: Vec<&What> = recording.happenings.iter().map(|h| &h.what).collect();
        let marks: Vec<&str> = what
            .iter()
            .filter_map(|w| if let What::Mark { text } = w { Some(text.as_str()) } else { None })
            .collect();
        assert_eq!(
            (marks[0], marks[1], marks[3]),
            ("first phase", "collect", "last phase"),
            "{}",
            of.name
        );
        let position = |text: &str| {
            what.iter().position(|w| matches!(w, What::Mark { text: t } if t == text)).unwrap()
        };
        // Between the two marks one full collection, which freed as many as `gc.collect()` said.
        let found: u64 = marks[2].strip_prefix("collected ").unwrap().parse().unwrap();
        let stops: Vec<u64> = what[position("collect")..position(marks[2])]
            .iter()
            .filter_map(|w| match w {
                What::GcStop { generation: 2, collected, .. } => Some(*collected),
                _ => None,
            })
            .collect();
        assert_eq!(stops, [found], "{}", of.name);
        let born = what.iter().filter(|w| matches!(w, What::ArenaBorn { .. })).count();
        let died = what.iter().filter(|w| matches!(w, What::ArenaDied { .. })).count();
        assert!(born > 10 && died > 5 && died <= born, "{}: {born} {died}", of.name);
        let mapped =
            what.iter().any(|w| matches!(w, What::Mapped { bytes, .. } if *bytes == 7 << 20));
        let unmapped =
            what.iter().any(|w| matches!(w, What::Unmapped { bytes, .. } if *bytes == 7 << 20));
        assert!(mapped && unmapped, "{}", of.name);
        let second = recording.threads.iter().filter(|t| t.allocated.count >= 9000).count();
        assert!(second >= 2, "{}: {:?}", of.name, recording.threads);
        assert_eq!(recording.process.pid.to_string(), recorded.stdout().split(' ').next().unwrap());
        assert!(recording.timeline.iter().any(|m| m.rss.is_some_and(|rss| rss > 20 << 20)));
        assert!(
            recording.peak.rss > Some(20 << 20)
                && recording.retained.bytes < recording.peak.live.bytes / 2
        );
    }
}

#[test]
fn a_sample_estimates_the_whole() {
    estimates("");
}

/// Hooks of another tool lie over the recorder's, which looks at each mapping whether its own are still there.
#[test]
fn a_sample_estimates_the_whole_below_tracemalloc() {
    let map = "[mmap.mmap(-1, 4096) for i in range(20)]";
    estimates(&format!("import mmap, tracemalloc; tracemalloc.start(); {map}\n"));
}

fn estimates(first: &str) {
    let every = 16 << 10;
    for of in two() {
        let code = format!(
            "{first}x = [str(i) * (i % 20) for i in range(200000)]\n\
                    y = [bytes(i % 4000) for i in range(60000)]\ndel y[::2]\n\
                    z = [[j for j in range(i % 200)] for i in range(20000)]\nimport os\nprint(len(x))"
        );
        let full = summed(&recorded(of, &["--no-report"], &["-c", &code]));
        let (mut off, mut peaks) = (Vec::new(), Vec::new());
        for _ in 0..8 {
            let sample = format!("--sample={every}B");
            let sampled = summed(&recorded(of, &["--no-report", &sample], &["-c", &code]));
            let error = sampled.error.expect("an error is told");
            let difference = |a: u64, b: u64| a as f64 - b as f64;
            off.push(
                difference(sampled.allocated.bytes, full.allocated.bytes) / error.allocated as f64,
            );
            peaks.push(
                difference(sampled.peak.live.bytes, full.peak.live.bytes) / error.peak as f64,
            );
            let least = full.allocated.bytes / every / 2;
            assert!(sampled.events.allocations > least, "{:?}", sampled.events);
            assert!(
                sampled.events.allocations < full.events.allocations / 4,
                "{:?}",
                sampled.events
            );
        }
        // Standard errors from the truth: one of them beyond 4 is a chance of 1 in 16,000; the mean of eight beyond 1.4 as well.
        // A peak is the highest of many estimates, and so a little too high.
        for (name, off, most) in [("allocated", &off, 1.4), ("peak", &peaks, 2.5)] {
            let mean = off.iter().sum::<f64>() / off.len() as f64;
            assert!(
                mean.abs() < most && off.iter().all(|o| o.abs() < 5.0),
                "{} {name}: {off:?}",
                of.name
            );
        }
    }
}

#[test]
fn the_report_and_every_export_say_the_same() {
    let of = two()[1];
    let recorded = recorded(of, &["--no-report"], &["recorded.py"]);
    let recording = summed(&recorded);
    let file = recorded.file();
    let tool = |args: &[&str]| {
        let out = Command::new(env!("CARGO_BIN_EXE_pydefrag"))
            .arg("report")
            .arg(&file)
            .args(args)
            .output();
        let out = out.unwrap();
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        out.stdout
    };
    let json: serde_json::Value = serde_json::from_slice(&tool(&["--json"])).unwrap();
    assert_eq!(json["peak"]["live"]["bytes"], recording.peak.live.bytes);
    assert_eq!(json["subtrees"][0]["allocated"]["count"], recording.allocated.count);
    let text = String::from_utf8(tool(&[])).unwrap();
    assert!(text.contains("recorded.py:") && text.lines().count() < 80, "{text}");
    for format in ["pprof", "speedscope", "firefox", "folded"] {
        let to = recorded.folder.path().join(format);
        tool(&["--format", format, "-o", to.to_str().unwrap()]);
        let bytes = std::fs::read(&to).unwrap();
        match format {
            "folded" => {
                let text = String::from_utf8(bytes).unwrap();
                let sum: u64 = text
                    .lines()
                    .map(|l| l.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
                    .sum();
                assert_eq!(sum, recording.peak.live.bytes);
            }
            "speedscope" => {
                let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
                let sums: Vec<u64> = json["profiles"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|p| {
                        p["weights"].as_array().unwrap().iter().map(|w| w.as_u64().unwrap()).sum()
                    })
                    .collect();
                assert!(sums.contains(&recording.allocated.bytes), "{sums:?}");
                assert!(sums.contains(&recording.retained.bytes), "{sums:?}");
            }
            "pprof" => assert!(bytes.starts_with(&[0x1f, 0x8b]) && bytes.len() > 1000),
            _ => assert!(serde_json::from_slice::<serde_json::Value>(&bytes).is_ok()),
        }
    }
    let page = recorded.folder.path().join("page.html");
    tool(&["--html", page.to_str().unwrap()]);
    assert!(std::fs::read_to_string(page).unwrap().contains("Content-Security-Policy"));
}

/// Each mark is written at once, also one that has filled the buffer: no chunk of nothing is counted.
#[test]
fn a_mark_may_fill_a_buffer() {
    let code = "import ctypes\nmark = ctypes.PyDLL(None).pydefrag_mark\n\
                for i in range(500):\n    [str(k) for k in range(i * 7919 % 12000)]\n    mark(b'm' * 1000, 1000)";
    for of in two() {
        let trace = recorded(of, &["--no-report"], &["-c", code]).trace();
        let marks = events(&trace).iter().filter(|(_, e)| matches!(e, Event::Mark(_))).count();
        assert_eq!(marks, 500, "{}", of.name);
    }
}
