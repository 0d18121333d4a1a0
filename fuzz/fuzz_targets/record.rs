#![no_main]
facematch_fuzz::target!("record");
