//! `taf`: what people do with TAF from a terminal.
//!
//! Speaks the public API only, like any other program; what needs no server (reading tapes, comparing trees) is done
//! here by the same crates that the agents use. Standard output is data, standard error is talk, and the exit status
//! means something: 0 done, 1 failed, 2 asked wrongly, 3 done with issues.
#![forbid(unsafe_code)]

mod client;
mod command;
mod failure;
mod flow;
mod follow;
mod human;
mod incomplete;
mod iscsi;
mod login;
mod next_step;
mod output;
mod password;
mod preview;
mod progress;
mod resource;
mod sink;
mod tape;

fn main() -> std::process::ExitCode {
    command::main()
}
