//! Requests to addresses that a user has named. What lives here keeps them from reaching this machine and its
//! neighbours, from being led elsewhere, and from taking long or much.

pub mod address;
pub mod post;
mod tls;
