//! The plain host of flat files: no questions asked, no indexes.

use axum::http::header;

use super::answer::Answer;
use super::body::Source;
use super::server::Call;
use super::state::Shared;
use crate::escape::unescape;

pub(crate) fn answer(shared: &Shared, call: &Call) -> Answer {
    let path = unescape(&call.path);
    let Some((generator, content)) = path.and_then(|path| shared.published().flat_file(&path)) else {
        return Answer::failure(404, None);
    };
    let range = call.header(header::RANGE);
    let fault = call.body_fault(&shared.faults, range.is_some(), false);
    Answer::object(Source::Bottle(generator, content), "application/gzip").with_range(range).with_fault(fault)
}
