#![no_main]
facematch_fuzz::target!("unpack");
