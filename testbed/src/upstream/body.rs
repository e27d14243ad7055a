//! Bodies: where their bytes come from, and how they are sent or cut off.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use tokio::time::{Sleep, sleep};

use crate::content::{Content, Generator, index};
use crate::log::Ticket;

/// Bytes that a file or a run of zeros gives to the connection at once.
pub(crate) const PIECE: u64 = 256 * 1024;
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// What was sent before a connection is closed has to leave the buffers first.
const FLUSH: Duration = Duration::from_millis(5);

/// The bytes of an object.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    File(Bytes),
    Bottle(Arc<Generator>, Content),
}

impl Source {
    /// Bytes.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::File(bytes) => bytes.len() as u64,
            Self::Bottle(_, content) => content.size,
        }
    }

    /// The next bytes at `at`, not beyond `end`. Past the object's end come zeros.
    fn piece(&self, at: u64, end: u64) -> Bytes {
        let own = end.min(self.len());
        if at >= own {
            let zeros = Bytes::from_static(&ZEROS);
            return zeros.slice(..index(end - at).min(ZEROS.len()));
        }
        match self {
            Self::File(bytes) => bytes.slice(index(at)..index(own.min(at + PIECE))),
            Self::Bottle(generator, content) => generator.piece(*content, at, own),
        }
    }
}

/// A part of an object on its way out.
#[derive(Debug)]
pub(crate) struct Sending {
    pub(crate) source: Source,
    /// The next byte of the object.
    pub(crate) at: u64,
    /// One past the last.
    pub(crate) end: u64,
    /// The byte of the object that is sent wrong.
    pub(crate) corrupt: Option<u64>,
    /// The byte of the object before which the sending stops.
    pub(crate) stop: Option<(u64, Stop)>,
    pub(crate) waiting: Option<(Pin<Box<Sleep>>, Stop)>,
    pub(crate) ticket: Ticket,
}

/// Why the sending stops.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stop {
    Pause(Duration),
    Close,
}

impl Stream for Sending {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if let Some((timer, why)) = &mut self.waiting {
            let why = *why;
            if timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.waiting = None;
            if let Stop::Close = why {
                return Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into())));
            }
        }
        if self.at >= self.end {
            self.ticket.finish();
            return Poll::Ready(None);
        }
        let at = self.at;
        if let Some((_, why)) = self.stop.take_if(|(place, _)| *place == at) {
            let pause = match why {
                Stop::Pause(pause) => pause,
                Stop::Close => FLUSH,
            };
            self.waiting = Some((Box::pin(sleep(pause)), why));
            return self.poll_next(context);
        }
        let end = self.stop.map_or(self.end, |(place, _)| place);
        let mut piece = self.source.piece(self.at, end);
        let after = self.at + piece.len() as u64;
        if let Some(place) = self.corrupt
            && (self.at..after).contains(&place)
        {
            let mut wrong = piece.to_vec();
            wrong[index(place - self.at)] ^= 0xff;
            piece = wrong.into();
        }
        self.at = after;
        self.ticket.sent(piece.len() as u64);
        if self.at == self.end {
            self.ticket.finish();
        }
        Poll::Ready(Some(Ok(piece)))
    }
}
