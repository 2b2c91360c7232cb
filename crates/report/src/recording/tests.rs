use unicode_width::UnicodeWidthStr;

use super::*;
use crate::sample;

const PLAIN: Style = Style { color: false, unicode: true };
const COLOR: Style = Style { color: true, unicode: true };
const ASCII: Style = Style { color: false, unicode: false };

#[test]
fn texts() {
    for (name, recording) in sample::recordings() {
        insta::assert_snapshot!(format!("recording-{name}"), render(&recording, PLAIN));
    }
    insta::assert_snapshot!("recording-ascii", render(&sample::sampled_recording(), ASCII));
}

#[test]
fn every_report_keeps_to_its_lines_and_columns() {
    let large = [("deep", sample::deep_recording()), ("wide", sample::wide_recording())];
    for (name, recording) in sample::recordings().into_iter().chain(large) {
        for style in [PLAIN, COLOR, ASCII] {
            let text = render(&recording, style);
            assert!(text.lines().count() <= MOST_LINES, "{name}\n{text}");
            assert!(text.ends_with('\n') && !text.ends_with("\n\n"), "{name}");
            if style.color {
                continue;
            }
            for line in text.lines() {
                assert!(line.width() <= WIDTH, "{name}: {line:?}");
                assert!(!line.contains(char::is_control), "{name}: {line:?}");
                assert_eq!(line, line.trim_end(), "{name}");
            }
        }
        assert!(render(&recording, ASCII).is_ascii(), "{name}");
    }
}

#[test]
fn estimates_say_so() {
    let exact = render(&sample::recording(), PLAIN);
    let sampled = render(&sample::sampled_recording(), PLAIN);
    assert!(!exact.contains('±') && !exact.contains("estimates"));
    assert!(sampled.contains("± 11.0 MiB") && sampled.contains("estimates"), "{sampled}");
    assert!(sampled.contains("sampled once in 512.0 KiB"), "{sampled}");
}

#[test]
fn the_json_is_the_recording_with_its_subtrees() {
    for (name, recording) in sample::recordings() {
        let json = render_json(&recording);
        assert!(json.ends_with("}\n"), "{name}");
        let back: Recording = serde_json::from_str(&json).expect(name);
        assert_eq!(back, recording, "{name}");
        let value: serde_json::Value = serde_json::from_str(&json).expect(name);
        let subtrees: Vec<Tally> = serde_json::from_value(value["subtrees"].clone()).expect(name);
        assert_eq!(subtrees, recording.subtrees(), "{name}");
    }
    insta::assert_snapshot!("recording-json", render_json(&sample::sampled_recording()));
}

#[test]
fn the_json_of_many_calls_has_a_line_for_each() {
    let recording = sample::wide_recording();
    let json = render_json(&recording);
    let rest = recording.functions.len() + recording.timeline.len() + 100;
    assert!(json.lines().count() <= 2 * recording.calls.len() + rest);
    assert!(json.len() < 500 * recording.calls.len());
}
