//! What was and how it is: the log of what was on the air, the history of runs, and the health of a channel.

pub mod as_run;
pub mod health;
pub mod quality;
pub mod runs;
pub mod shown;
