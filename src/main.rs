//! The facematch program.

fn main() {}
