//! HTTP/2 frames that are wrong, one at a time, and what RFC 9113 (and RFC 7541 for compressed
//! headers) says becomes of each.
//!
//! A malformed request may also be answered with an error; a stream's error may also end the
//! connection (section 5.4). The library tells some errors by the general PROTOCOL_ERROR where
//! there is a code of their own; that they end what they should is what counts. None gets what it
//! asks for, and nobody else notices.

use crate::start;
use std::io;
use world::http2::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PADDED, PING,
    PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE, field, frame, get, ping, request,
    reset, settings, window_update,
};
use world::{Keep, Mirror, Package, Repo, World};

/// What has to become of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Nothing: the next one is read as if it had not been there.
    Ignored,
    /// The request before it is answered all the same.
    Served,
    /// Its stream ends with this code, or the connection does, or the request is refused.
    StreamOver(u32),
    /// The connection ends with this code.
    Over(u32),
}

impl Fate {
    fn is_as_good_as(self, expected: Self) -> bool {
        match (self, expected) {
            (Self::StreamOver(code), Self::StreamOver(of_its_own))
            | (Self::Over(code), Self::Over(of_its_own)) => {
                code == of_its_own || code == PROTOCOL_ERROR
            }
            (seen, expected) => seen == expected,
        }
    }
}

#[test]
fn each_frame_that_is_wrong_ends_as_rfc_9113_says_and_nobody_else_notices() {
    let (_world, mut keep) = mirror();
    let client = keep.raw();
    let mut wrong = Vec::new();
    for (section, what, bytes, expected) in cases() {
        let mut connection = client.http2().expect("it listens");
        // When the other side is gone already, reading says why.
        let _sent = connection.write(&bytes).and_then(|()| connection.write(&ping()));
        let seen = fate(|| connection.frame(), expected);
        if !seen.as_ref().is_ok_and(|seen| seen.is_as_good_as(expected)) {
            wrong.push(format!("{section}, {what}: {expected:?}, not {seen:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(keep.curl().with(&["--http2"], "/livez").status, 200);
}

#[test]
fn what_does_not_begin_as_http_2_has_to_is_closed() {
    let (_world, mut keep) = mirror();
    let client = keep.raw();
    for preface in [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r".as_slice(),
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"INVALID CONNECTION PREFACE\r\n\r\n",
    ] {
        let mut connection = client.http2_without_preface().expect("it listens");
        let _sent = connection.write(&[preface, &settings(), &get(1, "/livez")].concat());
        while let Ok(frame) = connection.frame() {
            assert!(!matches!(frame, Frame::Head(..) | Frame::Data(..)), "{frame:?}");
        }
    }
}

#[test]
fn no_more_is_sent_than_the_client_has_room_for() {
    let (_world, mut keep) = mirror();
    let mut connection = keep.raw().http2().expect("it listens");
    let no_room = frame(SETTINGS, 0, 0, &setting(INITIAL_WINDOW_SIZE, 0));
    connection.write(&[no_room, get(1, "/livez"), ping()].concat()).expect("it reads");
    let mut body = Vec::new();
    let mut acknowledged = 0;
    loop {
        match connection.frame().expect("it goes on") {
            Frame::Data(bytes, last) => {
                assert!(bytes.len() <= 1, "there is room for one byte: {bytes:?}");
                body.extend(bytes);
                if last {
                    break;
                }
                connection.write(&window_update(1, 1)).expect("it reads");
            }
            Frame::Other(kind @ (SETTINGS | PING)) => {
                acknowledged += 1;
                // Its own settings, the two acknowledgements and the answer to the question.
                if acknowledged == 4 {
                    assert!(body.is_empty(), "{body:?}");
                    connection.write(&window_update(1, 1)).expect("it reads");
                }
                assert!(acknowledged <= 4, "{kind}");
            }
            Frame::Head(1, Some(200)) | Frame::Other(WINDOW_UPDATE) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(body, b"ok\n");
}

/// Reads until that is told which was expected, or something worse.
fn fate(mut next: impl FnMut() -> io::Result<Frame>, expected: Fate) -> io::Result<Fate> {
    loop {
        match (next()?, expected) {
            (Frame::GoAway(code), Fate::StreamOver(_)) | (Frame::Reset(code), _) => {
                return Ok(Fate::StreamOver(code));
            }
            (Frame::GoAway(code), _) => return Ok(Fate::Over(code)),
            (Frame::Head(_, Some(200)), _) => return Ok(Fate::Served),
            // A refusal; its stream may still be reset after it.
            (Frame::Head(..), Fate::StreamOver(code)) => return Ok(Fate::StreamOver(code)),
            (Frame::Other(PING), Fate::Ignored) => return Ok(Fate::Ignored),
            (Frame::Head(..) | Frame::Data(..) | Frame::Other(_), _) => {}
        }
    }
}

type Case = (&'static str, &'static str, Vec<u8>, Fate);

fn cases() -> Vec<Case> {
    [framing(), streams(), settings_and_windows(), requests(), compression()].concat()
}

/// Sections 4 and 6: what a frame is, and what each type of it is.
fn framing() -> Vec<Case> {
    let too_long = vec![0; 16_385];
    let open = || post(1, &[]);
    let with_padding = [&[200], &*request("/livez")].concat();
    vec![
        ("4.1", "an unknown type", frame(0xee, 0xff, 0, b"whatever"), Fate::Ignored),
        ("4.1", "unknown flags", frame(PING, 0xfe, 0, &[0; 8]), Fate::Ignored),
        ("4.1", "the reserved bit", frame(PING, 0, 1 << 31, &[0; 8]), Fate::Ignored),
        ("4.2", "DATA too long", [open(), frame(DATA, 0, 1, &too_long)].concat(), SIZE_OVER),
        ("4.2", "HEADERS too long", frame(HEADERS, WHOLE, 1, &too_long), SIZE_OVER),
        ("4.2", "SETTINGS too long", frame(SETTINGS, 0, 0, &too_long), SIZE_OVER),
        ("6.1", "DATA on stream 0", frame(DATA, 0, 0, b"x"), PROTOCOL_OVER),
        (
            "6.1",
            "padding longer than DATA",
            [open(), frame(DATA, PADDED, 1, b"\x09x")].concat(),
            PROTOCOL_OVER,
        ),
        ("6.2", "HEADERS on stream 0", frame(HEADERS, WHOLE, 0, &request("/")), PROTOCOL_OVER),
        (
            "6.2",
            "padding longer than HEADERS",
            frame(HEADERS, WHOLE | PADDED, 1, &with_padding),
            PROTOCOL_OVER,
        ),
        ("6.3", "PRIORITY on stream 0", frame(PRIORITY, 0, 0, &[0, 0, 0, 3, 9]), PROTOCOL_OVER),
        (
            "6.3",
            "PRIORITY of another length",
            [open(), frame(PRIORITY, 0, 1, &[0; 4])].concat(),
            Fate::StreamOver(FRAME_SIZE_ERROR),
        ),
        ("6.4", "RST_STREAM on stream 0", frame(RST_STREAM, 0, 0, &[0; 4]), PROTOCOL_OVER),
        (
            "6.4",
            "RST_STREAM of another length",
            [open(), frame(RST_STREAM, 0, 1, &[0; 3])].concat(),
            SIZE_OVER,
        ),
        ("6.6", "PUSH_PROMISE of a client", push_promise(), PROTOCOL_OVER),
        ("6.7", "PING on a stream", frame(PING, 0, 1, &[0; 8]), PROTOCOL_OVER),
        ("6.7", "PING of another length", frame(PING, 0, 0, &[0; 6]), SIZE_OVER),
        ("6.7", "an answer to no PING", frame(PING, ACK, 0, &[7; 8]), Fate::Ignored),
        ("6.8", "GOAWAY on a stream", frame(GOAWAY, 0, 1, &[0; 8]), PROTOCOL_OVER),
        ("6.10", "CONTINUATION of nothing", frame(CONTINUATION, 4, 1, &[]), PROTOCOL_OVER),
        (
            "6.10",
            "CONTINUATION on stream 0",
            [frame(HEADERS, END_STREAM, 1, &request("/")), frame(CONTINUATION, 4, 0, &[])].concat(),
            PROTOCOL_OVER,
        ),
        (
            "6.10",
            "CONTINUATION after the last",
            [open(), frame(CONTINUATION, END_HEADERS, 1, &[])].concat(),
            PROTOCOL_OVER,
        ),
    ]
}

/// Section 5: which stream may get what when.
fn streams() -> Vec<Case> {
    let begun = || frame(HEADERS, END_STREAM, 1, &request("/livez"));
    let many = (0..200).flat_map(|number| post(2 * number + 1, &[])).collect();
    vec![
        ("4.3", "PRIORITY among headers", [begun(), priority(1)].concat(), PROTOCOL_OVER),
        ("4.3", "another's headers among them", [begun(), get(3, "/")].concat(), PROTOCOL_OVER),
        ("4.3", "PING among headers", [begun(), ping()].concat(), PROTOCOL_OVER),
        ("5.1", "DATA on an idle stream", frame(DATA, END_STREAM, 1, b"x"), PROTOCOL_OVER),
        ("5.1", "RST_STREAM on an idle stream", reset(1), PROTOCOL_OVER),
        ("5.1", "WINDOW_UPDATE on an idle stream", window_update(1, 9), PROTOCOL_OVER),
        ("5.1", "PRIORITY on an idle stream", priority(7), Fate::Ignored),
        (
            "5.1",
            "DATA after the end",
            [get(1, "/livez"), frame(DATA, END_STREAM, 1, b"x")].concat(),
            Fate::StreamOver(STREAM_CLOSED),
        ),
        (
            "5.1",
            "headers after the end",
            [get(1, "/livez"), get(1, "/livez")].concat(),
            Fate::StreamOver(STREAM_CLOSED),
        ),
        (
            "5.1",
            "DATA on a stream that was reset",
            [post(1, &[]), reset(1), frame(DATA, END_STREAM, 1, b"x")].concat(),
            Fate::StreamOver(STREAM_CLOSED),
        ),
        ("5.1.1", "a stream of the server's", get(2, "/livez"), PROTOCOL_OVER),
        (
            "5.1.1",
            "a stream before the last",
            [post(5, &[]), get(3, "/livez")].concat(),
            PROTOCOL_OVER,
        ),
        ("5.1.2", "more streams than permitted", many, Fate::StreamOver(REFUSED_STREAM)),
    ]
}

/// Sections 6.5 and 6.9.
fn settings_and_windows() -> Vec<Case> {
    let set = |name, value| frame(SETTINGS, 0, 0, &setting(name, value));
    let most = window_update(0, WINDOW_MAX);
    vec![
        ("6.5", "an acknowledgement with content", frame(SETTINGS, ACK, 0, &[0; 6]), SIZE_OVER),
        ("6.5", "SETTINGS on a stream", frame(SETTINGS, 0, 1, &[]), PROTOCOL_OVER),
        ("6.5", "half a setting", frame(SETTINGS, 0, 0, &[0; 3]), SIZE_OVER),
        ("6.5.2", "an unknown setting", set(0xff, 1), Fate::Ignored),
        ("6.5.2", "push neither on nor off", set(ENABLE_PUSH, 2), PROTOCOL_OVER),
        ("6.5.2", "a window too large", set(INITIAL_WINDOW_SIZE, 1 << 31), FLOW_CONTROL_OVER),
        ("6.5.2", "frames too small", set(MAX_FRAME_SIZE, 16_383), PROTOCOL_OVER),
        ("6.5.2", "frames too large", set(MAX_FRAME_SIZE, 1 << 24), PROTOCOL_OVER),
        ("6.9", "no room more", window_update(0, 0), PROTOCOL_OVER),
        (
            "6.9",
            "no room more on a stream",
            [post(1, &[]), window_update(1, 0)].concat(),
            Fate::StreamOver(PROTOCOL_ERROR),
        ),
        ("6.9", "another length", frame(WINDOW_UPDATE, 0, 0, &[0; 3]), SIZE_OVER),
        ("6.9.1", "more room than there is", most.repeat(2), FLOW_CONTROL_OVER),
        (
            "6.9.1",
            "more room than there is on a stream",
            [post(1, &[]), window_update(1, WINDOW_MAX), window_update(1, WINDOW_MAX)].concat(),
            Fate::StreamOver(FLOW_CONTROL_ERROR),
        ),
    ]
}

/// Section 8: what is a request.
fn requests() -> Vec<Case> {
    let path = field(":path", "/livez");
    let with = |more: &[u8]| frame(HEADERS, WHOLE, 1, &[&request("/livez"), more].concat());
    let authority = |host| field(":authority", host);
    let of = |block: &[&[u8]]| {
        frame(HEADERS, WHOLE, 1, &[&authority("localhost"), &*block.concat()].concat())
    };
    let to = |host: &[u8]| frame(HEADERS, WHOLE, 1, &[&[GET, HTTPS], &*path, host].concat());
    let malformed = Fate::StreamOver(PROTOCOL_ERROR);
    let trailers = |block: &[u8]| {
        let body = frame(DATA, 0, 1, b"token=x");
        [post(1, &[]), body, frame(HEADERS, WHOLE, 1, block)].concat()
    };
    let announced = |length: &str, data: &[&[u8]]| {
        let mut bytes = post(1, &field("content-length", length));
        for (number, chunk) in (1..).zip(data) {
            let flags = if number == data.len() { END_STREAM } else { 0 };
            bytes.extend(frame(DATA, flags, 1, chunk));
        }
        bytes
    };
    vec![
        ("8.1", "a request as it should be", get(1, "/livez"), Fate::Served),
        (
            "8.1",
            "trailers that are not the end",
            [post(1, &[]), frame(HEADERS, END_HEADERS, 1, &field("x", "y"))].concat(),
            malformed,
        ),
        ("8.1.1", "less than was announced", announced("9", &[b"token=x"]), malformed),
        ("8.1.1", "more than was announced", announced("1", &[b"token=x"]), malformed),
        ("8.1.1", "more in two parts", announced("1", &[b"token", b"=x"]), malformed),
        ("8.1.1", "a length that is no number", announced("1x", &[b"x"]), malformed),
        ("8.2.1", "upper case in a name", with(&field("X-Upper", "y")), malformed),
        ("8.2.1", "a blank in a name", with(&field("a b", "y")), malformed),
        ("8.2.1", "a line feed in a value", with(&field("a", "b\r\nc: d")), malformed),
        ("8.2.1", "a NUL in a value", with(&field("a", "b\0c")), malformed),
        ("8.2.2", "connection", with(&field("connection", "keep-alive")), malformed),
        ("8.2.2", "transfer-encoding", with(&field("transfer-encoding", "chunked")), malformed),
        ("8.2.2", "upgrade", with(&field("upgrade", "h2c")), malformed),
        ("8.2.2", "te", with(&field("te", "gzip")), malformed),
        ("8.3", "an unknown pseudo-field", with(&field(":unknown", "x")), malformed),
        ("8.3", "one of an answer", with(&field(":status", "200")), malformed),
        ("8.3", "one after others", of(&[&[GET, HTTPS], &field("a", "b"), &path]), malformed),
        ("8.3", "one among trailers", trailers(&field(":path", "/")), malformed),
        ("8.3.1", "no method", of(&[&[HTTPS], &path]), malformed),
        ("8.3.1", "no scheme", of(&[&[GET], &path]), malformed),
        ("8.3.1", "no path", of(&[&[GET, HTTPS]]), malformed),
        ("8.3.1", "an empty path", of(&[&[GET, HTTPS], &field(":path", "")]), malformed),
        ("8.3.1", "two methods", of(&[&[GET, GET, HTTPS], &path]), malformed),
        ("8.3.1", "two paths", of(&[&[GET, HTTPS], &path, &path]), malformed),
        ("8.3.1", "a host", to(&field("host", "localhost")), Fate::Served),
        ("8.3.1", "the same twice", with(&field("host", "LOCALHOST:443")), Fate::Served),
        ("8.3.1", "no host at all", to(&[]), malformed),
        ("8.3.1", "an empty host", to(&field("host", "")), malformed),
        ("8.3.1", "a host that is none", to(&field("host", "a b")), malformed),
        ("8.3.1", "an authority that is none", to(&authority("[::1")), malformed),
        ("8.3.1", "a user in the authority", to(&authority("user@localhost")), malformed),
        ("8.3.1", "a port that is none", to(&authority("localhost:99999999")), malformed),
        ("8.3.1", "another host as well", with(&field("host", "evil.example")), malformed),
        ("8.3.1", "another port as well", with(&field("host", "localhost:444")), malformed),
        ("8.3.1", "two hosts", to(&field("host", "localhost").repeat(2)), malformed),
        ("8.5", "a tunnel", of(&[&field(":method", "CONNECT")]), malformed),
    ]
}

/// RFC 7541.
fn compression() -> Vec<Case> {
    let with = |more: &[u8]| frame(HEADERS, WHOLE, 1, &[&request("/livez"), more].concat());
    let over = Fate::Over(COMPRESSION_ERROR);
    vec![
        ("7541, 2.3.3", "a field that is not in the table", with(&[0xff, 0x20]), over),
        ("7541, 4.2", "a table larger than permitted", with(&[0x3f, 0xff, 0xff, 0x7f]), over),
        ("7541, 5.1", "a number without end", with(&[0xff; 32]), over),
        ("7541, 5.2", "a text longer than the block", with(&[0x00, 0x7e, b'x']), over),
        ("7541, 5.2", "padding that is none", with(&[0x00, 0x81, 0x00, 0x01, b'x']), over),
        ("7541, 6.1", "field 0", with(&[0x80]), over),
    ]
}

/// The beginning of a POST, with a body to come.
fn post(stream: u32, more: &[u8]) -> Vec<u8> {
    let whole = [field(":path", "/login"), field(":authority", "localhost")].concat();
    let fields = [&[POST, HTTPS], &*whole, more].concat();
    frame(HEADERS, END_HEADERS, stream, &fields)
}

fn priority(stream: u32) -> Vec<u8> {
    frame(PRIORITY, 0, stream, &[0, 0, 0, 3, 9])
}

fn push_promise() -> Vec<u8> {
    let promised = [&2_u32.to_be_bytes()[..], &request("/")].concat();
    [post(1, &[]), frame(PUSH_PROMISE, END_HEADERS, 1, &promised)].concat()
}

fn setting(name: u16, value: u32) -> Vec<u8> {
    [&name.to_be_bytes()[..], &value.to_be_bytes()].concat()
}

fn mirror() -> (World, Keep) {
    let world = World::start();
    world.publish(&Repo::new([Package::bare("hello", "1.0")]));
    let mut keep = start(&Mirror::of(&world));
    keep.index();
    (world, keep)
}

const WHOLE: u8 = END_STREAM | END_HEADERS;
const WINDOW_MAX: u32 = (1 << 31) - 1;

/// Fields of HPACK's static table.
const GET: u8 = 0x82;
const POST: u8 = 0x83;
const HTTPS: u8 = 0x87;

/// Settings (section 6.5.2).
const ENABLE_PUSH: u16 = 2;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;

/// Error codes (section 7).
const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const REFUSED_STREAM: u32 = 7;
const COMPRESSION_ERROR: u32 = 9;

const PROTOCOL_OVER: Fate = Fate::Over(PROTOCOL_ERROR);
const SIZE_OVER: Fate = Fate::Over(FRAME_SIZE_ERROR);
const FLOW_CONTROL_OVER: Fate = Fate::Over(FLOW_CONTROL_ERROR);
