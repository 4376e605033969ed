//! Text from containers and other components: the part that is shown to users, and the length that the API server
//! accepts.

use sha2::{Digest, Sha256};

/// The longest message of a condition, by the conventions of the API.
pub(super) const CONDITION_MESSAGE: usize = 32_768;

/// The beginning of a text, at most this number of bytes, without a partial character. The API server counts bytes for
/// some limits and characters for others. No text has more characters than bytes, so the result satisfies both.
pub fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// The first 16 hex digits of the SHA-256 of a text.
pub fn short_digest(text: &str) -> String {
    Sha256::digest(text).iter().take(8).fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

/// The text on one line, trimmed, without characters that control a terminal and without invisible characters: those
/// that change the direction of the text, those without a width, and tags.
pub fn plain(text: &str) -> String {
    let shown = text.chars().filter_map(|c| match c {
        '\t' | '\n' | '\r' | '\u{2028}' | '\u{2029}' => Some(' '),
        '\u{ad}'
        | '\u{61c}'
        | '\u{180e}'
        | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}' => None,
        c => (!c.is_control()).then_some(c),
    });
    shown.collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    // A25.
    #[test]
    fn text_is_cut_at_the_last_character_that_fits_its_bytes() {
        for (text, bytes, left) in [
            ("plain", 9, "plain"),
            ("plain", 5, "plain"),
            ("plain", 3, "pla"),
            ("ééé", 5, "éé"),
            ("🛠", 3, ""),
        ] {
            assert_eq!(cut(text, bytes), left, "{text} {bytes}");
        }
    }

    // A34, L2.
    #[test]
    fn text_of_a_container_is_one_line_without_hidden_characters() {
        for (text, shown) in [
            ("tests failed: 3 of 40", "tests failed: 3 of 40"),
            ("two\nlines\tand\r\na tab\n", "two lines and  a tab"),
            ("\u{1b}[2J\u{7}bell\0", "[2Jbell"),
            ("ab\u{202e}txt.exe\u{2066}\u{2069}", "abtxt.exe"),
            ("in\u{200b}visi\u{feff}ble\u{200d}", "invisible"),
            ("修复构建 🛠 é", "修复构建 🛠 é"),
        ] {
            assert_eq!(plain(text), shown, "{text:?}");
        }
    }
}
