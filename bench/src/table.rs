//! The table of results and the page that it becomes.

use std::fmt::Write as _;
use std::time::Duration;

/// One measurement and the limit it has to keep.
struct Row {
    what: String,
    value: f64,
    limit: Option<f64>,
    beside: String,
}

/// All measurements of a run.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// Adds a measurement; `beside` says what it is made of.
    pub(crate) fn add(&mut self, what: &str, value: f64, limit: Option<f64>, beside: String) {
        let most = limit.map_or(String::new(), |limit| format!(" (at most {limit:.2})"));
        let made_of = if beside.is_empty() { String::new() } else { format!(": {beside}") };
        eprintln!("{what}: {value:.2}{most}{made_of}");
        self.rows.push(Row { what: what.into(), value, limit, beside });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Fails where a measurement misses its limit.
    pub(crate) fn judge(&self) -> anyhow::Result<()> {
        let missed = self.rows.iter().filter(|r| r.limit.is_some_and(|l| r.value > l)).count();
        anyhow::ensure!(missed == 0, "{missed} of the limits are missed");
        Ok(())
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = String::from("| what | measured | limit | made of |\n|---|---|---|---|\n");
        for r in &self.rows {
            let limit = r.limit.map_or("-".into(), |l| format!("{l:.2}"));
            let _ = writeln!(text, "| {} | {:.2} | {limit} | {} |", r.what, r.value, r.beside);
        }
        text
    }

    pub(crate) fn page(&self) -> String {
        format!(
            "# Benchmarks\n\n\
             Made by `cargo run --release -p pydefrag-bench -- --write`. Ratios of two things measured in\n\
             turn in one run; medians. See `bench/src` for what exactly is measured.\n\n\
             {}\n\n{}",
            machine(),
            self.markdown()
        )
    }
}

/// Date, processor, cores, memory and kernel.
pub(crate) fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|l| l.starts_with(name)).unwrap_or_default().to_owned();
        line.split_once(':').map(|(_, v)| v.trim().to_owned()).unwrap_or_default()
    };
    let cpu = field(&read("/proc/cpuinfo"), "model name");
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let kernel = read("/proc/sys/kernel/osrelease");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let date = std::process::Command::new("date").args(["-u", "+%Y-%m-%d"]).output();
    let date = date.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
    format!(
        "{}; {cpu}, {cores} cores, {memory}, Linux {}.",
        date.unwrap_or_default(),
        kernel.trim()
    )
}

/// The median of some durations.
pub(crate) fn median(mut of: Vec<Duration>) -> Duration {
    of.sort_unstable();
    of[of.len() / 2]
}
