from __future__ import annotations

from loadtest.report.markup import Markup, joined, tag, text


def test_text_and_attributes_are_escaped_and_markup_is_not() -> None:
    element = tag("p", '<b> & "', tag("i", "x"), title='">')
    assert element == '<p title="&quot;&gt;">&lt;b&gt; &amp; &quot;<i>x</i></p>'


def test_names_of_attributes_are_pythons_made_those_of_html() -> None:
    assert tag("line", class_="a", stroke_width=1.5, x1=2.0, viewBox="0") == (
        '<line class="a" stroke-width="1.5" x1="2" viewBox="0"/>'
    )


def test_nothing_is_left_out_but_what_is_none_or_empty() -> None:
    assert tag("p", None, "", title=None) == "<p></p>"
    assert joined("a", Markup("<b>"), None) == "a<b>"


def test_no_line_ends_before_a_percent_sign() -> None:
    assert text("95 %") == "95\N{NO-BREAK SPACE}%"
