//! What an upstream may do instead of answering well.

/// One way to answer wrongly. Where a URL has bytes, they stay as they are: the truth can be told
/// again afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lie {
    /// The right length, one bit wrong in the middle.
    FlippedByte,
    /// These bytes instead, all headers in order.
    Bytes(Vec<u8>),
    /// A page of HTML with status 200, as captive portals and parked domains send.
    Html,
    /// `Content-Length` promises everything; half of it comes, then the connection is cut.
    CutShort,
    /// Half of the bytes, and a `Content-Length` that says so.
    Half,
    /// The right bytes, and then more and more of them, chunked, without end.
    Endless,
    /// The connection is taken and nothing is ever said.
    NoHead,
    /// The head and half of the body, then nothing, with the connection left open.
    StallMidBody,
    /// A redirect to anywhere.
    Redirect(String),
    /// A status, with an error page that is no archive.
    Status(u16),
    /// Status 503, and to come back after so many seconds.
    Busy(u32),
    /// The right bytes, so many of them each second.
    Slow(u64),
    /// The same without a word on how many there will be.
    Unannounced(u64),
    /// The right bytes under an `ETag` that is another one each time.
    Unstable,
    /// The connection is closed without a word.
    HangUp,
}
