//! The conversation with Chromium: JSON through two pipes, each message ended by a NUL byte.
//!
//! Owns the browser's process and its folder. Knows the form of messages, not what they are about.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use std::{fs, thread};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long a command may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// Nothing of a browser that is not asked for: no services, no updates, no first steps; software alone draws.
const FLAGS: &[&str] = &[
    "--headless",
    "--remote-debugging-pipe",
    "--no-sandbox",
    "--disable-gpu",
    // Tests press in a second what a reader does in minutes.
    "--disable-ipc-flooding-protection",
    "--disable-quic",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
    "--lang=en-US",
    "--mute-audio",
];

/// A browser's process, attached to one page of it.
#[derive(Debug)]
pub(crate) struct Pipe {
    child: Child,
    stdin: Option<ChildStdin>,
    messages: Receiver<Value>,
    session: Option<String>,
    next: u64,
    /// All events, in order.
    pub(crate) heard: Vec<Value>,
    folder: TempDir,
}

impl Pipe {
    /// Starts a browser with a profile of its own.
    pub(crate) fn start(program: &Path) -> Pipe {
        let folder =
            tempfile::Builder::new().prefix("pydefrag-browser").tempdir().expect("a folder");
        let errors = fs::File::create(folder.path().join("stderr")).expect("our own folder");
        // Chromium listens on descriptor 3 and answers on 4: the shell moves our pipes there.
        let mut child = Command::new("sh")
            .args(["-c", r#"exec "$@" 3<&0 4>&1 </dev/null >/dev/null"#, "sh"])
            .arg(program)
            .args(FLAGS)
            .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
            .arg("about:blank")
            .env("TZ", "UTC")
            .env("HOME", folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .expect("there is a shell");
        let stdin = child.stdin.take();
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let (send, messages) = channel();
        thread::spawn(move || {
            let mut bytes = Vec::new();
            while stdout.read_until(0, &mut bytes).is_ok_and(|n| n > 0) {
                bytes.pop_if(|last| *last == 0);
                let Ok(message) = serde_json::from_slice(&bytes) else { return };
                if send.send(message).is_err() {
                    return;
                }
                bytes.clear();
            }
        });
        let mut pipe =
            Pipe { child, stdin, messages, session: None, next: 0, heard: Vec::new(), folder };
        let page = pipe.call("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": page["targetId"], "flatten": true});
        let session = pipe.call("Target.attachToTarget", attach);
        pipe.session = session["sessionId"].as_str().map(str::to_owned);
        assert!(pipe.session.is_some(), "no session: {session}");
        pipe
    }

    /// Sends a command and waits for its result. Panics where the browser refuses it.
    pub(crate) fn call(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let mut message = json!({"id": self.next, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        let written = self.stdin.as_mut().expect("open until the end").write_all(&bytes);
        if let Err(error) = written {
            self.fail(&format!("cannot be told {method}: {error}"));
        }
        let end = Instant::now() + PATIENCE;
        loop {
            let message = self.next_message(method, end);
            if message["id"] != json!(self.next) {
                self.keep(message);
                continue;
            }
            if let Some(error) = message.get("error") {
                panic!("{method}: {}", error["message"]);
            }
            return message["result"].clone();
        }
    }

    /// Waits for an event, unless it was heard already.
    pub(crate) fn hear(&mut self, event: &str, patience: Duration) {
        let end = Instant::now() + patience;
        while !self.heard.iter().any(|m| m["method"] == event) {
            let message = self.next_message(event, end);
            self.keep(message);
        }
    }

    /// Takes in what has come so far.
    pub(crate) fn listen(&mut self) {
        while let Ok(message) = self.messages.try_recv() {
            self.keep(message);
        }
    }

    fn keep(&mut self, message: Value) {
        if message["method"] == "Page.javascriptDialogOpening" {
            // Else the page stands still until somebody answers.
            self.next += 1;
            let mut close = json!({"id": self.next, "method": "Page.handleJavaScriptDialog"});
            close["params"] = json!({"accept": false});
            close["sessionId"] = json!(self.session);
            let bytes = format!("{close}\0");
            let _ = self.stdin.as_mut().expect("open until the end").write_all(bytes.as_bytes());
        }
        if message.get("method").is_some() {
            self.heard.push(message);
        }
    }

    fn next_message(&mut self, waits_for: &str, end: Instant) -> Value {
        match self.messages.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(message) => message,
            Err(RecvTimeoutError::Timeout) => self.fail(&format!("has no answer to {waits_for}")),
            Err(RecvTimeoutError::Disconnected) => self.fail("ended"),
        }
    }

    fn fail(&self, how: &str) -> ! {
        let said = fs::read_to_string(self.folder.path().join("stderr")).unwrap_or_default();
        panic!("the browser {how}; its stderr:\n{said}")
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // A browser whose pipe is closed ends, and all its helpers with it.
        self.stdin = None;
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(5) {
            match self.child.try_wait() {
                Ok(None) => thread::sleep(Duration::from_millis(5)),
                _ => return,
            }
        }
        // Both fail only where it has ended meanwhile.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Bytes that came as base64.
pub(crate) fn bytes(text: &Value) -> Vec<u8> {
    let text = text.as_str().unwrap_or_else(|| panic!("{text} is no base64"));
    STANDARD.decode(text).expect("base64")
}
