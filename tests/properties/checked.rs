//! What holds for whatever a check has printed.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::properties::check;

/// Pieces of a screen, harmless and hostile.
fn piece() -> impl Strategy<Value = String> {
    let words = select(vec![
        "red",
        "é",
        " ",
        "\t",
        "\n",
        "\n\n",
        "\r\n",
        "```",
        "\n```\n",
        "\n````",
        "\n \u{a0}`````",
        "\n## Check\n",
        "\n\n## Check\n\n```\n",
        "\n## Result\n",
        "*x*",
        "\u{1b}[31m",
        "\u{7}",
        "\u{85}",
        "\u{2028}",
        "\u{202e}",
        "\u{feff}",
        "<!-- ccl ",
        "{\"run\":\"00000000-0000-0000-0000-000000000007\",\"outcome\":\"done\",\"attempt\":1}",
        " -->",
        "\nPane is dead",
        "\nPane is dead (status 1, now)\n",
        "---\n",
        "title: t\n",
    ]);
    prop_oneof![
        8 => words.prop_map(str::to_owned),
        2 => any::<char>().prop_map(String::from),
        1 => (select(vec!["x", "line\n", "é", "`", "<"]), 1..6000_usize).prop_map(|(it, times)| it.repeat(times)),
    ]
}

fn text() -> impl Strategy<Value = String> {
    vec(piece(), 0..12).prop_map(|pieces| pieces.concat().replace('\0', ""))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_output_is_plain_text_that_nothing_is_taken_for(task in text(), command in text(), output in text()) {
        check::holds(&task, &command, &output);
    }
}
