//! How much of a question stands in a heading.

/// Words that say nothing about what is asked, in order.
const COMMON: [&str; 54] = [
    "a", "an", "and", "any", "are", "as", "at", "be", "by", "can", "could", "did", "do", "does", "for", "from", "get",
    "has", "have", "how", "i", "if", "in", "into", "is", "it", "its", "may", "me", "my", "not", "of", "on", "or",
    "should", "that", "the", "there", "they", "this", "to", "was", "we", "what", "when", "where", "which", "who",
    "why", "will", "with", "would", "you", "your",
];

/// The share of a question's words that stand in one of these texts, from 0 to 1.
pub(crate) fn share(question: &str, texts: &[&str]) -> f64 {
    let asked: Vec<String> = words(question).filter(|word| COMMON.binary_search(&word.as_str()).is_err()).collect();
    if asked.is_empty() {
        return 0.0;
    }
    let there: Vec<String> = texts.iter().flat_map(|text| words(text)).collect();
    let found = asked.iter().filter(|asked| there.iter().any(|there| alike(asked, there))).count();
    found as f64 / asked.len() as f64
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase)
}

/// Whether two words are one, or forms of one: they begin alike for two thirds of the longer one.
fn alike(a: &str, b: &str) -> bool {
    let same = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count();
    let longer = a.chars().count().max(b.chars().count());
    same == longer || (same >= 4 && 3 * same >= 2 * longer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_a_word_count_and_common_words_do_not() {
        assert!(COMMON.is_sorted());
        for (question, text, expected) in [
            ("how do I add a store?", "Add a store", 1.0),
            ("how do I add a store?", "Add an interface", 0.5),
            ("how do I back up the host?", "Run a host › Backup", 2.0 / 3.0),
            ("which capabilities are there?", "2: Capability, granted", 1.0),
            ("what is it?", "What is it", 0.0),
            ("", "", 0.0),
            ("Größe?", "größen", 1.0),
            ("addition", "add", 0.0),
        ] {
            assert!((share(question, &[text]) - expected).abs() < 1e-9, "{question}: {text}");
        }
    }
}
