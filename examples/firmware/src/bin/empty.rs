//! Nothing: start-up and exit, which `minimal.rs` has too.

#![no_std]
#![no_main]

mote_firmware::start!(program);

fn program() -> ! {
    mote_firmware::board::exit(0)
}
