//! Clients of what is kept, who must get it for as long as they ask, whatever else goes wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use world::{Keep, Kind, Package};

/// One client that asks again and again until it is stopped.
pub(crate) struct Steady {
    over: Arc<AtomicBool>,
    thread: JoinHandle<usize>,
}

impl Steady {
    /// Begins to ask for the index, the archive of `kept` and the ledger's head.
    pub(crate) fn start(keep: &mut Keep, kept: &Package) -> Self {
        let (client, over) = (keep.raw(), Arc::new(AtomicBool::new(false)));
        let (is_over, bytes) = (Arc::clone(&over), kept.archive_bytes().to_vec());
        let archive = kept.cache_path(Kind::Sha256);
        let thread = thread::spawn(move || {
            let mut rounds = 0;
            while !is_over.load(Ordering::Relaxed) {
                for path in ["/index.tar.gz", &archive, "/ledger/checkpoint", "/livez"] {
                    let answer = client.get(path).expect("it answers");
                    assert_eq!(answer.status, 200, "{path}, in round {rounds}");
                    let body = answer.body().expect("a whole body");
                    assert!(path != archive || body == bytes, "other bytes, in round {rounds}");
                }
                rounds += 1;
                thread::sleep(PAUSE);
            }
            rounds
        });
        Self { over, thread }
    }

    /// Ends it; it must have got everything.
    pub(crate) fn stop(self) {
        self.over.store(true, Ordering::Relaxed);
        let rounds = self.thread.join().expect("what is kept was served throughout");
        assert!(rounds > 0, "nobody asked");
    }
}

const PAUSE: Duration = Duration::from_millis(5);
