//! Load of other kinds than wrk's: a steady rate, handshakes, connections that idle.

use std::thread;
use std::time::{Duration, Instant};
use world::raw::{Client, Connection};

/// How long the slowest of a hundred requests takes at a steady rate of requests per second.
///
/// Each is timed from when it was to be sent: a server that is late once delays none of those that
/// follow unnoticed.
pub(crate) fn p99(client: &Client, path: &str, rate: f64, lasting: Duration) -> Duration {
    let between = Duration::from_secs_f64(CONNECTIONS as f64 / rate);
    let begin = Instant::now() + Duration::from_millis(200);
    let mut taken: Vec<Duration> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CONNECTIONS)
            .map(|number| {
                // Evenly: not all at the same moment.
                let first = begin + between.mul_f64(number as f64 / CONNECTIONS as f64);
                scope.spawn(move || steadily(client, path, first, between, begin + lasting))
            })
            .collect();
        clients.into_iter().flat_map(|it| it.join().expect("a client does not panic")).collect()
    });
    taken.sort_unstable();
    taken[taken.len() * 99 / 100]
}

fn steadily(
    client: &Client,
    path: &str,
    first: Instant,
    between: Duration,
    end: Instant,
) -> Vec<Duration> {
    let mut connection = client.connect().expect("it listens");
    let mut taken = Vec::new();
    let mut due = first;
    while due < end {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        connection = get(connection, path);
        taken.push(due.elapsed());
        due += between;
    }
    taken
}

/// Connections with a full handshake and one small request each, by second.
pub(crate) fn handshakes(client: &Client, path: &str, lasting: Duration) -> f64 {
    let client = client.clone().without_resumption();
    let begin = Instant::now();
    let made: usize = thread::scope(|scope| {
        let threads: Vec<_> = (0..HANDSHAKING)
            .map(|_| {
                scope.spawn(|| {
                    let mut made = 0;
                    while begin.elapsed() < lasting {
                        drop(get(client.connect().expect("it listens"), path));
                        made += 1;
                    }
                    made
                })
            })
            .collect();
        threads.into_iter().map(|it| it.join().expect("a client does not panic")).sum()
    });
    made as f64 / begin.elapsed().as_secs_f64()
}

/// So many connections that did one request and go on to do nothing.
pub(crate) fn idle(client: &Client, path: &str, many: usize) -> Vec<Connection> {
    (0..many).map(|_| get(client.connect().expect("it listens"), path)).collect()
}

fn get(mut connection: Connection, path: &str) -> Connection {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let answer = connection.send(request.as_bytes()).expect("it answers");
    assert_eq!(answer.status, 200, "{path}");
    let (_, next) = answer.finish().expect("a whole body");
    connection = next;
    connection
}

const CONNECTIONS: usize = 32;
const HANDSHAKING: usize = 4;
