import pytest

from experiments.reporting.grids import Grid, Head, as_html, as_latex, as_markdown

GRID = Grid(
    [Head("what"), Head("of A | B, %", right=True), Head("runs")],
    [["a_b `c_d=1`", "1.50 ± 0.10", "[one](a/record.json) [two](b/record.json)"], ["—", "<2", "yes"]],
)


def test_a_table_is_written_as_markdown():
    assert as_markdown(GRID).splitlines() == [
        r"| what | of A \| B, % | runs |",
        "|---|--:|---|",
        "| a_b `c_d=1` | 1.50 ± 0.10 | [one](a/record.json) [two](b/record.json) |",
        "| — | <2 | yes |",
    ]


def test_a_table_is_written_as_latex_with_the_rules_of_booktabs():
    assert as_latex(GRID).splitlines() == [
        r"\begin{tabular}{lrl}",
        r"\toprule",
        r"what & of A | B, \% & runs \\",
        r"\midrule",
        r"a\_b \texttt{c\_d=1} & 1.50 $\pm$ 0.10 & one two \\",
        r"--- & <2 & yes \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_every_letter_that_latex_reads_as_a_command_is_escaped():
    cell = as_latex(Grid([Head("x")], [["\\&%$#_{}~^"]])).splitlines()[4]
    assert cell == r"\textbackslash{}\&\%\$\#\_\{\}\textasciitilde{}\textasciicircum{} \\"


def test_a_table_is_written_as_html_with_its_numbers_marks_and_links():
    assert as_html(GRID, marks={"yes": "good"}).splitlines() == [
        "<table>",
        '<thead><tr><th>what</th><th class="number">of A | B, %</th><th>runs</th></tr></thead>',
        "<tbody>",
        '<tr><td>a_b <code>c_d=1</code></td><td class="number">1.50 ± 0.10</td>'
        '<td><a href="a/record.json">one</a> <a href="b/record.json">two</a></td></tr>',
        '<tr><td>—</td><td class="number">&lt;2</td><td><span class="good">yes</span></td></tr>',
        "</tbody>",
        "</table>",
    ]


@pytest.mark.parametrize("cell", ["<script>", '[<b>](x" onclick="y)', "`<i>`"])
def test_nothing_in_a_cell_becomes_html(cell):
    text = as_html(Grid([Head("x")], [[cell]]))
    assert not any(tag in text for tag in ("<script>", "<b>", "<i>", '" onclick'))


def test_what_may_be_broken_into_lines_is_what_is_long_to_read_and_not_what_has_long_links():
    text = as_html(Grid([Head("x"), Head("y")], [["word " * 10, f"[record]({'a' * 60})"]]))
    assert '<td class="long">word' in text
    assert "<td><a href" in text


def test_columns_can_be_left_out():
    assert GRID.without("runs", "what") == Grid([GRID.heads[1]], [["1.50 ± 0.10"], ["<2"]])
