//! bed
fn main() {}
