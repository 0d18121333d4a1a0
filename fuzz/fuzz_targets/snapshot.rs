#![no_main]
facematch_fuzz::target!("snapshot");
