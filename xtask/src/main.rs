//! The project's chores, run as `cargo xtask CHORE`: a table of contents; each chore has its file.

mod interpreters;
mod matrix;
mod packages;
mod pictures;
mod suites;
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask CHORE

  interpreters          bring the interpreters that the tests need into .cache/interpreters
  interpreters --list   print each interpreter's name, patch level, source and path
  packages              bring the packages of PyPI that the tests look at into .cache/packages
  suites                run CPython's own tests and those of packages under purge, or recorded; --help tells more
  matrix                run the tests that run a part of their matrix whole; resumes, and keeps docs/matrix.md
  pictures              make docs/pictures again from the examples, in a browser
  tidy                  check the rules of the house: arrows, unsafe, file sizes, addresses
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args[..] {
        ["interpreters"] => interpreters::bring(),
        ["interpreters", "--list"] => interpreters::list(),
        ["packages"] => packages::bring(),
        ["suites", "--help"] => {
            eprint!("{}", suites::USAGE);
            return ExitCode::SUCCESS;
        }
        ["suites", ref rest @ ..] => suites::run(rest),
        ["matrix"] => matrix::run(),
        ["pictures"] => pictures::make(),
        ["tidy"] => tidy::check(),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
