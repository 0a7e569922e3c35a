//! The program; everything is in the library.

fn main() -> std::process::ExitCode {
    roomlift::cli::main(std::env::args_os())
}
