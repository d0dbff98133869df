//! Runs tests that depend on process-wide state in a process of their own, by starting this binary again.

use std::process::Command;

/// Runs `work` in a new process. `test` is the full name of the calling test, with its modules.
pub(crate) fn run(test: &str, work: impl FnOnce()) {
    const ALONE: &str = "GHOSTNET_TEST_ALONE";
    if std::env::var_os(ALONE).is_some_and(|alone| alone == test) {
        return work();
    }
    let output = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", test])
        .env(ALONE, test)
        .output()
        .expect("this test can be run");
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert!(output.status.success(), "{stdout}{stderr}");
    assert!(stdout.contains("result: ok. 1 passed"), "no test has the name `{test}`: {stdout}");
}
