//! How much a process computes, as Linux counts it.

use std::time::Duration;

/// For how long a process kept a core busy since it began, all of its threads together.
pub fn computed(pid: i32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    // The name before may have blanks in it.
    let (_, fields) = stat.rsplit_once(") ").expect("a name in brackets");
    let ticks = fields.split(' ').skip(USER_TIME).take(2).map(|it| it.parse::<u64>());
    let ticks: u64 = ticks.map(|it| it.expect("a number of ticks")).sum();
    Duration::from_millis(ticks * 10)
}

/// The place of utime after the name; stime is next (proc(5)). A tick is 10 ms for all programs.
const USER_TIME: usize = 11;
