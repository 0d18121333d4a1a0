//! What the programs of `fuzz_targets/` are.

/// Makes the program of a target of `facematch::fuzzing`.
#[macro_export]
macro_rules! target {
    ($name:literal) => {
        static RUN: std::sync::LazyLock<facematch::fuzzing::Run> =
            std::sync::LazyLock::new(|| facematch::fuzzing::open($name));

        libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (*RUN)(bytes));
    };
}
