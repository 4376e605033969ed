//! Text that a container wrote and that a person or a terminal shows.

/// The text on one line and without blank ends, without characters that control a terminal or that nobody sees: those that change the
/// direction of what follows, those without a width, and tags.
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
