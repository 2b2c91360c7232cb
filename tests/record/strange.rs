//! What cannot be recorded is told by name, and a file that is no trace is refused.

use super::*;

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_folder_that_cannot_be_written_to_is_told_before_anything_starts() {
    let of = two()[0];
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none");
    let output = recording(of, &missing, &[], &["-c", "print('ran')"]).output().unwrap();
    assert!(!output.status.success() && output.stdout.is_empty(), "{}", said(&output));
    assert!(said(&output).contains("could not be written"), "{}", said(&output));
}

#[test]
fn an_unfinished_recording_is_not_overwritten() {
    let of = two()[0];
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("t.pdtrace.part"), b"precious").unwrap();
    let output = recording(of, folder.path(), &[], &["-c", "print('ran')"]).output().unwrap();
    assert!(!output.status.success() && output.stdout.is_empty());
    assert!(said(&output).contains("pydefrag report"), "{}", said(&output));
    assert_eq!(std::fs::read(folder.path().join("t.pdtrace.part")).unwrap(), b"precious");
}

#[test]
fn a_program_without_python_says_why_nothing_was_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_pydefrag"));
    let file = folder.path().join("t.pdtrace");
    let output =
        command.arg("record").arg("-o").arg(&file).args(["--", "echo", "hi"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hi\n");
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("nothing was recorded"), "{}", said(&output));
    assert!(!file.exists());
}

#[test]
fn a_python_that_is_not_supported_is_named() {
    for of in Interpreters::load().unsupported() {
        let recorded = recorded(of, &["--no-report"], &["-c", "print('ran')"]);
        assert_eq!(recorded.stdout(), "ran\n", "{}", of.name);
        if of.name.starts_with('2') && !recorded.file().exists() {
            continue;
        }
        let why = recorded.trace().end.and_then(|end| end.why).unwrap_or_default();
        assert!(why.contains("is not one of 3.8 to 3.15"), "{}: {why}", of.name);
    }
}

#[test]
fn a_file_that_is_no_trace_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let of = two()[0];
    let recorded = recorded(of, &["--no-report"], &["-c", "pass"]);
    let whole = std::fs::read(recorded.file()).unwrap();
    let mut newer = whole.clone();
    newer[8] = 99;
    let file = folder.path().join("x.pdtrace");
    let report = |bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        Command::new(env!("CARGO_BIN_EXE_pydefrag")).arg("report").arg(&file).output().unwrap()
    };
    let out = report(&newer);
    assert!(!out.status.success() && said(&out).contains("newer pydefrag"), "{}", said(&out));
    let out = report(&whole[..20]);
    assert!(!out.status.success() && said(&out).contains("damaged"), "{}", said(&out));
    let out = report(&whole[..whole.len() - 10]);
    assert!(out.status.success(), "{}", said(&out));
    assert!(String::from_utf8_lossy(&out.stdout).contains("cut"), "what is missing is told");
}
