"""The page: what its server lets in, what it shows, and a review by keyboard in a browser."""

import http.client
import json
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import ExitStack, closing

import numpy as np
import pandas as pd
import psutil
import pytest
from click.testing import CliRunner
from driving import driven

import dskrobust as dr
from dskrobust.cli import main
from dskrobust.errors import DskrobustError, InvalidDataError, InvalidOptionError, OutputError
from dskrobust.reviews import server
from dskrobust.reviews.texts import texts_of
from dskrobust.store import StoreSpec

NASTY = '<img src=x onerror="document.title=1"> </script><script>alert(1)</script>'
CLASSES = ("zero", "one", NASTY)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    """Stores of images, of a table, and of numbers as labels, with all that a review needs."""
    folder, rng = tmp_path_factory.mktemp("kinds"), np.random.default_rng(0)
    y = np.arange(60) % 3
    X = np.clip(rng.normal(90 * y[:, None] % 256, 30, (60, 12)), 0, 255).astype(np.uint8)
    y[[4, 11]] = (y[[4, 11]] + 1) % 3
    spec = StoreSpec(NASTY, "categorical", classes=CLASSES, scale=1 / 255, image_shape=(3, 4))
    made = {"images": dr.create_store(str(folder / "images.zarr"), X, y, spec=spec)}
    names = (NASTY, *(f"c{k}" for k in range(19)))
    spec = StoreSpec("table", "categorical", classes=CLASSES, feature_names=names)
    X = rng.normal(3 * y[:, None], 1, (60, 20))
    ids = [f"{NASTY}{k}" for k in range(60)]
    made["table"] = dr.create_store(str(folder / "table.zarr"), X, y, ids=ids, spec=spec)
    frame = pd.DataFrame({"a": np.linspace(0, 1, 60), "y": np.linspace(5, 9, 60)})
    frame.loc[30, "y"] = 100.0
    made["numbers"] = dr.create_store(str(folder / "numbers.zarr"), frame, "y")
    for kind in ("images", "table"):
        dr.label_quality(made[kind]).write()
    return made


@pytest.fixture
def store(kinds, tmp_path):
    """A store of images of this test's own."""
    shutil.copytree(kinds["images"].url, tmp_path / "images.zarr")
    return dr.open_store(tmp_path / "images.zarr")


def ask(review, path="", body=None, method=None, token=None, **headers):
    """Return status, headers and text of an answer."""
    path = f"/{review.server.token if token is None else token}/{path}"
    if body is not None:
        headers = {"Content-Type": "application/json", **headers}
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
    method = method or ("GET" if body is None else "POST")
    with closing(http.client.HTTPConnection("127.0.0.1", review.server.port, timeout=20)) as line:
        line.request(method, path, body, headers)
        answer = line.getresponse()
        return answer.status, answer.headers, answer.read().decode()


# -- who is let in -----------------------------------------------------------------------------


def test_only_who_has_the_address_is_let_in(store):
    decision = {"place": 0, "decision": "drop"}
    with dr.review(store, options=dr.ReviewOptions(threshold=0.4, top=3)) as held:
        own = f"127.0.0.1:{held.server.port}"
        lines = [c for c in psutil.Process().net_connections("tcp") if c.status == "LISTEN"]
        assert {c.laddr.ip for c in lines if c.laddr.port == held.server.port} == {"127.0.0.1"}
        for token in ("", "x", held.server.token[:-1], held.server.token.swapcase(), "%C3%A9"):
            for path, body in (("", None), ("facts", None), ("cases/0", None),
                               ("decisions", decision), ("end", {})):  # fmt: skip
                assert ask(held, path, body, token=token)[0] == 403
        for host in ("evil.example", f"evil.example:{held.server.port}", "", f"{own}.evil.example",
                     "127.0.0.1.evil.example", "evil.example:80@127.0.0.1", "[::1]",
                     "0.0.0.0"):  # fmt: skip
            assert ask(held, Host=host)[0] in (400, 403), host
            assert ask(held, "decisions", decision, Host=host)[0] in (400, 403)
        for bad in ({"Origin": "http://evil.example"}, {"Origin": "null"},
                    {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}):  # fmt: skip
            assert ask(held, "decisions", decision, **bad)[0] == 403
        assert ask(held, "decisions", decision, **{"Content-Type": "text/plain"})[0] == 415
        assert held.summary() == {"open": 3}
        good = {"Origin": f"http://{own}", "Sec-Fetch-Site": "same-origin"}
        assert ask(held, "decisions", decision, **good)[0] == 200
        assert ask(held, Host="localhost:8000")[0] == 200  # through a tunnel
        assert held.summary() == {"drop": 1, "open": 2}


@pytest.mark.parametrize("path", [
    "../../etc/passwd", "..%2f..%2fetc/passwd", "page.js", "page/page.js", "cases/../facts",
    "cases/-1", "cases/3", "cases/99999999999999999999", "cases/0/", "nosuch", "%00",
    "static/x", "//x",
])  # fmt: skip
def test_nothing_else_is_there(kinds, path):
    with dr.review(kinds["images"], options=dr.ReviewOptions(threshold=0.4, top=3)) as held:
        status, _, said = ask(held, path)
        assert status in (400, 404)
        assert "root:" not in said
        assert '"use strict"' not in said


@pytest.mark.parametrize("body", [
    b"", b"x", b"{}", b"[]", b"null", b"\xff", b"[" * 60_000, {"place": -1, "decision": "drop"},
    {"place": 3, "decision": "drop"}, {"place": 0, "decision": "undo"}, {"place": 0},
    {"place": "0", "decision": "drop"}, {"place": 0, "decision": "relabel"},
    {"place": 0, "decision": "relabel", "label": "nosuch"},
    {"place": 0, "decision": "drop", "row": 3},
    {"place": 0, "decision": "keep", "comment": "x" * 10_001},
    {"place": 0, "decision": "keep", "label": "zero"}, {"place": 2**70, "decision": "keep"},
])  # fmt: skip
def test_what_is_no_decision_is_refused(kinds, body):
    with dr.review(kinds["images"], options=dr.ReviewOptions(threshold=0.4, top=3)) as held:
        status, _, said = ask(held, "decisions", body)
        if body == {"place": 0, "decision": "keep", "label": "zero"}:
            assert status == 200
            assert dr.decisions(held.store)["new_label"].isna().all()
            ask(held, "undo", {})
        else:
            assert status in (400, 404, 500)
            assert json.loads(said)["error"]
        assert held.summary() == {"open": 3}
        assert not held.is_over


def test_a_large_body_is_not_read(kinds):
    with dr.review(kinds["images"], options=dr.ReviewOptions(threshold=0.4, top=3)) as held:
        with socket.create_connection(("127.0.0.1", held.server.port)) as line:
            head = f"POST /{held.server.token}/decisions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            line.sendall(f"{head}Content-Length: {server.MOST_BODY + 1}\r\n\r\n".encode())
            line.settimeout(20)
            assert b" 200 " not in line.recv(200)
        assert ask(held, "facts")[0] == 200


def test_headers_let_nothing_in_or_out(kinds):
    with dr.review(kinds["images"], options=dr.ReviewOptions(threshold=0.4, top=3)) as held:
        status, headers, page = ask(held)
        policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
        nonce = policy["script-src"]
        assert status == 200
        assert policy["default-src"] == "'none'"
        assert policy["connect-src"] == "'self'"
        assert nonce.startswith("'nonce-")
        assert nonce[7:-1] in page
        assert "unsafe" not in str(policy)
        assert ask(held)[1]["Content-Security-Policy"] != headers["Content-Security-Policy"]
        assert headers["Cache-Control"] == "no-store"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "Server" not in headers
        assert "Access-Control-Allow-Origin" not in headers
        assert "http" not in page.replace("http-equiv", "").replace(
            "http://www.w3.org/2000/svg", ""
        )
        assert ask(held, method="OPTIONS", Origin="http://evil.example")[0] in (403, 405)


def test_it_ends_by_itself_when_nobody_asks(kinds):
    with dr.review(
        kinds["images"], options=dr.ReviewOptions(threshold=0.4, top=3, idle=0.3)
    ) as held:
        assert held.wait(20)
        assert held.server.reason == "idle"
        with pytest.raises(OSError, match=r"refused|reset"):
            ask(held)
    port = held.server.port
    with dr.review(
        kinds["images"],
        options=dr.ReviewOptions(threshold=0.4, top=3, port=port, idle=float("inf")),
    ) as held:
        assert held.server.port == port
        with pytest.raises(OutputError, match=str(port)):
            dr.review(kinds["images"], options=dr.ReviewOptions(threshold=0.4, top=3, port=port))
        assert ask(held, "end", {})[0] == 200
        assert held.wait(20)


# -- what is shown -----------------------------------------------------------------------------


def test_cases_are_those_of_the_issues(kinds):
    issues = dr.find_label_issues(kinds["table"], top=5).reset_index()
    with dr.review(kinds["table"], options=dr.ReviewOptions(threshold=0.4, top=5)) as held:
        for place, issue in issues.iterrows():
            case = json.loads(ask(held, f"cases/{place}")[2])
            asked = [issue["row"], issue["witness"], issue["nearest_same"]]
            assert [s["row"] for s in case["samples"]] == asked
            assert [s["id"] for s in case["samples"]][1] == issue["witness_id"]
            assert (case["label"], case["suggested"]) == (
                issue["given_label"],
                issue["suggested_label"],
            )
            X = held.store.features[asked]
            gap = (X[0] - X[1]) ** 2
            order = np.argsort(-gap, kind="stable")[:16]
            assert [c["name"] for c in case["columns"]] == [
                held.store.spec.feature_names[k] for k in order
            ]
            assert np.allclose([c["part"] for c in case["columns"]], gap[order] / gap.sum())
            assert case["more_columns"] == 4


def test_numbers_are_compared_with_the_nearest(kinds):
    store = kinds["numbers"]
    with dr.review(store, options=dr.ReviewOptions(threshold=0.4, top=2, reviewer="")) as held:
        case = json.loads(ask(held, "cases/0")[2])
        assert case["row"] == 30
        assert {s["row"] for s in case["samples"][1:]} == {29, 31}
        assert case["label"] == "100"
        assert 6 < float(case["suggested"]) < 8
        assert ask(held, "decisions", {"place": 0, "decision": "relabel", "label": "nan"})[0] == 500
        ask(held, "decisions", {"place": 0, "decision": "relabel", "label": "7.25"})
        assert dr.decisions(store)["new_label"].tolist() == ["7.25"]
        ask(held, "undo", {"place": 0})
        assert not len(dr.decisions(store))


def test_texts_of_arrays_and_files(kinds, tmp_path):
    texts = [f"{k}\n{NASTY}" for k in range(60)]
    frame = pd.DataFrame({"text": texts, "n": range(60)})
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    for source in (texts, np.array(texts), pd.Series(texts, index=range(5, 65))):
        assert texts_of(source, [3, 59], 60) == {k: (("text", texts[k]),) for k in (3, 59)}
    for name in ("t.csv", "t.parquet"):
        found = texts_of(tmp_path / name, [59, 0], 60)
        assert found == {k: (("text", texts[k]), ("n", str(k))) for k in (0, 59)}
    with dr.review(
        kinds["table"], options=dr.ReviewOptions(threshold=0.4, top=2, texts=texts)
    ) as held:
        case = json.loads(ask(held, "cases/1")[2])
        assert [s["texts"] for s in case["samples"]] == [
            [["text", texts[s["row"]]]] for s in case["samples"]
        ]
    for source in (texts, tmp_path / "t.csv"):
        with pytest.raises(InvalidDataError):
            texts_of(source, [0], 59)
    for source in (5, tmp_path / "t.xls"):
        with pytest.raises(InvalidOptionError):
            texts_of(source, [0], 60)


def test_an_embedding_shows_what_was_embedded(store, tmp_path):
    from dskrobust.embedding import embed

    made = embed(
        store, lambda batch: batch.reshape(len(batch), -1)[:, :5], str(tmp_path / "e.zarr")
    )
    with dr.review(made, options=dr.ReviewOptions(threshold=0.4, top=1)) as held:
        case = json.loads(ask(held, "cases/0")[2])
        assert case["samples"][0]["picture"]["height"] == 3
        assert "were embedded" in case["remark"]
        shutil.rmtree(store.url)
    with dr.review(made, options=dr.ReviewOptions(threshold=0.4, top=1)) as held:
        assert len(json.loads(ask(held, "cases/0")[2])["columns"]) == 5


def test_what_cannot_be_reviewed_is_refused(tmp_path):
    vectors = dr.create_store(str(tmp_path / "v.zarr"), np.eye(20), np.eye(20))
    with pytest.raises(DskrobustError, match="categories only"):
        dr.review(vectors)
    for bad in (
        {"top": 0},
        {"port": 70_000},
        {"idle": 0},
        {"idle": float("nan")},
        {"reviewer": "x" * 101},
    ):
        with pytest.raises(InvalidOptionError):
            dr.ReviewOptions(**bad)


# -- in a browser ------------------------------------------------------------------------------

READY = "document.getElementById('main').getAttribute('aria-busy') === 'false'"


def test_a_review_by_keyboard_ends_in_a_cleaned_store(browser, store, tmp_path):
    """Keep, relabel, another label, drop, unsure, undo, comment, done; nothing leaves the page."""
    with (
        driven(browser, tmp_path) as page,
        dr.review(store, options=dr.ReviewOptions(threshold=0.4, top=6, reviewer="me")) as held,
    ):
        if page is None:
            pytest.skip("no chromedriver is installed; the page is not driven")
        page.open(held.address)
        page.until(READY)
        rows = [case.row for case in held.server.session.cases]

        def made(count, key, *more):
            page.press(key, *more)
            page.until(f"{READY} && states.filter(s => s).length === {count}")

        made(1, "r")
        page.press("l", "z", "e", "r") if page.run("return shown.label") != "zero" else page.press(
            "l", "o", "n"
        )
        made(2, "Enter")
        page.press("c", "g", "o", "n", "e", "Enter")
        made(3, "d")
        made(4, "u")
        made(3, "z")
        made(4, "k")
        page.press("ArrowLeft")
        page.until(f"{READY} && place === 3")
        assert "kept by me" in page.text("#decided")
        page.click("#unsure")
        page.until(f"{READY} && states[3] === 'unsure'")
        for width in (1280, 400):
            page.look(width)
            assert page.run("return document.documentElement.scrollWidth <= innerWidth")
        assert page.run("return document.querySelectorAll('canvas[aria-label]').length") == 3
        loaded = page.run("return performance.getEntriesByType('resource').map(e => e.name)")
        assert all(name.startswith(held.address) for name in loaded)
        assert page.run("return document.title").endswith(NASTY)
        assert not page.log()
        page.click("#end")
        assert held.wait(20)
        assert held.server.reason == "done"
        page.until("document.getElementById('case').textContent === 'The review has ended'")
    table = dr.decisions(store).set_index("row")
    assert table.loc[rows[:4], "decision"].tolist() == ["relabel", "relabel", "drop", "unsure"]
    assert table.loc[rows[2], "comment"] == "gone"
    with dr.review(store, options=dr.ReviewOptions(threshold=0.4, top=6)) as held:  # it goes on
        states = json.loads(ask(held, "progress")[2])["states"]
        assert states == ["relabel", "relabel", "drop", "unsure", None, None]
    cleaned = dr.apply_decisions(store, tmp_path / "c.zarr").store
    stays = np.arange(60) != rows[2]
    labels = store.labels[:].copy()
    labels[rows[:2]] = [CLASSES.index(name) for name in table.loc[rows[:2], "new_label"]]
    X = store.features[:][stays]
    fresh = dr.sample_robustness(X, labels[stays], scale=1 / 255, labels="categorical").compute()
    scores = dr.sample_robustness(cleaned).write()
    for name in ("robustness", "lipschitz", "reach", "witness"):
        assert (np.asarray(getattr(scores, name)) == np.asarray(getattr(fresh, name))).all()


# -- the commands ------------------------------------------------------------------------------


def test_commands_from_review_to_a_cleaned_store(store, tmp_path):
    """A real process that is asked over HTTP and stopped by Ctrl-C; then what comes of it."""
    argv = [sys.executable, "-m", "dskrobust", "review", store.url, "--top", "4"]
    argv += ["--anonymous", "--max-score", "0.4"]
    # a shell's background jobs ignore SIGINT, and what they start inherits that
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process, ExitStack() as stack:
        signal.signal(signal.SIGINT, before)
        stack.callback(process.kill)
        said = ""
        while not (address := next((w for w in said.split() if w.startswith("http://")), "")):
            said = process.stdout.readline()
            assert said or process.poll() is None
        for place, decision in enumerate(("relabel", "drop")):
            with urllib.request.urlopen(f"{address}cases/{place}") as answer:
                case = json.load(answer)
            body = {"place": place, "decision": decision}
            body |= {"label": case["suggested"]} if decision == "relabel" else {}
            request = urllib.request.Request(
                f"{address}decisions",
                json.dumps(body).encode(),
                {"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request) as answer:
                assert answer.status == 200
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=60)[0]
        assert process.returncode == 0
        assert "1 relabel, 1 drop; 2 open" in " ".join(rest.split())
        assert "dskrobust apply" in rest

    def call(*arguments, code=0):
        done = CliRunner().invoke(main, [str(a) for a in arguments])
        assert done.exit_code == code, done.output
        return done.output

    call("export", store.url, "--decisions", "--out", tmp_path / "d.csv")
    table = pd.read_csv(tmp_path / "d.csv")
    assert sorted(table["decision"]) == ["drop", "relabel"]
    assert table["who"].isna().all()
    call("export", store.url, "--decisions", "--history", "--out", tmp_path / "d.parquet")
    assert len(pd.read_parquet(tmp_path / "d.parquet")) >= 2
    call("export", store.url, "--history", "--out", tmp_path / "d.csv", code=2)
    call("export", store.url, "--decisions", "--by-group", "--out", tmp_path / "d.csv", code=2)
    said = call("apply", store.url, tmp_path / "c.zarr")
    assert "1 of 60 rows" in said
    assert "59 are left" in said
    assert "is already a store" in call("apply", store.url, tmp_path / "c.zarr", code=1)
    assert dr.open_store(tmp_path / "c.zarr").rows == 59
