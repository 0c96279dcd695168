"""README.zh.md says what README.md says: the same commands, tables, links and names."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OTHER = {"README.md": "README.zh.md", "README.zh.md": "README.md"}


def _parts(name: str) -> dict[str, list]:
    """Returns what has to be alike in both languages."""
    text = (ROOT / name).read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", text, re.M | re.S)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    links = re.findall(r"\]\(([^)]+)\)", prose)
    return {
        "commands": [(kind, _without_comments(block)) for kind, block in blocks],
        "headings": re.findall(r"^#+", prose, re.M),
        "tables": [_numbers(row) for row in re.findall(r"^\|.*", prose, re.M)],
        "links": sorted(link for link in links if link not in OTHER),
        "code in the text": sorted(re.findall(r"`([^`]+)`", prose)),
    }


def _without_comments(block: str) -> list[str]:
    return [re.sub(r"\s+# .*", "", line) for line in block.splitlines()]


def _numbers(row: str) -> tuple[int, list[str]]:
    cells = row.strip("|").split("|")
    return len(cells), [number for cell in cells for number in re.findall(r"\d[\d,.]*\d|\d", cell)]


@pytest.mark.parametrize("part", list(_parts("README.md")))
def test_both_languages_are_alike(part):
    english, chinese = _parts("README.md")[part], _parts("README.zh.md")[part]
    assert chinese == english, f"README.md and README.zh.md differ in {part}: change both"
    assert english


def test_links_of_both_exist():
    for name in OTHER:
        for link in _parts(name)["links"]:
            assert (ROOT / link.partition("#")[0]).exists(), f"{name}: {link}"
