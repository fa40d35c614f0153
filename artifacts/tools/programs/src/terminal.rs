//! A terminal of a test's own: what a program writes on one that reports a number of columns.

use std::{
    fs::File,
    io::{self, Read},
    process::{Command, ExitStatus},
};

use nix::pty::{Winsize, openpty};

/// Lines that it reports; nothing that is tested reads them.
const ROWS: u16 = 24;

/// Runs `command` to its end with standard output on a terminal that reports this many `columns`; how it ended, and what it
/// wrote there.
///
/// # Errors
/// If there can be no terminal, the command cannot be started, or it writes no UTF-8.
pub fn on_a_terminal(mut command: Command, columns: u16) -> io::Result<(ExitStatus, String)> {
    let size = Winsize { ws_row: ROWS, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let pair = openpty(Some(&size), None)?;
    let (mut screen, side) = (File::from(pair.master), File::from(pair.slave));
    let mut child = command.stdout(side).spawn()?;
    // It has the terminal's other side open too.
    drop(command);
    let mut shown = Vec::new();
    let mut bytes = [0; 4096];
    // Reading ends with an error when nobody has the other side open any more.
    while let Ok(count @ 1..) = screen.read(&mut bytes) {
        shown.extend_from_slice(&bytes[..count]);
    }
    let status = child.wait()?;
    let shown = String::from_utf8(shown).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok((status, shown.replace("\r\n", "\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_on_the_terminal_comes_back_with_its_width() {
        let mut command = Command::new("sh");
        command.args(["-c", "test -t 1 && stty size <&1; exit 3"]);
        let (status, shown) = on_a_terminal(command, 97).unwrap();
        assert_eq!((status.code(), shown.as_str()), (Some(3), "24 97\n"));
    }
}
