//! Rust source, as far as tests about the source have to read it.

/// A name, `::`, a string as it is written, or another character.
#[derive(Clone, Copy)]
pub struct Token<'a> {
    pub text: &'a str,
    pub is_string: bool,
}

/// The tokens of a file, without comments, characters and spaces.
pub fn tokens(text: &str) -> Vec<Token<'_>> {
    let (mut rest, mut found) = (text, Vec::new());
    while let Some(first) = rest.chars().next() {
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        let (length, is_token) = match first {
            '/' if rest.starts_with("//") => (rest.find('\n').unwrap_or(rest.len()), false),
            'r' if ["r\"", "r#\"", "r##\""].iter().any(|begin| rest.starts_with(begin)) => (raw_string(rest), true),
            '"' => (string(rest), true),
            '\'' if rest[1..].starts_with('\\') => (rest[3..].find('\'').unwrap() + 4, false),
            '\'' if rest.chars().nth(2) == Some('\'') => (2 + rest.chars().nth(1).unwrap().len_utf8(), false),
            c if is_name(c) => (rest.find(|c| !is_name(c)).unwrap_or(rest.len()), true),
            ':' if rest.starts_with("::") => (2, true),
            c => (c.len_utf8(), !c.is_whitespace()),
        };
        if is_token {
            found.push(Token { text: &rest[..length], is_string: rest[..length].ends_with(['"', '#']) && length > 1 });
        }
        rest = &rest[length..];
    }
    found
}

fn string(text: &str) -> usize {
    let mut escaped = false;
    let end = text[1..].find(|c| {
        let is_end = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        is_end
    });
    end.unwrap() + 2
}

fn raw_string(text: &str) -> usize {
    let begin = text.find('"').unwrap() + 1;
    let end = format!("\"{}", &text[1..begin - 1]);
    begin + text[begin..].find(&end).unwrap() + end.len()
}
