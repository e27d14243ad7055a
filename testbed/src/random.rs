//! Numbers that depend on nothing but their inputs.

/// The mixing step of `SplitMix64`: every input bit reaches every output bit.
pub(crate) fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// One number for an ordered list of numbers.
pub(crate) fn mix_all(values: &[u64]) -> u64 {
    values.iter().fold(0, |state, value| mix(state ^ value))
}

/// One number for a list of texts; `["ab", "c"]` and `["a", "bc"]` differ.
pub(crate) fn mix_text(parts: &[&str]) -> u64 {
    let mut state = 0;
    for part in parts {
        for byte in part.bytes() {
            state = mix(state ^ u64::from(byte));
        }
        state = mix(state ^ 0x100);
    }
    state
}

/// 40 hexadecimal digits in the shape of a git commit.
pub(crate) fn commit(value: u64) -> String {
    let tail = u32::try_from(mix(value ^ 2) >> 32).unwrap_or_default();
    format!("{:016x}{:016x}{tail:08x}", mix(value), mix(value ^ 1))
}
