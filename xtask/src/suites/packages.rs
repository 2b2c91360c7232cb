//! Packages with C extensions or Cython: the tests that their wheel has, or a workload of
//! `tests/suites` that checks what it makes.
//!
//! They are the sets `[[suite]]` of `tests/packages.toml`, and only brought when they are to be run.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use pydefrag_harness::packages::Packages;
use pydefrag_harness::{Interpreter, repository};

use super::job::Job;
use super::kind::Kind;

/// The interpreters that run them.
pub(super) const ON: &[&str] = &["3.11", "3.13"];

/// numpy's own test files: what makes and frees most arrays and objects.
const NUMPY: &[&str] = &[
    "_core/tests/test_api.py",
    "_core/tests/test_arrayprint.py",
    "_core/tests/test_dtype.py",
    "_core/tests/test_indexing.py",
    "_core/tests/test_multiarray.py",
    "_core/tests/test_nditer.py",
    "_core/tests/test_numeric.py",
    "_core/tests/test_regression.py",
    "_core/tests/test_shape_base.py",
    "_core/tests/test_stringdtype.py",
    "_core/tests/test_strings.py",
    "_core/tests/test_ufunc.py",
    "_core/tests/test_umath.py",
    "lib/tests/test_function_base.py",
    "lib/tests/test_io.py",
    "ma/tests/test_core.py",
];

/// Scripts of `tests/suites`, whose wheels have no tests.
const WORKLOADS: &[(&str, &str)] =
    &[("lxml", "lxml_trees"), ("pydantic-core", "pydantic_models"), ("PyYAML", "yaml_documents")];

/// The folder of the packages and what is run there.
pub(super) fn jobs(kind: Kind, interpreter: &Interpreter) -> Result<(PathBuf, Vec<Job>)> {
    let mut sets = Packages::load().suite.into_iter();
    let set = sets.find(|set| set.on.contains(&interpreter.name));
    let Some(set) = set else {
        anyhow::bail!("no packages are named for python {}", interpreter.name)
    };
    crate::packages::bring_one(&set)?;
    ensure!(set.is_there(), "the packages of {} are not there", set.name);
    let folder = set.folder();
    let own = NUMPY.iter().map(|file| Job {
        name: format!("numpy: {file}"),
        args: [
            &["-m", "pytest", "-q", "-rfE", "-p", "no:cacheprovider"].map(str::to_owned)[..],
            // Names of tests begin here: the ledger has no paths of a machine.
            &["--rootdir".to_owned(), folder.display().to_string()],
            &[folder.join("numpy").join(file).display().to_string()],
        ]
        .concat(),
        least: 0,
    });
    let ours = WORKLOADS.iter().map(|(package, script)| Job {
        name: format!("{package}: {script}.py"),
        args: vec![repository().join(format!("tests/suites/{script}.py")).display().to_string()],
        least: kind.least(),
    });
    Ok((folder.clone(), own.chain(ours).collect()))
}
