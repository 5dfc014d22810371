"""The pages of the documentation against the files that they speak of."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
# [text](target) and ![text](target), without the part after #.
LINK = re.compile(r"\]\(([^)\s#]+)[^)]*\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    targets = [target for target in LINK.findall(page.read_text()) if "://" not in target]
    assert targets or page.name != "README.md"
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert not missing
