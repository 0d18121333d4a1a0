#![no_main]
facematch_fuzz::target!("gallery_file");
