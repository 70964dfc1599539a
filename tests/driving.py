"""A browser without a window that is driven by keys and clicks, over the WebDriver protocol."""

import base64
import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
KEYS = {"Enter": "\ue007", "Escape": "\ue00c", "Tab": "\ue004", "ArrowLeft": "\ue012",
        "ArrowRight": "\ue014", "Backspace": "\ue003"}  # fmt: skip


class Browser:
    """A page in a browser."""

    def __init__(self, address):
        self.address = address

    def call(self, path, body=None, method=None):
        """Send a command; return its value."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.address}{path}", data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()[:500]) from None

    def open(self, url):
        self.call("/url", {"url": url})

    def run(self, script, *arguments):
        """Run JavaScript in the page; return its value."""
        return self.call("/execute/sync", {"script": script, "args": list(arguments)})

    def press(self, *keys):
        """Press keys one after another: characters, or names of KEYS."""
        for key in keys:
            value = KEYS.get(key, key)
            actions = [{"type": kind, "value": value} for kind in ("keyDown", "keyUp")]
            keyboard = {"type": "key", "id": "keys", "actions": actions}
            self.call("/actions", {"actions": [keyboard]})

    def click(self, selector):
        found = self.call("/element", {"using": "css selector", "value": selector})[ELEMENT]
        self.call(f"/element/{found}/click", {})

    def text(self, selector):
        return self.run("return document.querySelector(arguments[0]).textContent", selector)

    def until(self, script, *arguments, seconds=20):
        """Wait for what a script returns to be true; return it."""
        deadline = time.monotonic() + seconds
        while not (found := self.run(f"return {script}", *arguments)):
            assert time.monotonic() < deadline, f"{script}: {self.text('body')[:500]}"
            time.sleep(0.05)
        return found

    def look(self, width, height=900, *, dark=False):
        """Set how wide the page is, and whether it is dark."""
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height,
                 deviceScaleFactor=1, mobile=False)  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.cdp("Emulation.setEmulatedMedia", features=[scheme])

    def cdp(self, name, **arguments):
        return self.call("/goog/cdp/execute", {"cmd": name, "params": arguments})

    def picture(self, path):
        path.write_bytes(base64.b64decode(self.call("/screenshot")))

    def log(self):
        """Return what the console says."""
        return [line["message"] for line in self.call("/se/log", {"type": "browser"})]


@contextmanager
def driven(browser, folder):
    """Yield a browser that is driven; None where there is nothing to drive it with."""
    driver = shutil.which("chromedriver")
    if driver is None:
        yield None
        return
    with subprocess.Popen(
        [driver, "--port=0", "--allowed-ips=127.0.0.1"], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            said = ""
            while not (match := re.search(r"successfully on port (\d+)", said)):
                said = process.stdout.readline()
                assert said, "chromedriver has ended"
            root = f"http://127.0.0.1:{match[1]}"
            flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                     "--no-first-run", f"--user-data-dir={folder / 'profile'}"]  # fmt: skip
            options = {"binary": browser, "args": flags}
            wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
            made = Browser(root).call("/session", {"capabilities": {"alwaysMatch": wanted}})
            page = Browser(f"{root}/session/{made['sessionId']}")
            try:
                yield page
            finally:
                page.call("", method="DELETE")
        finally:
            process.terminate()
