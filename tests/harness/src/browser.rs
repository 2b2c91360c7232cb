//! A real browser with one page: what stands on it, hands on its mouse and keyboard, and what it complains of.
//!
//! Owns the page and how a person's acts reach it. Chromium is driven by its DevTools protocol (`pipe`): no driver
//! and no port. Does not own where Chromium comes from: `PYDEFRAG_CHROMIUM`, else `chromium` on `PATH`.
//!
//! Invariant: every console message, exception, violation of a policy and request is kept from before the first
//! navigation on, so that a test can say that there was none.

mod keys;
mod pdf;
mod pipe;

use std::env;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::interpreters::in_ci;
pub use pdf::text_of;
use pipe::Pipe;

/// How long a page may take over anything, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// The window that a page is seen in.
#[derive(Debug, Clone, Copy)]
pub struct View {
    /// CSS pixels.
    pub width: u32,
    /// CSS pixels.
    pub height: u32,
    /// Device pixels per CSS pixel.
    pub scale: f64,
    /// The reader prefers dark colours.
    pub dark: bool,
}

impl View {
    /// A light window of that width, one device pixel per CSS pixel.
    pub fn wide(width: u32) -> View {
        View { width, height: 900, scale: 1.0, dark: false }
    }

    /// The same, dark.
    pub fn dark(self) -> View {
        View { dark: true, ..self }
    }
}

/// A browser with one page. It ends when this is dropped.
#[derive(Debug)]
pub struct Page {
    pipe: Pipe,
    mouse: (f64, f64),
}

/// The browser's program; `None` where there is none. Panics there where `CI=true`; elsewhere says so on stderr.
pub fn chromium() -> Option<PathBuf> {
    let named = env::var_os("PYDEFRAG_CHROMIUM").map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    let found = named.or_else(|| {
        env::split_paths(&path).map(|folder| folder.join("chromium")).find(|file| file.is_file())
    });
    if found.is_none() {
        assert!(!in_ci(), "CI lacks chromium");
        eprintln!(
            "not run: chromium is lacking (Debian's package `chromium`, or PYDEFRAG_CHROMIUM)"
        );
    }
    found
}

impl Page {
    /// Opens a file in a browser of its own and waits until it is loaded. `None` as [`chromium`].
    pub fn open(file: &Path, view: View) -> Option<Page> {
        let mut page = Page::blank(view)?;
        page.go(&address(file));
        Some(page)
    }

    /// A browser that shows nothing yet.
    pub fn blank(view: View) -> Option<Page> {
        let mut pipe = Pipe::start(&chromium()?);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            pipe.call(&format!("{domain}.enable"), json!({}));
        }
        pipe.call("Emulation.setTimezoneOverride", json!({"timezoneId": "UTC"}));
        let mut page = Page { pipe, mouse: (0.0, 0.0) };
        page.resize(view);
        Some(page)
    }

    /// Goes to an address and waits until it is loaded; what was heard of the page before is forgotten.
    pub fn go(&mut self, address: &str) {
        self.pipe.heard.clear();
        let answer = self.pipe.call("Page.navigate", json!({"url": address}));
        assert_eq!(answer.get("errorText"), None, "{address}");
        // Where only the part behind # is another, nothing is loaded.
        if answer.get("loaderId").is_some() {
            self.pipe.hear("Page.loadEventFired", PATIENCE);
        }
    }

    /// Runs a script before those of every page that is loaded from now on, whatever their policy is.
    pub fn before_each(&mut self, script: &str) {
        self.pipe.call("Page.addScriptToEvaluateOnNewDocument", json!({"source": script}));
    }

    /// Loads the page again.
    pub fn reload(&mut self) {
        self.pipe.heard.clear();
        self.pipe.call("Page.reload", json!({}));
        self.pipe.hear("Page.loadEventFired", PATIENCE);
    }

    /// Changes the window and the reader's preference.
    pub fn resize(&mut self, view: View) {
        self.pipe.call(
            "Emulation.setDeviceMetricsOverride",
            json!({"width": view.width, "height": view.height, "deviceScaleFactor": view.scale, "mobile": false}),
        );
        let scheme = if view.dark { "dark" } else { "light" };
        self.pipe.call(
            "Emulation.setEmulatedMedia",
            json!({"media": "", "features": [{"name": "prefers-color-scheme", "value": scheme}]}),
        );
    }

    /// Shows the page as it is printed, or on a screen again.
    pub fn as_printed(&mut self, printed: bool) {
        let media = if printed { "print" } else { "" };
        self.pipe.call("Emulation.setEmulatedMedia", json!({"media": media, "features": []}));
    }

    /// What an expression comes to, awaited where it is a promise. Panics where it throws.
    pub fn eval(&mut self, expression: &str) -> Value {
        let answer = self.pipe.call(
            "Runtime.evaluate",
            json!({"expression": expression, "awaitPromise": true, "returnByValue": true, "userGesture": false}),
        );
        if let Some(thrown) = answer.get("exceptionDetails") {
            panic!("{expression}\nthrows {}", thrown["exception"]["description"]);
        }
        answer["result"].get("value").cloned().unwrap_or(Value::Null)
    }

    /// The same, as a text.
    pub fn text(&mut self, expression: &str) -> String {
        let value = self.eval(expression);
        value.as_str().unwrap_or_else(|| panic!("{expression} is {value}, not a text")).to_owned()
    }

    /// The same, as a number.
    pub fn number(&mut self, expression: &str) -> f64 {
        let value = self.eval(expression);
        value.as_f64().unwrap_or_else(|| panic!("{expression} is {value}, not a number"))
    }

    /// The same, as a truth.
    pub fn holds(&mut self, expression: &str) -> bool {
        let value = self.eval(expression);
        value.as_bool().unwrap_or_else(|| panic!("{expression} is {value}, not true or false"))
    }

    /// Waits until an expression is true. Panics, with what was heard of the page, where it does not come.
    pub fn wait(&mut self, expression: &str) {
        let start = Instant::now();
        while !self.holds(&format!("!!({expression})")) {
            if start.elapsed() > PATIENCE {
                panic!("{expression} does not come; {:#?}", self.complaints());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the page has drawn what it was last told.
    pub fn settle(&mut self) {
        self.eval(
            "new Promise(r => requestAnimationFrame(() => requestAnimationFrame(() => r(0))))",
        );
    }

    /// Moves the mouse to a point of the window.
    pub fn move_to(&mut self, x: f64, y: f64) {
        self.mouse_event("mouseMoved", x, y, "none", json!({}));
        self.mouse = (x, y);
    }

    /// Moves there and clicks.
    pub fn click(&mut self, x: f64, y: f64) {
        self.move_to(x, y);
        for kind in ["mousePressed", "mouseReleased"] {
            self.mouse_event(kind, x, y, "left", json!({"clickCount": 1}));
        }
        self.settle();
    }

    /// Clicks in the middle of the first element that a selector finds, scrolled into sight.
    pub fn click_on(&mut self, selector: &str) {
        let (x, y) = self.middle(selector);
        self.click(x, y);
    }

    /// The middle of that element, in the window.
    pub fn middle(&mut self, selector: &str) -> (f64, f64) {
        let quoted = json!(selector);
        let at = self.eval(&format!(
            "(() => {{ const e = document.querySelector({quoted}); if (!e) return null;
               e.scrollIntoView({{ block: 'center', behavior: 'instant' }});
               const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; }})()"
        ));
        let number = |i: usize| at[i].as_f64().unwrap_or_else(|| panic!("there is no {selector}"));
        (number(0), number(1))
    }

    /// Drags from where the mouse is.
    pub fn drag_to(&mut self, x: f64, y: f64) {
        let (from_x, from_y) = self.mouse;
        self.mouse_event("mousePressed", from_x, from_y, "left", json!({"clickCount": 1}));
        for step in 1..=4 {
            let part = f64::from(step) / 4.0;
            let (at_x, at_y) = (from_x + (x - from_x) * part, from_y + (y - from_y) * part);
            self.mouse_event("mouseMoved", at_x, at_y, "left", json!({"buttons": 1}));
        }
        self.mouse_event("mouseReleased", x, y, "left", json!({"clickCount": 1}));
        self.mouse = (x, y);
    }

    /// Turns the wheel where the mouse is; up is negative. `held` are modifiers, as in `Control`.
    pub fn wheel(&mut self, turned: f64, held: &str) {
        let (x, y) = self.mouse;
        let more = json!({"deltaX": 0, "deltaY": turned, "modifiers": keys::modifiers(held)});
        self.mouse_event("mouseWheel", x, y, "none", more);
    }

    fn mouse_event(&mut self, kind: &str, x: f64, y: f64, button: &str, more: Value) {
        let mut event = json!({"type": kind, "x": x, "y": y, "button": button});
        let fields = event.as_object_mut().expect("an object");
        fields.extend(more.as_object().cloned().unwrap_or_default());
        self.pipe.call("Input.dispatchMouseEvent", event);
    }

    /// Presses a key and lets it go: `Tab`, `Shift+Tab`, `Enter`, `Escape`, `ArrowLeft`, `a`, `+`.
    pub fn press(&mut self, key: &str) {
        for event in keys::stroke(key) {
            self.pipe.call("Input.dispatchKeyEvent", event);
        }
        self.settle();
    }

    /// Types a text, key by key.
    pub fn type_text(&mut self, text: &str) {
        for key in text.chars() {
            self.press(&key.to_string());
        }
    }

    /// A picture of the window, as a PNG.
    pub fn picture(&mut self) -> Vec<u8> {
        self.settle();
        let answer = self.pipe.call("Page.captureScreenshot", json!({"format": "png"}));
        pipe::bytes(&answer["data"])
    }

    /// A picture of a part of the page, as a PNG: x, y, width and height in CSS pixels from the page's top.
    pub fn picture_of(&mut self, [x, y, width, height]: [f64; 4]) -> Vec<u8> {
        self.settle();
        let clip = json!({"x": x, "y": y, "width": width, "height": height, "scale": 1});
        let how = json!({"format": "png", "clip": clip, "captureBeyondViewport": true});
        let answer = self.pipe.call("Page.captureScreenshot", how);
        pipe::bytes(&answer["data"])
    }

    /// The page as a PDF, on A4 paper.
    pub fn pdf(&mut self) -> Vec<u8> {
        let paper = json!({"paperWidth": 8.27, "paperHeight": 11.69, "printBackground": true});
        pipe::bytes(&self.pipe.call("Page.printToPDF", paper)["data"])
    }

    /// All that the page complained of: errors and warnings on its console, exceptions, what a policy forbade.
    pub fn complaints(&mut self) -> Vec<String> {
        self.pipe.listen();
        self.pipe.heard.iter().filter_map(complaint).collect()
    }

    /// The addresses of all that the page asked for, itself included; what stands in the page (`data:`, `blob:`)
    /// is no request.
    pub fn requests(&mut self) -> Vec<String> {
        self.pipe.listen();
        let sent = self.pipe.heard.iter().filter(|m| m["method"] == "Network.requestWillBeSent");
        let addresses = sent.filter_map(|m| m["params"]["request"]["url"].as_str());
        addresses
            .filter(|a| !a.starts_with("data:") && !a.starts_with("blob:"))
            .map(str::to_owned)
            .collect()
    }
}

/// A file's address.
pub fn address(file: &Path) -> String {
    let file = file.canonicalize().unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let path = file.to_str().unwrap_or_else(|| panic!("{} is not UTF-8", file.display()));
    assert!(!path.contains(['%', '?', '#', ' ']), "{path} needs escapes");
    format!("file://{path}")
}

/// What a message complains of, if it does.
fn complaint(message: &Value) -> Option<String> {
    let of = &message["params"];
    match message["method"].as_str()? {
        "Runtime.consoleAPICalled" if of["type"] == "error" || of["type"] == "warning" => {
            Some(format!("console: {}", of["args"]))
        }
        "Runtime.exceptionThrown" => Some(format!(
            "exception: {} {}",
            of["exceptionDetails"]["text"], of["exceptionDetails"]["exception"]["description"]
        )),
        "Log.entryAdded" => Some(format!("log: {}", of["entry"]["text"])),
        "Page.javascriptDialogOpening" => Some(format!("dialog: {}", of["message"])),
        "Inspector.targetCrashed" => Some("the page crashed".into()),
        _ => None,
    }
}
