//! What was: time on the air, runs, and what was played. Kept in files, one folder per channel, because every one of
//! these grows slowly, is written by one hand, and is read from its end. Knows neither processes nor HTTP.

pub mod as_run;
pub mod clock;
pub mod csv;
pub mod events;
pub mod ledger;
pub mod runs;
