#![no_main]
facematch_fuzz::target!("manifest");
