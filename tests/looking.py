"""Looking at pages as people do: in a browser without a window, which tells what it shows."""

import base64
import hashlib
import json
import re
import subprocess

LOOK = """
<script>
const broken = [];
document.addEventListener("securitypolicyviolation", e => broken.push(e.blockedURI));
window.addEventListener("error", e => broken.push(String(e.message || e.target.alt)), true);
window.addEventListener("load", () => setTimeout(() => {
  const acted = (() => { ACT })();
  const images = [...document.images];
  const inside = e => e.closest(".wide") && !e.matches(".wide");
  const wide = [...document.querySelectorAll("body *")].filter(
    e => !inside(e) && e.getBoundingClientRect().right > innerWidth + 1);
  const scrolled = [...document.querySelectorAll(".wide")].filter(
    e => e.scrollWidth > e.clientWidth + 1);
  const loaded = performance.getEntriesByType("resource").map(e => e.name);
  const found = {
    acted, broken, width: innerWidth, page: document.documentElement.scrollWidth,
    images: images.length,
    missing: images.filter(i => !i.complete || !i.naturalWidth).map(i => i.alt),
    wide: wide.map(e => e.tagName + "." + e.className), scrolled: scrolled.length,
    loaded: loaded.filter(name => !name.startsWith("data:")),
  };
  document.body.innerHTML = "<pre id=found>" + JSON.stringify(found) + "</pre>";
}, 2000));
</script>
"""
POLICY = "script-src"


def _let_in(text, look):
    """Return a page whose policy lets what looks at it run beside its own scripts."""
    script = look.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    text = text.replace(f"{POLICY} ", f"{POLICY} 'sha256-{digest}' ", 1)
    return text.replace("</head>", f"{look}</head>", 1)


def look_at(browser, text, path, width, act="return null;"):
    """Write a page to `path`, open it so many pixels wide, and return what is to be seen of it.

    act: JavaScript that does something first; what it returns is found as acted.
    broken: errors and refused loads; missing: images that are not there; wide: what sticks out;
    scrolled: tables that scroll; loaded: what is not in the page itself; page, width: in pixels.
    """
    path.write_text(_let_in(text, LOOK.replace("ACT", act)), encoding="utf-8")
    flags = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking"
    flags += " --disable-component-update --disable-sync --disable-dev-shm-usage --dump-dom"
    flags += " --virtual-time-budget=6000"
    flags += f" --enable-logging=stderr --window-size={width},900"
    profile = path.parent / f"profile-{path.stem}"
    run = subprocess.run(
        [browser, *flags.split(), f"--user-data-dir={profile}", path.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    match = re.search(r'<pre id="found">(.*?)</pre>', run.stdout, re.S)
    assert match, run.stdout[-500:] + run.stderr[-500:]
    assert not re.search("(ERROR|WARNING):CONSOLE", run.stderr), run.stderr
    return json.loads(match[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
