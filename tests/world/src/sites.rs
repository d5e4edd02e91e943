//! What is where in the world, which of it is lied about, and who asked.

use crate::lie::Lie;
use crate::request::Request;
use bytes::Bytes;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard};

/// Shared by the server, which asks, and the test, which changes things meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Sites {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    pages: HashMap<String, Bytes>,
    lies: HashMap<String, Told>,
    everywhere: Option<Lie>,
    requests: Vec<Request>,
}

/// What is said instead of the truth.
#[derive(Debug)]
enum Told {
    /// Always this.
    Always(Lie),
    /// One after the other, and then the truth.
    InTurn(VecDeque<Lie>),
}

/// What the world has for one request.
#[derive(Debug)]
pub(crate) struct Found {
    /// The truth, when there is any.
    pub(crate) page: Option<Bytes>,
    /// What to say instead.
    pub(crate) lie: Option<Lie>,
}

impl Sites {
    pub(crate) fn put(&self, url: &str, bytes: Bytes) {
        self.state().pages.insert(key(url), bytes);
    }

    pub(crate) fn take_down(&self, url: &str) {
        self.state().pages.remove(&key(url));
    }

    pub(crate) fn lie(&self, url: &str, lie: Lie) {
        self.state().lies.insert(key(url), Told::Always(lie));
    }

    pub(crate) fn lie_in_turn(&self, url: &str, lies: impl IntoIterator<Item = Lie>) {
        self.state().lies.insert(key(url), Told::InTurn(lies.into_iter().collect()));
    }

    pub(crate) fn be_honest(&self, url: &str) {
        self.state().lies.remove(&key(url));
    }

    pub(crate) fn lie_everywhere(&self, lie: Option<Lie>) {
        self.state().everywhere = lie;
    }

    pub(crate) fn hosts(&self) -> BTreeSet<String> {
        let state = self.state();
        let urls = state.pages.keys().chain(state.lies.keys());
        urls.filter_map(|url| url.split('/').next()).map(str::to_owned).collect()
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.state().requests.clone()
    }

    pub(crate) fn count(&self, url: &str) -> usize {
        let url = key(url);
        self.state().requests.iter().filter(|request| request.url == url).count()
    }

    pub(crate) fn forget_requests(&self) {
        self.state().requests.clear();
    }

    /// Notes the request down and says what there is to answer.
    pub(crate) fn visit(&self, request: Request) -> Found {
        let mut state = self.state();
        let page = state.pages.get(&request.url).cloned();
        let lie = state.everywhere.clone().or_else(|| state.next_lie(&request.url));
        state.requests.push(Request { lie: lie.clone(), ..request });
        Found { page, lie }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panicked while it held the world")
    }
}

impl State {
    fn next_lie(&mut self, url: &str) -> Option<Lie> {
        match self.lies.get_mut(url)? {
            Told::Always(lie) => Some(lie.clone()),
            Told::InTurn(lies) => lies.pop_front(),
        }
    }
}

/// A URL as pages are filed: without scheme, which the world does not tell apart, and without
/// fragment, which no client sends.
pub(crate) fn key(url: &str) -> String {
    let url = url.split_once("://").map_or(url, |(_, rest)| rest);
    url.split_once('#').map_or(url, |(before, _)| before).to_owned()
}
