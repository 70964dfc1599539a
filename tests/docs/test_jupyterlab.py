"""The notebooks in JupyterLab itself: every cell runs, and what it shows is there to be seen.

DSKROBUST_JUPYTERLAB names the Python of an environment that has JupyterLab and what the notebooks
need (.github/CONTRIBUTING.md says how to make one); without it the one that runs the tests is
asked. DSKROBUST_PICTURES is a folder for pictures of all of it.
"""

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from driving import driven
from helpers import NOTEBOOKS, ROOT

PYTHON = os.environ.get("DSKROBUST_JUPYTERLAB", sys.executable)
NAMES = sorted(path.name for path in NOTEBOOKS.glob("*.ipynb"))
SECONDS = 1_500  # that a notebook may take on a machine with other things to do
SLOW = re.compile(
    r".* - distributed\.\w+ - WARNING - Worker process still alive.*"
)  # a busy machine
# All cells are drawn, also those that are not in view; nothing asks or tells of news.
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3 * SECONDS)]

RUN = """
    const app = window.jupyterapp;
    const panel = app.shell.currentWidget;
    window.ended = false;
    panel.context.sessionContext.ready
        .then(() => app.commands.execute("notebook:run-all-cells"))
        .then(() => panel.context.save())
        .then(() => { window.ended = "saved" }, (error) => { window.ended = String(error) });
"""
KERNEL = "window.jupyterapp.shell.currentWidget?.context?.sessionContext?.session?.kernel?.status"
SHOWN = """
    const outputs = [...document.querySelectorAll(".jp-NotebookPanel .jp-OutputArea-output")];
    const all = (selector) => outputs.flatMap((one) => [...one.querySelectorAll(selector)]);
    const size = (one) => one.getBoundingClientRect();
    const start = (one) => one.outerHTML.slice(0, 300);
    return {
        outputs: outputs.length,
        errors: outputs.filter((one) => /^application.vnd.jupyter.(error|stderr)$/
            .test(one.dataset.mimeType)).map((one) => one.textContent.slice(0, 500)),
        flat: outputs.filter((one) => one.textContent.trim() && !size(one).height).map(start),
        dead: all("img").filter((one) => !one.naturalWidth).map(start),
        drawings: all("svg, canvas, img").filter((one) => size(one).width > 20).length,
        frames: all("iframe").map((one) => size(one).height),
        broken: all("*").filter((one) => !one.children.length
            && /^(Error displaying|Loading) widget/.test(one.textContent)).map(start),
        html: outputs.filter((one) => one.dataset.mimeType === "text/html").length,
    };
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A server of JupyterLab at 127.0.0.1, behind a token, in a home of its own."""
    there = subprocess.run(
        [PYTHON, "-c", "import jupyterlab, ipykernel, xarray"], capture_output=True, text=True
    )
    if there.returncode:
        pytest.skip(f"JupyterLab or xarray is not installed for {PYTHON}: see CONTRIBUTING.md")
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("there is no chromium with chromedriver to open JupyterLab in")
    home = tmp_path_factory.mktemp("lab")
    shutil.copytree(NOTEBOOKS, home / "work" / "notebooks")
    settings = home / "settings" / "@jupyterlab"
    for name, values in SETTINGS.items():
        file = settings / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    token = secrets.token_hex(16)
    without = ("DSKROBUST_DATA", "DSKROBUST_STORES")  # the paper from the results that are kept
    environment = {name: value for name, value in os.environ.items() if name not in without}
    environment |= {
        "HOME": str(home), "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTER_CONFIG_DIR": str(home / "config"), "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"), "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_TOKEN": token, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    command = [
        PYTHON, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1",
        "--ServerApp.port=0", f"--ServerApp.root_dir={home / 'work'}",
        "--LabApp.expose_app_in_browser=True", "--LabApp.news_url=None",
    ]  # fmt: skip
    with (
        (home / "log").open("w") as log,
        subprocess.Popen(command, env=environment, cwd=home, stdout=log, stderr=log) as server,
    ):
        try:
            yield _address(home, server), token, home
        finally:
            server.terminate()


def _address(home, server):
    """Return where a server listens, once it does."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        assert server.poll() is None, (home / "log").read_text()
        for file in (home / "runtime").glob("jpserver-*.json"):
            try:
                facts = json.loads(file.read_text())
            except ValueError:  # just being written
                continue
            if facts["port"]:
                return f"http://127.0.0.1:{facts['port']}"
        time.sleep(0.2)
    raise AssertionError((home / "log").read_text())


@pytest.fixture(scope="module")
def page(lab):
    address, token, home = lab
    with driven(shutil.which("chromium"), home) as page:
        page.look(1280, 1000)
        page.open(f"{address}/lab?token={token}")  # a cookie knows the token from here on
        page.until("!!window.jupyterapp", seconds=300)
        yield page


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_and_shows_what_it_has(lab, page, name):
    address, _, home = lab
    page.open(f"{address}/lab/workspaces/auto/tree/notebooks/{name}?reset")
    page.until(f"{KERNEL} === 'idle'", seconds=300)
    page.run(RUN)
    said = page.until("window.ended", seconds=SECONDS)
    shown = page.run(SHOWN)
    _pictures(page, name.removesuffix(".ipynb"))
    assert said == "saved"
    notebook = nbformat.read(home / "work" / "notebooks" / name, as_version=4)
    outputs = [one for cell in notebook.cells for one in cell.get("outputs", ())]
    errors = [one for one in outputs if one.output_type == "error"]
    assert errors == []
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
    assert [text for text in shown["errors"] if SLOW.sub("", text).strip()] == []
    assert shown["outputs"] >= len(outputs)
    html = [one for one in outputs if "text/html" in one.get("data", ())]
    assert shown["html"] == len(html)
    drawn = [one for one in outputs if {"image/png", "image/svg+xml"} & set(one.get("data", ()))]
    assert shown["drawings"] >= len(drawn)
    assert (shown["flat"], shown["dead"], shown["broken"]) == ([], [], [])
    assert all(height > 50 for height in shown["frames"])


def _pictures(page, name):
    """Keep pictures of a notebook, screen by screen, where somebody wants to look at them."""
    folder = os.environ.get("DSKROBUST_PICTURES")
    if not folder:
        return
    scroller = (
        "document.querySelector('.jp-NotebookPanel:not(.lm-mod-hidden) .jp-WindowedPanel-outer')"
    )
    for k in range(40):
        page.run(f"{scroller}.scrollTop = {850 * k}")
        time.sleep(0.3)
        page.picture(Path(folder) / f"{name}-{k:02}.png")
        if page.run(
            f"const at = {scroller}; return at.scrollTop + at.clientHeight + 5 > at.scrollHeight"
        ):
            return
