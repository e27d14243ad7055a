//! Cuts a JSON array into its elements while it streams by.

use memchr::memchr2;

use super::CatalogueError;

/// The largest element that is taken, in bytes; the largest real one is about 100 kB.
const LARGEST_ELEMENT: usize = 8 << 20;

/// Finds where each element of a top-level array begins and ends.
///
/// It follows brackets and strings only; whether an element is valid JSON is
/// for its reader to say. An element that lies whole in one chunk is lent from
/// there, others are gathered first.
#[derive(Default)]
pub(super) struct ArraySplitter {
    state: State,
    /// Brackets open inside the current element.
    depth: u32,
    in_string: bool,
    escaped: bool,
    /// The part of the current element that earlier chunks held.
    partial: Vec<u8>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    BeforeArray,
    /// Between elements.
    Between,
    InElement,
    AfterArray,
}

impl ArraySplitter {
    /// Takes the next bytes and hands every element that they complete to `each`.
    pub(super) fn push(&mut self, chunk: &[u8], mut each: impl FnMut(&[u8])) -> Result<(), CatalogueError> {
        let mut start = 0;
        let mut at = 0;
        while at < chunk.len() {
            match self.state {
                State::BeforeArray => {
                    match chunk[at] {
                        b'[' => self.state = State::Between,
                        byte if byte.is_ascii_whitespace() => {}
                        _ => return Err(CatalogueError::NotAnArray("it begins with something else")),
                    }
                    at += 1;
                }
                State::Between => {
                    match chunk[at] {
                        b']' => self.state = State::AfterArray,
                        b',' => {}
                        byte if byte.is_ascii_whitespace() => {}
                        _ => {
                            self.state = State::InElement;
                            start = at;
                            continue;
                        }
                    }
                    at += 1;
                }
                State::InElement => {
                    let Some(end) = self.end_of_element(chunk, &mut at) else { break };
                    if self.partial.is_empty() {
                        each(&chunk[start..end]);
                    } else {
                        self.partial.extend_from_slice(&chunk[start..end]);
                        each(&self.partial);
                        self.partial.clear();
                    }
                    self.state = State::Between;
                }
                State::AfterArray => {
                    if !chunk[at].is_ascii_whitespace() {
                        return Err(CatalogueError::NotAnArray("something follows its end"));
                    }
                    at += 1;
                }
            }
        }
        if self.state == State::InElement {
            self.partial.extend_from_slice(&chunk[start..]);
            if self.partial.len() > LARGEST_ELEMENT {
                return Err(CatalogueError::ElementTooLarge { limit: LARGEST_ELEMENT });
            }
        }
        Ok(())
    }

    /// Ends the document, of which `seen` elements were complete.
    pub(super) fn finish(&self, seen: usize) -> Result<(), CatalogueError> {
        match self.state {
            State::AfterArray => Ok(()),
            State::BeforeArray => Err(CatalogueError::NotAnArray("it is empty")),
            State::Between | State::InElement => Err(CatalogueError::Truncated { formulae: seen }),
        }
    }

    /// Moves `at` along the element; where it ends (exclusive), if in this chunk.
    fn end_of_element(&mut self, chunk: &[u8], at: &mut usize) -> Option<usize> {
        while *at < chunk.len() {
            if self.escaped {
                self.escaped = false;
                *at += 1;
                continue;
            }
            if self.in_string {
                let Some(next) = memchr2(b'"', b'\\', &chunk[*at..]) else {
                    *at = chunk.len();
                    return None;
                };
                *at += next + 1;
                match chunk[*at - 1] {
                    b'"' => self.in_string = false,
                    _ => self.escaped = true,
                }
                continue;
            }
            match chunk[*at] {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                // An element that is a bare number or word ends at its neighbour.
                b',' | b']' if self.depth == 0 => return Some(*at),
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
            *at += 1;
        }
        None
    }
}
