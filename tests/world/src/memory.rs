//! How much memory a process takes, as Linux counts it.

/// What a process has in memory from a moment on.
#[derive(Debug)]
pub struct Memory {
    pid: i32,
    before: usize,
}

impl Memory {
    /// Begins to watch `pid`.
    pub fn of(pid: i32) -> Self {
        let before = bytes(pid, "VmRSS:");
        // The peak so far is not what is measured: forget it.
        std::fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("a peak can be reset");
        Self { pid, before }
    }

    /// How much more it had at its peak since then, in bytes.
    pub fn grown(&self) -> usize {
        bytes(self.pid, "VmHWM:").saturating_sub(self.before)
    }
}

/// How much a process and those that it started have in memory now, in bytes.
pub fn resident(pid: i32) -> usize {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.unwrap_or_default();
    let children = children.split_whitespace().filter_map(|child| child.parse().ok());
    bytes(pid, "VmRSS:") + children.map(resident).sum::<usize>()
}

/// Bytes of one line of `/proc/PID/status`.
fn bytes(pid: i32, line: &str) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let value = status.lines().find_map(|text| text.strip_prefix(line));
    let kibibytes = value.and_then(|value| value.trim().strip_suffix(" kB")?.parse::<usize>().ok());
    kibibytes.expect("the kernel counts memory") * 1024
}
