//! Rigs and measurements for tests that run the real programs from end to end.
//!
//! Here live: clips that say what they are in picture and sound ([`media`], [`zoo`], [`rare`]), the reading of a
//! recording ([`recording`], [`runs`], [`analysis`]), a loopback RTMP sink ([`sink`]), faults by name ([`faults`]) and
//! the servers and programs of a test ([`rig`]).
//! Nothing of the product lives here, and nothing here imitates a part of the product.

pub mod analysis;
pub mod blind;
pub mod boxes;
pub mod faults;
pub mod kills;
pub mod media;
pub mod picture;
pub mod rare;
pub mod recording;
pub mod rig;
pub mod runs;
pub mod sink;
pub mod sound;
pub mod surviving;
pub mod trace;
pub mod zoo;
