//! Real interpreters, compared with what they say themselves.

mod explained;
mod sites;
