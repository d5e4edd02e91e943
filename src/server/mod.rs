//! The server: listeners with their TLS, then one file per endpoint.
//!
//! It turns requests into questions to the keeper and answers into HTTP. What is kept is served
//! whatever upstream does (G5); a response never carries bytes that are not pinned to the end
//! (G1); no connection lives without progress; nobody's input ends in a panic.

mod access;
mod activity;
pub mod admin;
mod answer;
mod api;
mod archive;
mod body;
mod bound;
mod gate;
mod gauges;
mod given;
mod health;
mod host;
mod hot;
mod ledger;
mod listener;
mod metrics;
mod pages;
mod past;
mod plain_request;
mod progress_io;
mod rate;
mod refusal;
mod reload;
mod repository;
mod room;
mod route;
mod same_origin;
mod sessions;
mod source;
pub mod status;
mod streams;
mod target;
pub mod tls;
mod traffic;
mod workers;

use crate::clock::Clock;
use crate::config::Config;
use crate::keeper::browse::BrowseError;
use crate::keeper::{Keeper, Scope, When};
use crate::places::Places;
pub use bound::{Bound, Scheme, ServeError, bind, public_url};
pub use source::{Load, Source};
pub use target::understood;

use access::{Asked, Logged};
use arc_swap::ArcSwap;
use archive::Asking;
use body::Body;
use bytes::Bytes;
use gate::{Gate, Visitor};
use hot::Hot;
use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use jiff::Timestamp;
use listener::{Limits, Peer, Speaks};
use metrics::Metrics;
use pages::Page;
use rate::Rate;
use reload::Configuration;
use room::Place;
use route::Route;
use status::Status;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use target::{Part, Target};
use tls::Tls;
use tokio_rustls::TlsAcceptor;
use traffic::Traffic;

/// A server as one configuration wants it; a new one takes its place when that changes.
///
/// What outlives a configuration is shared with the one before.
pub(crate) struct Server {
    keeper: Arc<Keeper>,
    clock: Clock,
    hot: Arc<Hot>,
    limits: Arc<Limits>,
    gate: Gate,
    /// How often clients ask for what is not kept.
    misses: Arc<Rate>,
    metrics: Arc<Metrics>,
    traffic: Arc<Traffic>,
    configuration: Arc<Configuration>,
    public_url: String,
    ca: Option<Bytes>,
    tls: Option<TlsAcceptor>,
    /// Until when clients trust the certificate.
    certificate_expires: Option<Timestamp>,
    /// Request ids are this number, random at start, plus one each time.
    requests: Arc<AtomicU64>,
}

/// The server that answers now.
pub(crate) type Current = ArcSwap<Server>;

/// What clients see of a server: its URL, its own CA, and its TLS.
type Face = (String, Option<Bytes>, Option<Tls>);

impl Server {
    /// The server that a process starts with.
    fn first(keeper: Arc<Keeper>, clock: Clock, config: &Config, face: Face) -> Self {
        let (settings, layout) = (&config.server, keeper.store().layout().clone());
        let (public_url, ca, tls) = face;
        Self {
            gate: Gate::new(
                &config.access,
                tls.as_ref().and_then(|tls| tls.authorities.clone()),
                layout.clone(),
                clock.clone(),
                &public_url,
            ),
            misses: Arc::new(Rate::new(config.access.misses_per_minute)),
            metrics: Arc::new(Metrics::new(&keeper)),
            traffic: Arc::new(Traffic::read(&layout)),
            configuration: Arc::new(Configuration::new(clock.now())),
            clock,
            hot: Arc::default(),
            limits: Arc::new(Limits::new(settings)),
            public_url,
            ca,
            certificate_expires: tls.as_ref().and_then(|tls| tls.expires),
            tls: tls.map(|tls| TlsAcceptor::from(tls.config)),
            requests: Arc::new(AtomicU64::new(first_request_id())),
            keeper,
        }
    }

    /// The server of another configuration, which takes this one's place.
    fn next(&self, keeper: Arc<Keeper>, config: &Config, face: Face) -> Self {
        let (public_url, ca, tls) = face;
        let access = &config.access;
        self.limits.change(&config.server);
        Self {
            gate: self.gate.by(
                access,
                tls.as_ref().and_then(|tls| tls.authorities.clone()),
                &public_url,
            ),
            misses: Rate::by(&self.misses, access.misses_per_minute),
            metrics: Arc::clone(&self.metrics),
            traffic: Arc::clone(&self.traffic),
            configuration: Arc::clone(&self.configuration),
            clock: self.clock.clone(),
            hot: Arc::clone(&self.hot),
            limits: Arc::clone(&self.limits),
            public_url,
            ca,
            certificate_expires: tls.as_ref().and_then(|tls| tls.expires),
            tls: tls.map(|tls| TlsAcceptor::from(tls.config)),
            requests: Arc::clone(&self.requests),
            keeper,
        }
    }

    /// How everything stands.
    async fn status(&self) -> Result<Status, BrowseError> {
        let tokens = self.gate.problem();
        let (configuration, url) = (self.configuration.status(), self.public_url.clone());
        let rechecks = self.keeper.rechecks().await.ok();
        let (keeper, clock) = (Arc::clone(&self.keeper), self.clock.clone());
        let look = move || status::of(&keeper, &clock, configuration, url, tokens, rechecks);
        LOOKING.work(look).await.map_err(|error| BrowseError::Store(error.to_string()))
    }

    /// What is wrong with the certificate, if clients don't trust it any more.
    fn certificate_problem(&self) -> Option<String> {
        let expires = self.certificate_expires.filter(|expires| *expires <= self.clock.now())?;
        Some(format!("expired at {expires}: renew the file that server.tls names as cert"))
    }

    fn warn_of_certificate(&self) {
        if let Some(problem) = self.certificate_problem() {
            tracing::warn!(problem, "clients refuse the certificate");
        }
    }

    /// Answers one request.
    async fn respond(&self, request: Request<Incoming>, peer: &Peer) -> Response<Logged> {
        let begun = Instant::now();
        let id = self.requests.fetch_add(1, Ordering::Relaxed);
        let (mut request, body) = request.into_parts();
        if request.method != http::Method::GET {
            // No other method has parts (RFC 9110 section 14.2).
            request.headers.remove(header::RANGE);
        }
        let mut asked = Asked::new(id, peer, &request);
        let (mut response, visitor, route) = self.let_in(&request, body, peer).await;
        if let (Some(asked), Some((name, _))) = (&mut asked, visitor.token) {
            asked.by(name);
        }
        if request.method == http::Method::HEAD {
            let bytes = http_body::Body::size_hint(response.body()).exact();
            *response.body_mut() = Body::Empty;
            // These have no body by themselves, so a length would be that of another answer.
            let is_without = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED];
            if let Some(bytes) = bytes.filter(|_| !is_without.contains(&response.status())) {
                response.headers_mut().insert(header::CONTENT_LENGTH, bytes.into());
            }
        }
        let headers = response.headers_mut();
        if self.gate.is_closed() {
            answer::keep_from_shared_caches(headers);
        }
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(REQUEST_ID, answer::request_id(id));
        if let Some(reason) = headers.get(archive::REASON).and_then(|it| it.to_str().ok()) {
            self.metrics.count_unfilled(reason);
        }
        Logged::new(response, asked, Arc::clone(&self.metrics), route, begun)
    }

    /// The answer, as whom the client was let in, and what kind of thing was asked for.
    async fn let_in(
        &self,
        request: &Parts,
        body: Incoming,
        peer: &Peer,
    ) -> (Response<Body>, Visitor, Route) {
        let Parts { method, uri, version, headers, .. } = request;
        let visitor = Visitor::default();
        if matches!(peer.speaks, Speaks::HttpForHttps) {
            Box::pin(body::let_pass(body)).await;
            return (plain_request::answer(&self.public_url), visitor, Route::None);
        }
        let target = match target::parse(method, uri, *version, headers) {
            Ok(target) => target,
            Err(refusal) => {
                Box::pin(body::let_pass(body)).await;
                // Who may not read does not learn what there is.
                if refusal.status == StatusCode::NOT_FOUND
                    && let Some(page) = self.page_of_repository(request)
                    && let Ok(visitor) = self.gate.admit(&Target::Page(page.clone()), request, peer)
                {
                    let place = Box::pin(peer.room.for_one()).await;
                    let response = Box::pin(pages::show(self, page, &visitor, request)).await;
                    return (place.hold(response), visitor, Route::Page);
                }
                let response = match api::is_below(uri.path()) {
                    true => api::refused(refusal, uri.path()),
                    false => pages::refused(refusal, &visitor, request),
                };
                return (response, visitor, Route::None);
            }
        };
        let route = Route::from(&target);
        match self.gate.admit(&target, request, peer) {
            Ok(visitor) => {
                let response = self.route(target, request, body, &visitor, peer).await;
                (response, visitor, route)
            }
            Err(refusal) => {
                Box::pin(body::let_pass(body)).await;
                let response = match target {
                    Target::Api(_) => api::refused(refusal, uri.path()),
                    _ => pages::refused(refusal, &visitor, request),
                };
                (response, visitor, route)
            }
        }
    }

    /// The page for who pastes a repository's URL, which is one for opam, into a browser.
    fn page_of_repository(&self, request: &Parts) -> Option<Page> {
        let is_read = matches!(request.method, Method::GET | Method::HEAD);
        let name = request.uri.path().trim_matches('/');
        let asks = is_read && pages::wants_html(&request.headers);
        let name = self.keeper.repository(name).filter(|_| asks)?.name().to_owned();
        Some(Page::Packages { repository: Some(name), query: String::new(), page: 0 })
    }

    async fn route(
        &self,
        target: Target<'_>,
        request: &Parts,
        body: Incoming,
        visitor: &Visitor,
        peer: &Peer,
    ) -> Response<Body> {
        let place = match target.is_made_for_one() {
            true => Box::pin(peer.room.for_one()).await,
            false => Place::none(),
        };
        let response = match target {
            Target::Of { name: Some(name), .. } if self.keeper.repository(name).is_none() => {
                repository::unknown()
            }
            Target::Of { when, name, part } => self.part(when, name, part, request, peer).await,
            // A connection has room for the answer that takes most, so others have their own.
            Target::Page(page) => Box::pin(pages::show(self, page, visitor, request)).await,
            Target::Form(form) => {
                Box::pin(pages::submit(self, form, visitor, request, body, peer.address)).await
            }
            Target::Api(call) => Box::pin(api::answer(self, call, visitor, request, body)).await,
            Target::Style => pages::style(),
            Target::Ca => self.ca(),
            Target::Checkpoint => Box::pin(ledger::checkpoint(self)).await,
            Target::LedgerKey => ledger::key(self),
            Target::Tile(path) => Box::pin(ledger::tile(self, path)).await,
            Target::Health(health) => {
                Box::pin(health::answer(self, health, &request.headers)).await
            }
            Target::Metrics => Box::pin(metrics::answer(self)).await,
        };
        place.hold(response)
    }

    /// The certificate of the CA that opam-keep made for itself, if it did.
    fn ca(&self) -> Response<Body> {
        match &self.ca {
            Some(ca) => answer::plain(ca.clone(), "application/x-pem-file", "no-cache"),
            None => answer::message(
                StatusCode::NOT_FOUND,
                "this server's certificate was not made by opam-keep",
            ),
        }
    }

    async fn part(
        &self,
        when: Option<When>,
        name: Option<&str>,
        part: Part,
        request: &Parts,
        peer: &Peer,
    ) -> Response<Body> {
        let (headers, version) = (&request.headers, request.version);
        let asking = Asking { headers, version, client: peer.address, room: &peer.room };
        match (part, when) {
            (Part::Index, None) => repository::index(self, name, headers),
            (Part::Index, Some(when)) => Box::pin(past::index(self, when, name, &asking)).await,
            (Part::Repo, None) => repository::repo(self, name, headers),
            (Part::Repo, Some(when)) => Box::pin(past::repo(self, when, name, &asking)).await,
            (Part::Archive(checksum), when) => {
                archive::by_checksum(self, when, scope(name), checksum, &asking).await
            }
            (Part::Source(archive), when) => {
                // Whatever another repository calls by that name is not what this one does.
                let first = || self.keeper.repositories().first().map(|it| it.name());
                let scope = scope(name.or_else(first));
                Box::pin(archive::by_name(self, when, scope, &archive, &asking)).await
            }
        }
    }
}

fn scope(repository: Option<&str>) -> Scope<'_> {
    repository.map_or(Scope::All, Scope::Repository)
}

fn first_request_id() -> u64 {
    let mut random = [0; 8];
    // Without random numbers ids begin at zero, which only makes them easier to guess.
    let _ = getrandom::fill(&mut random);
    u64::from_be_bytes(random)
}

/// For how everything stands, which takes reading the disk.
static LOOKING: Places = Places::new(1);

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
