#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| harness::workers::providers::fuzzing::chat_completions(data));
