"""The documents name what exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("services/*/README.md")]
)


@pytest.mark.parametrize("document", ["CHANGES_SUMMARY.md", "docs/security.md"])
def test_every_test_that_a_document_names_exists(document: str) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / document).read_text())

    assert len(named) >= 10
    missing = [f"{path}::{test}" for path, test in named if not _is_there(ROOT / path, test)]
    assert missing == []


def _is_there(file: Path, test: str) -> bool:
    return file.is_file() and (not test or f"def {test}(" in file.read_text())


def test_the_review_has_ten_items_each_with_a_test() -> None:
    rows = re.findall(r"^\| (\d+) \|.*$", (ROOT / "CHANGES_SUMMARY.md").read_text(), re.MULTILINE)

    assert rows == [str(number) for number in range(1, 11)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_the_documents_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!https?://)([^)#]+)", document.read_text())

    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("target", ["help", "setup", "run", "test", "lint", "type", "bench"])
def test_make_has_the_promised_targets(target: str) -> None:
    assert re.search(rf"^{target}:.*## \w", (ROOT / "Makefile").read_text(), re.MULTILINE)
