//! `.pdsnap` files that cannot be read, are damaged or are newer, and places where none can be
//! written: one sentence each, and under the file's name never half of it.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::{
    LIMIT, Stranger, is_root, open_folder, python, python_says, refused, run, signal, within,
};
use crate::support::{pydefrag, text};

const TAKES_ONE: &str = "pydefrag snapshot PID -o FILE.pdsnap   (takes one)";

/// A program whose snapshot takes more than a few KiB.
fn target() -> Stranger {
    let many = "kept = [bytes(i * 37 % 500) for i in range(300000)][::7]\nready()";
    Stranger::ready(&mut python_says(python(), many))
}

/// A whole snapshot's bytes and what `report` prints of it.
fn kept(folder: &Path) -> (Vec<u8>, String) {
    let target = target();
    let file = folder.join("whole.pdsnap").display().to_string();
    let out = run(&["snapshot", &target.pid().to_string(), "-o", &file]);
    let (taken, stderr) = text(&out);
    assert_eq!(out.status.code(), Some(0), "{stderr}");
    assert_eq!(stderr, format!("kept in {file}\n"));
    let (report, stderr) = text(&run(&["report", &file]));
    assert_eq!((report.as_str(), stderr.as_str()), (taken.as_str(), ""));
    (fs::read(file).expect("the file"), report)
}

#[test]
fn damaged_files_are_told_by_what_is_wrong() {
    let folder = open_folder();
    let (whole, report) = kept(folder.path());
    // A chunk's head: tag, stored length, plain length, checksum.
    let stored = u32::from_le_bytes(whole[16..20].try_into().expect("4 bytes")) as usize;
    let first_end = 12 + 16 + stored;
    assert!(whole.len() > first_end + 1000, "the pools are in a chunk of their own");
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        bytes
    };
    let newer = [&whole[..8], &[9, 0, 0, 0], &whole[12..]].concat();
    let no_magic = "this is not a .pdsnap file: it does not begin with its magic bytes";
    let damaged = "the file is damaged before its first chunk is whole: ";
    let ends = format!("{damaged}the file ends within chunk 0");
    let file = folder.path().join("bad.pdsnap");
    let path = file.display().to_string();
    for (bytes, said) in [
        (vec![], no_magic.to_owned()),
        (whole[..5].to_vec(), no_magic.to_owned()),
        (b"PK\x03\x04 and so on, but no snapshot".to_vec(), no_magic.to_owned()),
        (flipped(3), no_magic.to_owned()),
        (whole[..10].to_vec(), format!("{damaged}it ends in the version")),
        (whole[..20].to_vec(), ends.clone()),
        (whole[..first_end - 1].to_vec(), ends),
        (flipped(first_end / 2), format!("{damaged}chunk 0 does not match its checksum")),
    ] {
        fs::write(&file, bytes).expect("our own folder");
        let (sentence, hint) = refused(&run(&["report", &path]));
        assert_eq!((sentence, hint.as_str()), (format!("{path}: {said}"), TAKES_ONE));
    }
    fs::write(&file, newer).expect("our own folder");
    let (sentence, hint) = refused(&run(&["report", &path]));
    let said = "the file has format version 9, written by a newer pydefrag; this one reads up to 3";
    assert_eq!(sentence, format!("{path}: {said}"));
    assert_eq!(hint, "update pydefrag, or take the snapshot again with this one");
    for (bytes, said) in [
        (whole[..first_end].to_vec(), "the file ends within chunk 1"),
        (whole[..whole.len() - 1].to_vec(), "the file ends within chunk 7"),
        (whole[..first_end + 100].to_vec(), "the file ends within chunk 1"),
        (flipped(first_end + 500), "chunk 1 does not match its checksum"),
    ] {
        fs::write(&file, bytes).expect("our own folder");
        let out = run(&["report", &path]);
        let (stdout, stderr) = text(&out);
        assert_eq!(out.status.code(), Some(0), "{stderr}");
        assert_eq!(stdout, report, "the account is in the first chunk");
        let but = "the account is whole, pool details are not";
        assert_eq!(stderr, format!("pydefrag: {path} is damaged: {said}; {but}\n"));
    }
}

#[test]
fn what_is_no_file_is_said() {
    let folder = open_folder();
    let missing = folder.path().join("missing.pdsnap").display().to_string();
    let (sentence, hint) = refused(&run(&["report", &missing]));
    let said = "could not be read: No such file or directory (os error 2)";
    assert_eq!((sentence, hint.as_str()), (format!("{missing} {said}"), TAKES_ONE));
    let path = folder.path().display().to_string();
    let (sentence, _) = refused(&run(&["report", &path]));
    assert_eq!(sentence, format!("{path} could not be read: Is a directory (os error 21)"));
    // A file without an end.
    let (sentence, _) = refused(&run(&["report", "/dev/zero"]));
    assert!(sentence.starts_with("/dev/zero: this is not a .pdsnap file"), "{sentence}");
}

#[test]
fn a_full_disk_leaves_what_was_there() {
    if !is_root() {
        return;
    }
    let (folder, target) = (open_folder(), target());
    // In a mount namespace of its own: the disk goes away with the shell.
    let script = r#"
        mount -t tmpfs -o size=16k none "$1" && cd "$1" && printf old > kept.pdsnap || exit 99
        "$2" snapshot "$3" -o kept.pdsnap; echo "kept: $?"
        "$2" snapshot "$3" -o "$1/new.pdsnap"; echo "new: $?"
        "$2" snapshot "$3" --html page.html > /dev/null; echo "page: $?"
        ls -A; cat kept.pdsnap
    "#;
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script, "sh"]).arg(folder.path());
    command.arg(env!("CARGO_BIN_EXE_pydefrag")).arg(target.pid().to_string());
    let (stdout, stderr) = text(&within(command, LIMIT));
    assert_eq!(stdout, "kept: 1\nnew: 1\npage: 1\nkept.pdsnap\nold", "{stderr}");
    let full = "could not be written: No space left on device (os error 28)";
    let new = folder.path().join("new.pdsnap");
    let lines: Vec<_> = stderr.lines().collect();
    assert_eq!(lines[0], format!("pydefrag: kept.pdsnap {full}"));
    assert_eq!(lines[2], format!("pydefrag: {} {full}", new.display()));
    assert_eq!(lines[4], format!("pydefrag: page.html {full}"));
    assert!(lines.len() == 6 && lines[1].starts_with("hint: pydefrag snapshot PID -o"));
}

#[test]
fn where_nothing_can_be_written_nothing_is() {
    let (folder, target) = (open_folder(), target());
    let pid = target.pid().to_string();
    let at = |name: &str| folder.path().join(name).display().to_string();
    for name in ["folder.pdsnap", "folder.html"] {
        fs::create_dir(at(name)).expect("our own folder");
    }
    for (option, path, why) in [
        ("-o", at("folder.pdsnap"), "is a directory"),
        ("-o", at("missing/new.pdsnap"), "No such file or directory"),
        ("-o", "/dev/full".into(), "No space left on device"),
        ("--html", at("folder.html"), "is a directory"),
        ("--html", at("missing/page.html"), "No such file or directory"),
    ] {
        let (sentence, hint) = refused(&run(&["snapshot", &pid, option, &path]));
        assert!(sentence.starts_with(&format!("{path} could not be written: {why}")), "{sentence}");
        assert!(hint.starts_with(&format!("pydefrag snapshot PID {option} FILE.")), "{hint}");
    }
    let (sentence, _) = refused(&run(&["snapshot", &pid, "--html", "-"]));
    assert_eq!(sentence, "a page is not written to stdout, where the report goes");
    // A program is not run for a page that cannot be written.
    let (sentence, _) =
        refused(&run(&["run", "--html", &at("missing/page.html"), "-c", "print('ran')"]));
    assert!(sentence.contains("No such file or directory"), "{sentence}");
    let left: Vec<_> = fs::read_dir(&folder).expect("our own folder").flatten().collect();
    assert_eq!(left.len(), 2, "{left:?}");
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    for verb in [&["snapshot", &pid][..], &["ps"]] {
        let mut command = pydefrag(verb);
        let out = command.stdout(full.try_clone().expect("a copy")).output().expect("it starts");
        let (_, stderr) = text(&out);
        assert_eq!(out.status.code(), Some(1), "{stderr}");
        let said = "pydefrag: the output could not be written: No space left on device";
        assert!(stderr.starts_with(said) && stderr.contains("\nhint: "), "{stderr}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let target = target();
    let pid = target.pid().to_string();
    for verb in [&["snapshot", &pid, "--json"][..], &["snapshot", &pid], &["ps"]] {
        for bytes in [0, 10] {
            let mut command = pydefrag(verb);
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn().expect("it starts");
            let mut reader = child.stdout.take().expect("piped");
            reader.read_exact(&mut vec![0; bytes]).expect("some output");
            drop(reader);
            let out = child.wait_with_output().expect("it ends");
            assert_eq!((out.status.code(), text(&out).1.as_str()), (Some(0), ""), "{verb:?}");
        }
    }
    // Nobody reads the messages either.
    let folder = open_folder();
    let file = folder.path().join("kept.pdsnap").display().to_string();
    for (args, code) in [(&["snapshot", &pid, "-o", &file][..], 0), (&["snapshot", "4194305"], 1)] {
        let mut command = pydefrag(args);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        drop(child.stderr.take());
        assert_eq!(child.wait().expect("it ends").code(), Some(code), "{args:?}");
    }
}

#[test]
fn an_interrupted_snapshot_leaves_nothing() {
    let folder = open_folder();
    let many = "kept = [bytes(i * 37 % 500) for i in range(1500000)][::7]\nready()";
    let target = Stranger::ready(&mut python_says(python(), many));
    for (option, name) in [("-o", "kept.pdsnap"), ("--html", "page.html")] {
        interrupted_at_moments(&folder.path().join(name), target.pid(), option);
    }
}

fn interrupted_at_moments(file: &Path, pid: u32, option: &str) {
    use std::os::unix::process::ExitStatusExt;
    const SIGINT: i32 = 2;
    let folder = file.parent().expect("our own folder");
    let spawn = || {
        let mut command = pydefrag(&["snapshot", &pid.to_string(), option]);
        command.arg(file);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts")
    };
    let mut interrupted = 0;
    // On a busy machine the first one may take much longer than those that are interrupted: then once more.
    for _ in 0..4 {
        if interrupted > 3 {
            break;
        }
        // How long it takes, here and now: it is interrupted at moments spread over that.
        let start = Instant::now();
        assert!(spawn().wait().expect("it ends").success());
        let whole = start.elapsed();
        fs::remove_file(file).expect("the whole file");
        for after in (0..12).map(|i| whole * i / 12) {
            let mut child = spawn();
            std::thread::sleep(after);
            signal(child.id(), "INT");
            let status = child.wait().expect("it ends");
            let left: Vec<_> = fs::read_dir(folder).expect("our own folder").flatten().collect();
            if status.signal() == Some(SIGINT) {
                interrupted += 1;
                assert!(left.is_empty(), "after {after:?}: {left:?}");
            } else {
                assert_eq!((status.code(), left.len()), (Some(0), 1), "after {after:?}: {left:?}");
                fs::remove_file(file).expect("the whole file");
            }
        }
    }
    assert!(interrupted > 3, "it was never interrupted midway");
}
