//! The border with C, generated from `c-shim/shim.h`.

#![allow(non_camel_case_types, non_upper_case_globals, reason = "C's names")]
#![allow(clippy::all, clippy::pedantic, clippy::undocumented_unsafe_blocks, reason = "generated")]
#![allow(unused_qualifications, unreachable_pub, dead_code, reason = "generated")]

include!(concat!(env!("OUT_DIR"), "/shim.rs"));

// The other half of the assertions at the end of c-shim/server_plugin.c.
const _: () = assert!(size_of::<ifo_connection>() == 40);
const _: () = assert!(size_of::<ifo_statement>() == 16);
const _: () = assert!(size_of::<ifo_activity>() == 16);
const _: () = assert!(size_of::<ifo_glance>() == 4);
const _: () = assert!(size_of::<ifo_counters>() == 13 * 8);
