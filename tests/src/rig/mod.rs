//! Servers and programs of a test, each in a temp folder and on a free port of the loopback, each ended when dropped.

pub mod browser;
pub mod clock;
pub mod controller;
pub mod disk;
pub mod files;
pub mod front;
pub mod hook;
pub mod nginx;
pub mod process;
pub mod program;
pub mod s3;
pub mod sink;
pub mod trap;
pub mod wanted;
pub mod wire;
pub mod worker;
