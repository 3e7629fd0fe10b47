//! A short round of kills by a fixed seed. A long one: `cargo run -p e2e --bin kills -- --seconds 600 --seed 7`.

use std::time::Duration;

#[test]
fn all_agree_after_half_a_minute_of_kills() -> anyhow::Result<()> {
    let report = e2e::kills::run(Duration::from_secs(30), 4)?;
    println!("{}", report.line());
    Ok(())
}
