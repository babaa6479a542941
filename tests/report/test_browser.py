"""The page in a real browser: no error, no request, accessible, nothing cut off.

Chromium is the system's (Debian: `apt-get install chromium`).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("matplotlib", reason="pip install modelexperiment[report]")
playwright = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")

from modelexperiment import report  # noqa: E402
from tests.report import examples  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        # The sandbox wants a user that is not root, which a container's often is.
        running = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.mark.parametrize("name", ["undecided", "won", "broken", "three"])
def test_it_is_fine_in_a_browser(name: str, browser: Any, tmp_path: Path) -> None:
    life = examples.ALL[name]()
    path = tmp_path / "report.html"
    path.write_text(report.page(life.experiment, life.status), encoding="utf-8")
    for scheme, width in (("light", 1200), ("dark", 1200), ("light", 375)):
        # The accessibility checker is a script, which the page's own policy rightly refuses.
        context = browser.new_context(
            color_scheme=scheme, viewport={"width": width, "height": 800}, bypass_csp=True
        )
        page = context.new_page()
        said: list[str] = []
        page.on("console", lambda message, said=said: said.append(message.text))
        page.on("pageerror", lambda error, said=said: said.append(str(error)))
        page.on("request", lambda request, said=said: said.append(request.url))
        page.goto(path.as_uri())

        root = "document.documentElement"
        assert page.evaluate(f"{root}.scrollWidth - {root}.clientWidth") == 0
        assert said == [path.as_uri()]
        found = axe.Axe().run(page).response["violations"]
        assert [(v["id"], v["nodes"][0]["html"]) for v in found] == []
        context.close()
