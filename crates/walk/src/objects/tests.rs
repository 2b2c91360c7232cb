//! Real interpreters, compared with what they say themselves.

mod sites;
