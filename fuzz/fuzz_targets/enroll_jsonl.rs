#![no_main]
facematch_fuzz::target!("enroll_jsonl");
