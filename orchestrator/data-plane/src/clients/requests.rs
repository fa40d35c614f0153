//! Follows the requests of an HTTP/1.1 connection for properties that the HTTP library drops silently: a fragment in
//! the target, which a request line cannot have (RFC 9112, section 3.2), and a length next to a transfer coding
//! (section 6.1). It parses line by line and skips bodies, as long as the input is readable at all: the library refuses
//! the rest and closes the connection.

use super::dropped::Dropped;

/// Parser state of an HTTP/1.1 connection.
#[derive(Debug, Default)]
pub(super) struct Requests {
    position: Position,
    count: u64,
    line: Line,
    body: Body,
    /// The current request has a Content-Length.
    has_length: bool,
}

/// A header line, as far as it was received.
#[derive(Debug, Default)]
struct Line {
    bytes: usize,
    /// The field name so far, cut once it cannot matter.
    name: Vec<u8>,
    field: Field,
}

/// Meaning of a header line for the body.
#[derive(Clone, Copy, Debug, Default)]
enum Field {
    /// Undecided: the field name is not complete.
    #[default]
    Name,
    /// Content-Length, as parsed so far; `None` if it is not a number.
    Length(Option<u64>),
    /// Transfer-Encoding: the body is chunked. The library refuses any other coding.
    Coding,
    /// Any other field.
    Other,
}

/// Position of the next byte within a request.
#[derive(Clone, Copy, Debug, Default)]
enum Position {
    /// Before the request line, where empty lines are skipped (RFC 9112, section 2.2).
    #[default]
    Begin,
    /// In the request line, after this number of spaces.
    Line { spaces: u32, has_fragment: bool },
    /// In a header line.
    Fields,
    /// In the trailer section.
    Trailers(Trailers),
    /// In a body, or in a chunk and its line end, with this number of bytes left.
    Body { left: u64 },
    /// In a chunk size, or in its extensions once it `ended`.
    Size { bytes: u64, ended: bool },
    /// The input is not parseable any more.
    Unparseable,
}

/// Position within a trailer section. The library ends it at the first empty line and accepts only CRLF.
#[derive(Clone, Copy, Debug)]
enum Trailers {
    LineBegins,
    Line,
    LineEnds,
    SectionEnds,
}

/// Framing of a request's body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Body {
    #[default]
    None,
    Bytes(u64),
    /// The length is not a number.
    Unreadable,
    Chunks,
}

impl Requests {
    /// Consumes the next received `bytes` and records in `dropped` what the library does not expose.
    pub(super) fn pass(&mut self, mut bytes: &[u8], dropped: &Dropped) {
        while let Some(&first) = bytes.first() {
            bytes = match self.position {
                Position::Begin if first == b'\r' || first == b'\n' => &bytes[1..],
                Position::Begin => {
                    self.count += 1;
                    self.body = Body::None;
                    self.has_length = false;
                    self.position = Position::Line { spaces: 0, has_fragment: false };
                    bytes
                }
                Position::Line { spaces, has_fragment } => self.pass_line(bytes, spaces, has_fragment, dropped),
                Position::Fields => self.pass_field(bytes, dropped),
                Position::Trailers(trailers) => {
                    self.position = trailers.then(first);
                    &bytes[1..]
                }
                Position::Body { left } => {
                    let count = left.min(bytes.len() as u64);
                    self.position = match left - count {
                        0 if self.body == Body::Chunks => Position::Size { bytes: 0, ended: false },
                        0 => Position::Begin,
                        left => Position::Body { left },
                    };
                    &bytes[usize::try_from(count).unwrap_or(bytes.len())..]
                }
                Position::Size { bytes: size, ended } => {
                    self.pass_size(first, size, ended);
                    &bytes[1..]
                }
                Position::Unparseable => return,
            };
        }
    }

    /// Requests received to the last byte of their bodies, as far as they are parseable.
    pub(super) fn whole(&self) -> u64 {
        match self.position {
            Position::Begin => self.count,
            _ => self.count.saturating_sub(1),
        }
    }

    fn pass_line<'a>(
        &mut self,
        bytes: &'a [u8],
        mut spaces: u32,
        mut has_fragment: bool,
        dropped: &Dropped,
    ) -> &'a [u8] {
        for (index, byte) in bytes.iter().enumerate() {
            match byte {
                b' ' => spaces += 1,
                // Behind the first space is the target (RFC 9112, section 3). A `#` elsewhere is no fragment.
                b'#' => has_fragment |= spaces == 1,
                b'\n' => {
                    if has_fragment {
                        dropped.fragment.push(self.count);
                    }
                    self.position = Position::Fields;
                    return &bytes[index + 1..];
                }
                _ => {}
            }
        }
        self.position = Position::Line { spaces, has_fragment };
        &[]
    }

    fn pass_field<'a>(&mut self, bytes: &'a [u8], dropped: &Dropped) -> &'a [u8] {
        let end = bytes.iter().position(|&byte| byte == b'\n');
        self.line.pass(&bytes[..end.unwrap_or(bytes.len())]);
        let Some(end) = end else { return &[] };
        if self.line.is_empty() {
            self.position = self.begin_body(dropped);
        } else {
            self.apply_field(self.line.field);
        }
        self.line.clear();
        &bytes[end + 1..]
    }

    /// The position after a complete header section.
    fn begin_body(&self, dropped: &Dropped) -> Position {
        match self.body {
            Body::None | Body::Bytes(0) => Position::Begin,
            Body::Bytes(left) => Position::Body { left },
            Body::Unreadable => Position::Unparseable,
            Body::Chunks => {
                if self.has_length {
                    dropped.length.push(self.count);
                }
                Position::Size { bytes: 0, ended: false }
            }
        }
    }

    fn apply_field(&mut self, field: Field) {
        match field {
            // A transfer coding overrides a length, in either order (RFC 9112, section 6.3).
            Field::Coding => self.body = Body::Chunks,
            Field::Length(length) => {
                self.has_length = true;
                if self.body != Body::Chunks {
                    self.body = length.map_or(Body::Unreadable, Body::Bytes);
                }
            }
            Field::Name | Field::Other => {}
        }
    }

    /// Consumes the next byte of a chunk size line.
    fn pass_size(&mut self, byte: u8, size: u64, ended: bool) {
        let digit = char::from(byte).to_digit(16).filter(|_| !ended);
        self.position = match (byte, digit) {
            (b'\n', _) if size == 0 => Position::Trailers(Trailers::LineBegins),
            // The chunk and its line end.
            (b'\n', _) => Position::Body { left: size.saturating_add(2) },
            (_, Some(digit)) => match size.checked_mul(16) {
                Some(size) => Position::Size { bytes: size + u64::from(digit), ended },
                None => Position::Unparseable,
            },
            (_, None) => Position::Size { bytes: size, ended: true },
        };
    }
}

impl Trailers {
    fn then(self, byte: u8) -> Position {
        match (self, byte) {
            (Self::LineBegins, b'\r') => Position::Trailers(Self::SectionEnds),
            (Self::Line, b'\r') => Position::Trailers(Self::LineEnds),
            (Self::LineBegins | Self::Line, _) => Position::Trailers(Self::Line),
            (Self::LineEnds, b'\n') => Position::Trailers(Self::LineBegins),
            (Self::SectionEnds, b'\n') => Position::Begin,
            (Self::LineEnds | Self::SectionEnds, _) => Position::Unparseable,
        }
    }
}

impl Line {
    const CODING: &[u8] = b"transfer-encoding";
    const LENGTH: &[u8] = b"content-length";

    /// Consumes the next received bytes of the line.
    fn pass(&mut self, mut bytes: &[u8]) {
        // The first byte rules out most names, which are then neither stored nor compared.
        if self.bytes == 0 && !bytes.first().is_none_or(|first| b"cCtT\r".contains(first)) {
            self.field = Field::Other;
        }
        self.bytes += bytes.len();
        while let (Field::Name, Some((&byte, rest))) = (self.field, bytes.split_first()) {
            bytes = rest;
            match byte {
                b':' => self.field = Field::of(&self.name),
                // Longer than both names, so the buffer stays bounded whatever the client sends.
                _ if self.name.len() == Self::CODING.len() => self.field = Field::Other,
                _ => self.name.push(byte),
            }
        }
        if let Field::Length(length) = &mut self.field {
            // Any number of blanks and zeros is allowed.
            let digits = bytes.iter().filter(|byte| !b" \t\r".contains(byte));
            *length = digits.fold(*length, |length, &byte| {
                let digit = char::from(byte).to_digit(10)?;
                length?.checked_mul(10)?.checked_add(digit.into())
            });
        }
    }

    /// Returns true if the line ends the section.
    fn is_empty(&self) -> bool {
        self.bytes == self.name.len() && matches!(&self.name[..], b"" | b"\r")
    }

    fn clear(&mut self) {
        self.bytes = 0;
        self.name.clear();
        self.field = Field::Name;
    }
}

impl Field {
    fn of(name: &[u8]) -> Self {
        if name.eq_ignore_ascii_case(Line::CODING) {
            Self::Coding
        } else if name.eq_ignore_ascii_case(Line::LENGTH) {
            Self::Length(Some(0))
        } else {
            Self::Other
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The requests of `pieces` with a fragment, and those with two framings.
    fn found(pieces: [&[u8]; 2]) -> [Vec<u64>; 2] {
        let (mut requests, dropped) = (Requests::default(), Dropped::default());
        for piece in pieces {
            requests.pass(piece, &dropped);
        }
        [&dropped.fragment, &dropped.length]
            .map(|marks| (1..=requests.count).filter(|&number| marks.take(number)).collect())
    }

    /// The same for `bytes`, wherever they are cut.
    fn found_in(bytes: &str) -> [Vec<u64>; 2] {
        let whole = found([bytes.as_bytes(), b""]);
        for cut in 0..bytes.len() {
            let (before, after) = bytes.as_bytes().split_at(cut);
            assert_eq!(found([before, after]), whole, "{bytes} cut at {cut}");
        }
        whole
    }

    #[test]
    fn a_fragment_in_a_target_is_found_wherever_the_input_is_cut() {
        let padded = format!(
            "POST / HTTP/1.1\r\ncontent-length: {}20{}\r\n\r\nGET /#1 HTTP/1.1\r\n\r\nGET /#2 HTTP/1.1\r\n\r\n",
            "0".repeat(60),
            " \t".repeat(60),
        );
        let long = format!("GET /{}#{} HTTP/1.1\r\n\r\n", "a".repeat(2000), "b".repeat(2000));
        let cases: [(&str, &[u64]); 17] = [
            // The trailer sections of the first requests end where the library sees their end.
            (
                "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n\
                 0\r\n\nGET /#1 HTTP/1.1\r\n\r\nGET /#2 HTTP/1.1\r\n\r\n",
                &[2],
            ),
            (
                "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n\
                 0\r\na: b\n\r\nGET /#1 HTTP/1.1\r\n\r\nGET /#2 HTTP/1.1\r\n\r\n",
                &[2],
            ),
            (
                "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\na: b\r\nc: d\r\n\r\nGET /#2 HTTP/1.1\r\n\r\n",
                &[2],
            ),
            ("GET /a#b HTTP/1.1\r\n\r\n", &[1]),
            ("\r\n\nGET # HTTP/1.0\n\n", &[1]),
            (&long, &[1]),
            (&padded, &[2]),
            ("GET /a HTTP/1.1#\r\n\r\n", &[]),
            ("GET /a HTTP/1.1\r\nx-color: #fff\r\nx-see: GET /#1 HTTP/1.1\r\n\r\n", &[]),
            ("GET /a HTTP/1.1\r\n\r\nGET /#b HTTP/1.1\r\n\r\nGET /c HTTP/1.1\r\n\r\nGET /#d HTTP/1.1\r\n\r\n", &[2, 4]),
            ("POST / HTTP/1.1\r\nContent-Length: 19\r\n\r\nGET /#1 HTTP/1.1\r\n\nGET /#2 HTTP/1.1\r\n\r\n", &[2]),
            ("POST / HTTP/1.1\r\nCONTENT-LENGTH:0\r\n\r\nGET /#2 HTTP/1.1\r\n\r\n", &[2]),
            (
                "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n\
                 12;x=1\r\nGET /#1 HTTP/1.1\r\n\r\n0\r\nt: u\r\n\r\nGET /#2 HTTP/1.1\r\n\r\n",
                &[2],
            ),
            ("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /a HTTP/1.1\r\nx: #\r\n\r\n", &[]),
            ("POST / HTTP/1.1\r\ncontent-length: x\r\n\r\nGET /#2 HTTP/1.1\r\n\r\n", &[]),
            ("POST / HTTP/1.1\r\ncontent-type: text/plain\r\n\r\nGET /#2 HTTP/1.1\r\n\r\n", &[2]),
            ("", &[]),
        ];
        for (bytes, expected) in cases {
            assert_eq!(found_in(bytes)[0], expected, "{bytes}");
        }
    }

    #[test]
    fn a_length_beside_a_transfer_coding_is_found_in_either_order() {
        let body = "3\r\nabc\r\n0\r\ncontent-length: 1\r\n\r\n";
        let padded = format!("content-length:{}4", "\t ".repeat(60));
        let cases: [(&[&str], &[u64]); 7] = [
            (&[&padded, "transfer-encoding: chunked"], &[1, 3]),
            (&["content-length: 18446744073709551616", "transfer-encoding: chunked"], &[1, 3]),
            (&["Content-Length: 4", "Transfer-Encoding: chunked"], &[1, 3]),
            (&["transfer-encoding: chunked", "content-length: 4"], &[1, 3]),
            (&["transfer-encoding: chunked", "content-length: x"], &[1, 3]),
            (&["transfer-encoding: chunked"], &[]),
            (&["transfer-encoding: chunked", "x-content-length: 4"], &[]),
        ];
        for (fields, expected) in cases {
            let one = format!("POST / HTTP/1.1\r\n{}\r\n\r\n{body}", fields.join("\r\n"));
            let plain = "POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc";
            assert_eq!(found_in(&format!("{one}{plain}{one}"))[1], expected, "{fields:?}");
        }
    }
}
