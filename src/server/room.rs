//! Room for answers of one HTTP/2 connection that are made for it alone: its peer may ask for many
//! at once and take none of them, and each stays in memory until it is taken.
//!
//! What all connections share, such as an index or an archive in memory, needs no room; files and
//! archives that arrive are in memory a piece at a time, and few files are open at one time.

use super::body::Body;
use bytes::Bytes;
use http::Response;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Room on one connection. Cheap to clone; all clones are the same room.
#[derive(Clone, Debug)]
pub(super) struct Room(Option<Arc<Bounds>>);

#[derive(Debug)]
struct Bounds {
    memory: Arc<Semaphore>,
    files: Arc<Semaphore>,
}

/// The part of it that one answer has, from before it is made until it is taken.
#[derive(Debug)]
pub(super) struct Place(Option<OwnedSemaphorePermit>);

/// An answer that has a place, and gives it back with its end.
#[derive(Debug)]
pub(super) struct Held {
    bytes: Bytes,
    _place: OwnedSemaphorePermit,
}

impl Room {
    /// For a connection that has one answer at a time anyway.
    pub(super) fn unbounded() -> Self {
        Self(None)
    }

    /// For a connection with many answers at a time.
    pub(super) fn bounded() -> Self {
        let [memory, files] = [ROOM as usize, MAX_FILES].map(|it| Arc::new(Semaphore::new(it)));
        Self(Some(Arc::new(Bounds { memory, files })))
    }

    /// Waits until there is room for one more answer, however large that will be.
    pub(super) async fn for_one(&self) -> Place {
        self.take(PLACE).await
    }

    /// Waits until there is room for an answer of megabytes, which is all of it.
    pub(super) async fn for_a_large_one(&self) -> Place {
        self.take(ROOM).await
    }

    /// Waits until one more file may be open.
    pub(super) async fn for_a_file(&self) -> Place {
        match &self.0 {
            // It is never closed.
            Some(bounds) => Place(Arc::clone(&bounds.files).acquire_owned().await.ok()),
            None => Place(None),
        }
    }

    async fn take(&self, units: u32) -> Place {
        match &self.0 {
            Some(bounds) => Place(Arc::clone(&bounds.memory).acquire_many_owned(units).await.ok()),
            None => Place(None),
        }
    }
}

impl Place {
    /// For an answer that needs none.
    pub(super) fn none() -> Self {
        Self(None)
    }

    /// The answer, with as much of the place as it needs until it is taken.
    pub(super) fn hold(self, response: Response<Body>) -> Response<Body> {
        let Some(mut place) = self.0 else { return response };
        response.map(|body| match body {
            Body::Full(bytes) if !bytes.is_empty() => {
                let needed = bytes.len().div_ceil(UNIT);
                drop(place.split(place.num_permits().saturating_sub(needed)));
                Body::Held(Held { bytes, _place: place })
            }
            other => other,
        })
    }
}

impl Held {
    pub(super) fn left(&self) -> usize {
        self.bytes.len()
    }

    /// The next piece; a copy, as a part would keep the whole in memory.
    pub(super) fn piece(&mut self) -> Option<Bytes> {
        if self.bytes.len() <= PIECE {
            let last = std::mem::take(&mut self.bytes);
            return (!last.is_empty()).then(|| Bytes::copy_from_slice(&last));
        }
        Some(Bytes::copy_from_slice(&self.bytes.split_to(PIECE)))
    }
}

/// Most files that are open at once; each has a chunk in memory.
const MAX_FILES: usize = 8;
/// Room is counted in units of so many bytes.
const UNIT: usize = 1024;
/// Room of one connection, in units.
const ROOM: u32 = 1024;
/// What an answer of unknown size gets, in units: four are made at a time.
const PLACE: u32 = 256;
/// As much of an answer as is out of its place, with the library, when the place is given back.
const PIECE: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;
    use std::time::Duration;
    use tokio::time::timeout;

    async fn made(room: &Room, bytes: usize) -> Option<Body> {
        let place = timeout(Duration::from_secs(9), room.for_one()).await.ok()?;
        Some(place.hold(Response::new(Body::Full(vec![7; bytes].into()))).into_body())
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_much_is_made_before_something_is_taken() {
        let room = Room::bounded();
        let mut large = Vec::new();
        while let Some(body) = made(&room, 500_000).await {
            large.push(body);
        }
        assert_eq!(large.len(), 4);
        let mut taken = large.pop().unwrap();
        let first = taken.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(first.len(), PIECE);
        assert!(made(&room, 1).await.is_none(), "most of it is still here");
        let rest = taken.collect().await.unwrap().to_bytes();
        assert_eq!(first.len() + rest.len(), 500_000);
        assert!(made(&room, 1).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn few_files_are_open_at_once_and_the_others_get_their_turn() {
        let room = Room::bounded();
        let patience = Duration::from_secs(9);
        let mut open = Vec::new();
        while let Ok(place) = timeout(patience, room.for_a_file()).await {
            open.push(place);
        }
        assert_eq!(open.len(), MAX_FILES);
        assert!(made(&room, 1).await.is_some(), "what is made needs none of their places");
        open.pop();
        assert!(timeout(patience, room.for_a_file()).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn small_answers_wait_only_for_what_they_need() {
        let room = Room::bounded();
        let mut small = Vec::new();
        while let Some(body) = made(&room, 10_000).await {
            small.push(body);
        }
        assert!(small.len() > 64, "{}", small.len());
        drop(small);
        let large = timeout(Duration::from_secs(9), room.for_a_large_one()).await.unwrap();
        assert!(made(&room, 1).await.is_none());
        // What is no body of its own gives all of it back at once.
        let shared = large.hold(Response::new(Body::Empty));
        assert!(made(&room, 1).await.is_some());
        drop(shared);
    }
}
