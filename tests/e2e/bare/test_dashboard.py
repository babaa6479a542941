"""The dashboard of a real operator, with 500 experiments in a real API server, in a real browser.

Chromium is the system's (Debian: `apt-get install chromium`).
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config

from localcluster import Cluster
from localcluster.crds import wait_established
from localcluster.ports import free_ports
from modelexperiment.core.crd import GROUP, PLURAL, VERSION
from tests.dashboard.objects import condition, of
from tests.e2e.bare.conftest import CRD, ROOT
from tests.e2e.lab import OperatorProcess, eventually
from tests.report import examples

pytestmark = pytest.mark.e2e
playwright = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("no chromium on this machine", allow_module_level=True)

NUMBER = 500
HOME, TEAMS = "dashboard-home", ("dashboard-fraud", "dashboard-search")
RELEASE, NAME = "dash", "dash-modelexperiment"
ROUGH = "<img src=x onerror=\"document.title='taken'\"> & <script>document.title='taken'</script>"
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@dataclass
class Site:
    """The operator, its dashboard, and the experiments in the API server."""

    cluster: Cluster
    api: Any
    kubeconfig: Path
    log: Path
    port: int = field(default_factory=lambda: free_ports(1)[0])
    operator: OperatorProcess | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def start(self, **environment: str) -> None:
        self.operator = OperatorProcess(
            self.kubeconfig,
            self.log,
            POD_NAMESPACE=HOME,
            WATCH_NAMESPACES=",".join(TEAMS),
            DASHBOARD_PORT=str(self.port),
            **environment,
        )

    def stop(self) -> None:
        if self.operator is not None:
            self.operator.stop()

    def create(self, number: int, life: Any) -> None:
        where = TEAMS[number % 2]
        body = of(life, f"exp-{number:03}", where)
        body["metadata"] = {"name": body["metadata"]["name"]}
        made = self.api.create_namespaced_custom_object(GROUP, VERSION, where, PLURAL, body)
        self.write_status(made, body["status"])

    def write_status(self, seen: Any, status: Any) -> None:
        metadata = seen["metadata"]
        body = {**seen, "status": {**status, "observedGeneration": metadata["generation"]}}
        self.api.replace_namespaced_custom_object_status(
            GROUP, VERSION, metadata["namespace"], PLURAL, metadata["name"], body
        )

    def change_status(self, number: int, **fields: Any) -> None:
        where, name = TEAMS[number % 2], f"exp-{number:03}"
        seen = self.api.get_namespaced_custom_object(GROUP, VERSION, where, PLURAL, name)
        self.write_status(seen, {**seen["status"], **fields})


def hold_the_lease(cluster: Cluster) -> None:
    """Let somebody else lead."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    spec = {"holderIdentity": "elsewhere", "leaseDurationSeconds": 3600, "renewTime": now}
    metadata = {"name": "modelexperiment", "namespace": HOME}
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
    cluster.apply({**lease, "metadata": metadata, "spec": {**spec, "acquireTime": now}})


@pytest.fixture(scope="module")
def site(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """500 experiments, and an operator that stands by: what it shows, it only reads."""
    for namespace in (HOME, *TEAMS):
        cluster.kubectl("create", "namespace", namespace)
    settings = ("--set", "replicas=0", "--set", f"watchNamespaces={{{','.join(TEAMS)}}}")
    cluster.kubectl("delete", "crd", CRD, "--ignore-not-found")
    cluster.helm("install", RELEASE, str(ROOT / "helm/modelexperiment"), "-n", HOME, *settings)
    wait_established(cluster.kubectl, CRD)
    kubeconfig = str(cluster.kubeconfig)
    connection = config.new_client_from_config(kubeconfig)  # type: ignore[no-untyped-call]
    made = Site(
        cluster,
        client.CustomObjectsApi(connection),
        cluster.service_account_kubeconfig(HOME, NAME),
        tmp_path_factory.mktemp("dashboard") / "log",
    )
    # First those that tests change, then one of each, then any.
    lives = [examples.undecided(), examples.undecided()]
    lives += [make() for make in examples.ALL.values()]
    lives += random.Random(3).choices(lives, k=NUMBER - len(lives))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(made.create, range(NUMBER), lives))
    hold_the_lease(cluster)
    made.start(LEASE_DURATION="1h")
    yield made
    made.stop()
    cluster.helm("uninstall", RELEASE, "-n", HOME)
    cluster.kubectl("delete", "crd", CRD, "--ignore-not-found")
    for namespace in (HOME, *TEAMS):
        cluster.kubectl("delete", "namespace", namespace, "--wait=false")
    connection.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        # The sandbox wants a user that is not root, which a container's often is.
        running = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


class Tab:
    """A page in the browser, and all that it had to say of errors."""

    def __init__(self, browser: Any, **options: Any) -> None:
        self._context = browser.new_context(**options)
        self.page = self._context.new_page()
        self.said: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))

    def __enter__(self) -> Tab:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.close()


@pytest.fixture
def tab(browser: Any, site: Site) -> Iterator[Tab]:
    """A tab on the complete list."""
    with Tab(browser) as made:
        eventually(lambda: loaded(made.page, site.url), "the operator serves", timeout=60)
        made.said.clear()
        made.page.goto(site.url)
        yield made


def loaded(page: Any, url: str) -> bool:
    try:
        page.goto(url)
    except playwright.Error:
        return False
    return f"{NUMBER} experiments" in page.locator("#count").inner_text()


def test_500_experiments_are_there_at_once(tab: Tab, site: Site) -> None:
    tab.page.goto(site.url)
    (timing,) = json.loads(
        tab.page.evaluate("JSON.stringify(performance.getEntriesByType('navigation'))")
    )
    bytes_sent = timing["encodedBodySize"]
    print(f"\n{NUMBER} experiments: {timing['loadEventEnd']:.0f} ms, {bytes_sent} bytes")

    assert tab.page.locator("#rows tr").count() == NUMBER
    # It takes a fifth of this; other things may run on the machine.
    assert 0 < timing["loadEventEnd"] < 3000
    assert site.operator is not None
    # Who stands by shows them.
    assert "leading as" not in site.operator.log
    assert tab.said == []


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 375)])
def test_it_is_for_everybody(scheme: str, width: int, browser: Any, tab: Tab, site: Site) -> None:
    # The accessibility checker is a script, which the pages' own policy rightly refuses.
    size = {"width": width, "height": 800}
    with Tab(browser, color_scheme=scheme, viewport=size, bypass_csp=True) as other:
        # One of each is enough for a checker that looks at every pair of colours.
        for path in ("?q=exp-00", "?q=nothing-like-this", f"experiments/{TEAMS[0]}/exp-000"):
            other.page.goto(site.url + path)
            other.page.wait_for_load_state("networkidle")
            assert other.page.evaluate(OVERFLOW) == 0
            found = axe.Axe().run(other.page).response["violations"]
            assert [(v["id"], v["nodes"][0]["html"]) for v in found] == []
        assert other.said == []


def test_what_changes_is_seen_without_loading_again(tab: Tab, site: Site) -> None:
    page = tab.page
    page.goto(f"{site.url}?q=exp-001")
    page.evaluate("window.sameDocument = true")
    row = page.locator(f'tr[data-key="{TEAMS[1]}/exp-001"]')
    row.locator("a").focus()
    site.change_status(
        1,
        phase="RolledBack",
        endTime=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        conditions=[],
        decision={"action": "Rollback", "reason": ROUGH, "riskLevel": "critical"},
    )
    playwright.expect(row.locator(".badge")).to_have_text("RolledBack", timeout=20_000)

    # What a user wrote is text; the focus is where it was.
    assert row.locator(".why").inner_text().replace("\n", " ").endswith(ROUGH)
    assert page.title() == "Experiments"
    assert page.evaluate("window.sameDocument && document.activeElement.innerText") == "exp-001"
    page.goto(site.url)
    assert page.locator("#rows tr").first.get_attribute("data-key") == f"{TEAMS[1]}/exp-001"
    assert tab.said == []


def test_filters_work_as_one_types_and_stand_in_the_address(tab: Tab, site: Site) -> None:
    page = tab.page
    page.get_by_label("Search").fill("exp-00")
    playwright.expect(page.locator("#rows tr")).to_have_count(10)
    page.get_by_label("Namespace").select_option(TEAMS[0])
    playwright.expect(page.locator("#rows tr")).to_have_count(5)
    assert "q=exp-00" in page.url and f"namespace={TEAMS[0]}" in page.url
    page.reload()
    playwright.expect(page.locator("#rows tr")).to_have_count(5)
    playwright.expect(page.locator("#count")).to_contain_text(f"5 of {NUMBER} experiments")
    # To an experiment and back to the same list, by the keyboard.
    page.locator("#rows a").first.focus()
    page.keyboard.press("Enter")
    page.get_by_role("link", name="All experiments").click()
    playwright.expect(page.locator("#rows tr")).to_have_count(5)
    assert tab.said == []


def test_an_experiments_report_follows_it(tab: Tab, site: Site) -> None:
    page = tab.page
    page.goto(f"{site.url}experiments/{TEAMS[0]}/exp-000")
    report = page.frame_locator("#report")
    playwright.expect(report.locator("h1")).to_be_visible(timeout=30_000)
    playwright.expect(report.locator("svg").first).to_be_attached()
    # The frame is as high as what is in it.
    inner = page.evaluate("document.getElementById('report').contentDocument.body.offsetHeight")
    assert page.locator("#report").bounding_box()["height"] >= inner
    site.change_status(
        0,
        phase="Stopped",
        verdict=None,
        sampleRatio=None,
        decision={"action": "KeepChampion", "reason": ROUGH, "riskLevel": "low"},
        conditions=[condition("MetricsReady", "False", "NoSeries", ROUGH)],
    )
    playwright.expect(report.locator("h1")).to_contain_text("Stopped", timeout=30_000)
    playwright.expect(report.locator(".why")).to_have_text(ROUGH)
    assert page.evaluate("document.title") == f"{TEAMS[0]}/exp-000"
    assert tab.said == []


def test_the_command_shows_what_a_kubeconfig_may_read(
    browser: Any, site: Site, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "modelexperiment", "dashboard", "--port", "0"]
    access = ["--kubeconfig", str(site.cluster.kubeconfig)]
    asked = [*command, *access, "-n", TEAMS[0]]
    with (
        subprocess.Popen(asked, stdout=subprocess.PIPE, text=True) as running,
        Tab(browser) as tab,
    ):
        assert running.stdout is not None
        try:
            tab.page.goto(running.stdout.readline().split()[0])
            playwright.expect(tab.page.locator("#rows tr")).to_have_count(NUMBER // 2)
            assert tab.said == []
        finally:
            running.send_signal(signal.SIGINT)
        assert running.wait(timeout=20) == 0

    # Who may not read them is told so, in one line.
    refused = subprocess.run(
        [*command, "--kubeconfig", str(site.kubeconfig), "-A"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert refused.returncode == 1
    assert refused.stderr.startswith("modelexperiment: API server: 403 modelexperiments")
    assert refused.stderr.count("\n") == 1


def test_a_page_outlives_the_operator_that_served_it_and_a_leader_serves_it_too(
    tab: Tab, site: Site
) -> None:
    page = tab.page
    site.stop()
    playwright.expect(page.locator("#live")).to_contain_text("Not up to date", timeout=20_000)
    assert page.locator("#rows tr").count() == NUMBER

    # A leader works on all that it finds: a few are enough.
    for team in TEAMS:
        site.api.delete_collection_namespaced_custom_object(GROUP, VERSION, team, PLURAL)
    for number in range(4):
        site.create(number, examples.undecided())
    site.cluster.kubectl("delete", "lease", "modelexperiment", "-n", HOME)
    site.start()
    playwright.expect(page.locator("#live")).to_have_text("Up to date", timeout=60_000)
    playwright.expect(page.locator("#rows tr")).to_have_count(4)
    assert site.operator is not None
    eventually(lambda: "leading as" in site.operator.log, "it leads")  # type: ignore[union-attr]
    # What the leader finds is seen: the routes of these were never there.
    playwright.expect(page.locator("#rows .why").first).to_contain_text("fraud", timeout=60_000)
    for team in TEAMS:
        site.cluster.kubectl("delete", "mexp", "--all", "-n", team, "--timeout=60s")
    playwright.expect(page.locator("#nothing")).to_be_visible(timeout=20_000)
