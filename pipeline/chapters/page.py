"""The HTML page of a report's Markdown: one file that opens without a network.

What the Markdown says is all that there is: sections become a table of contents, a paragraph "**Figure 3.** …" after a picture and
"**Table 2.** …" before a table become captions that "Figure 3" in a sentence leads to, and words of the glossary lead to it where
they are used first. Columns after the second of a wide table are behind a button on a narrow screen.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from string import Template
from typing import Any

import yaml
from bs4 import BeautifulSoup, NavigableString, Tag
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

PAGE = Template(Path(__file__).with_name("report.html").read_text(encoding="utf-8"))
GLOSSARY = "Glossary"  # the heading of the section that words lead to
CAPTION = re.compile(r"(Figure|Table) (\d+)\.")
REFERENCE = re.compile(r"\b(Figure|Table) (\d+)\b")
NARROW_COLUMNS = 2  # that a narrow screen shows of a wide table
WITHOUT_LINKS = ("a", "code", "pre", "h1", "h2", "h3", "h4", "th", "td", "strong")


def page(text: str, embedded: Callable[[str], str] = str) -> str:
    """Return the page of Markdown text; `embedded` gives what stands for the address of a picture."""
    title = text.splitlines()[0].lstrip("# ")
    soup = BeautifulSoup(page_body(text), "html.parser")
    for picture in soup.find_all("img"):
        picture["src"] = embedded(str(picture["src"]))
    _headings(soup)
    _figures(soup)
    _tables(soup)
    _numbers_lead_somewhere(soup)
    _words_lead_to_the_glossary(soup)
    return PAGE.substitute(title=html.escape(title, quote=False), contents=_contents(soup), body=str(soup).strip())


def page_body(text: str) -> str:
    """The HTML of Markdown text; HTML within it is shown, not obeyed, and links lead to pages alone."""
    return str(MarkdownWithMath(renderer=IPythonRenderer(escape=True, allow_harmful_protocols=False)).render(text))


def terms() -> list[dict[str, Any]]:
    """The words of the glossary: name, says, and how else it is written (as)."""
    return list(yaml.safe_load(Path(__file__).with_name("glossary.yaml").read_text(encoding="utf-8")))


def glossary(text: str | None = None) -> str:
    """The glossary as a list in Markdown, in alphabetical order; with a text, the words of it that this text uses."""
    words = _words()
    used = words.values() if text is None else {words[word] for word in _pattern(words).findall(text)}
    ordered = sorted(
        (term for term in terms() if _place(term["name"]) in used), key=lambda term: str(term["name"]).lower()
    )
    return "\n".join(f"- **{term['name']}.** {term['says']}" for term in ordered)


def _words() -> dict[str, str]:
    """Every word that leads to the glossary, and the place of its entry on the page."""
    return {str(word): _place(term["name"]) for term in terms() for word in [term["name"], *term.get("as", [])]}


def _place(name: str) -> str:
    return f"term-{slug(name)}"


def _pattern(words: Iterable[str]) -> re.Pattern[str]:
    """What finds any of these words, the longest that fits, where it stands by itself."""
    longest = sorted(words, key=len, reverse=True)
    return re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, longest))})(?![\w-])")


def slug(text: str) -> str:
    """A name for a place on the page."""
    return re.sub(r"\W+", "-", text.lower()).strip("-")


def _headings(soup: BeautifulSoup) -> None:
    """Give each heading a place of its own that can be named."""
    taken: set[str] = set()
    for heading in soup.find_all(["h1", "h2", "h3", "h4"]):
        for anchor in heading.find_all("a", class_="anchor-link"):
            anchor.decompose()
        name, n = slug(heading.get_text()) or "part", 1
        while (place := name if n == 1 else f"{name}-{n}") in taken:
            n += 1
        taken.add(place)
        heading["id"] = place


def _contents(soup: BeautifulSoup) -> str:
    """The table of contents: sections and, in them, their parts."""
    lines, inside = [], False
    for heading in soup.find_all(["h2", "h3"]):
        entry = f'<a href="#{heading["id"]}">{html.escape(heading.get_text(), quote=False)}</a>'
        if heading.name == "h3":
            lines.append(("" if inside else "<ul>") + f"<li>{entry}</li>")
            inside = True
        else:
            lines.append(("</ul></li>" if inside else "</li>" if lines else "") + f"<li>{entry}")
            inside = False
    return "<ul>" + "\n".join(lines) + ("</ul></li>" if inside else "</li>" if lines else "") + "</ul>"


def _caption(paragraph: Tag | None) -> tuple[str, Tag] | None:
    """What a paragraph is the caption of, such as "figure-3", and the paragraph; None where it is no caption."""
    first = paragraph.find("strong") if paragraph is not None and paragraph.name == "p" else None
    found = CAPTION.fullmatch(first.get_text()) if isinstance(first, Tag) else None
    return (f"{found[1].lower()}-{found[2]}", paragraph) if found and paragraph is not None else None


def _framed(soup: BeautifulSoup, content: Tag, place: str, paragraph: Tag, above: bool) -> None:
    """Put content and its caption into one frame."""
    frame, caption = soup.new_tag("figure", id=place), soup.new_tag("figcaption")
    content.insert_before(frame)
    caption.extend(list(paragraph.contents))
    paragraph.decompose()
    frame.extend([caption, content.extract()] if above else [content.extract(), caption])


def _figures(soup: BeautifulSoup) -> None:
    for picture in soup.find_all("img"):
        around = picture.parent
        after = around.find_next_sibling() if around is not None and around.name == "p" else None
        if around is not None and (found := _caption(after if isinstance(after, Tag) else None)):
            content = picture.extract()
            around.insert_before(content)
            around.decompose()
            _framed(soup, content, *found, above=False)


def _tables(soup: BeautifulSoup) -> None:
    for table in soup.find_all("table"):
        before, content = table.find_previous_sibling(), table.wrap(soup.new_tag("div"))
        content["class"] = "wide"
        rows = [row.find_all(["th", "td"]) for row in table.find_all("tr")]
        if len(rows[0]) > NARROW_COLUMNS + 1:
            content["data-columns"] = str(len(rows[0]) - NARROW_COLUMNS)
            for each in (each for row in rows for each in row[NARROW_COLUMNS:]):
                each["class"] = "more"
        if found := _caption(before if isinstance(before, Tag) else None):
            _framed(soup, content, *found, above=True)


def _linked(soup: BeautifulSoup, pattern: re.Pattern[str], place: Callable[[re.Match[str]], str], kind: str) -> None:
    """Make a link of each match in running text for which `place` names one ("": none)."""
    for text in list(soup.find_all(string=pattern)):
        if text.find_parent(WITHOUT_LINKS):
            continue
        parts: list[NavigableString | Tag] = []
        end = 0
        for match in pattern.finditer(text):
            if name := place(match):
                link = soup.new_tag("a", href=f"#{name}")
                link["class"], link.string = kind, match[0]
                parts += [NavigableString(text[end : match.start()]), link]
                end = match.end()
        if parts:
            text.replace_with(*parts, NavigableString(text[end:]))


def _numbers_lead_somewhere(soup: BeautifulSoup) -> None:
    """Make links of "Figure 3" and "Table 2" in sentences."""
    places = {str(frame["id"]) for frame in soup.find_all("figure") if frame.has_attr("id")}

    def place(match: re.Match[str]) -> str:
        name = f"{match[1].lower()}-{match[2]}"
        return name if name in places else ""

    _linked(soup, REFERENCE, place, "number")


def _words_lead_to_the_glossary(soup: BeautifulSoup) -> None:
    """Name each entry of the glossary, and lead to it from where its word is used first."""
    heading = soup.find("h2", string=GLOSSARY)
    entries = heading.find_next_sibling("ul") if isinstance(heading, Tag) else None
    if not isinstance(entries, Tag):
        return
    for entry in entries.find_all("strong"):
        if entry.parent is not None:
            entry.parent["id"] = _place(entry.get_text().rstrip("."))
    words = _words()
    marker = soup.new_tag("ul")
    entries.replace_with(marker)  # the glossary does not lead to itself
    used: set[str] = set()

    def first(match: re.Match[str]) -> str:
        name = words[match[0]]
        fresh = name not in used
        used.add(name)
        return name if fresh else ""

    _linked(soup, _pattern(words), first, "term")
    marker.replace_with(entries)
