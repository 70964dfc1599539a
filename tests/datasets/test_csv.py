"""CSV files as people have them: separators, marks, encodings, quotes, comments, packing."""

import bz2
import csv
import gzip
import io
from itertools import product

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dskrobust as dr
from dskrobust import cli
from dskrobust.datasets import CsvOptions, ReaderOptions, append, cells, delimited, open_reader
from dskrobust.datasets.delimited import CsvTable
from dskrobust.datasets.places import Place
from dskrobust.errors import DskrobustError, InvalidDataError, InvalidOptionError, SourceFileError


def written(path, text, encoding="utf-8"):
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return str(path)


def read(path, **given):
    """Return (names, features, labels by name, remarks) of a CSV file, its columns as they are."""
    source = open_reader(path, options=ReaderOptions.of(None, {"prepare": "none", **given}))
    blocks = list(source.blocks())
    labels = np.concatenate([block.labels for block in blocks]).tolist()
    if source.spec.classes is not None:
        labels = [source.spec.classes[code] for code in labels]
    features = np.concatenate([block.features for block in blocks])
    assert source.rows == len(features)
    assert features.dtype == np.float64
    return source.spec.feature_names, features.tolist(), labels, source.remarks


@pytest.mark.parametrize(
    ("delimiter", "said"), [(",", ()), (";", "semicolon"), ("\t", "tab"), ("|", "pipe")]
)
def test_the_delimiter_is_told_and_said(tmp_path, delimiter, said):
    rows = [("a", "b", "label"), (1.5, -2, "x, y"), (2.5, 3, "z; w")]
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter).writerows(rows)
    names, features, labels, remarks = read(written(tmp_path / "a.csv", out.getvalue()))
    assert (names, features, labels) == (("a", "b"), [[1.5, -2], [2.5, 3]], ["x, y", "z; w"])
    assert [said in line for line in remarks] == [True] * bool(said)


def test_a_decimal_comma_and_points_between_thousands(tmp_path):
    text = 'p;q;label\n1.234,5;"2,25";1\n-7,5;1e3;2\n'
    _, features, _, remarks = read(written(tmp_path / "a.csv", text))
    assert features == [[1234.5, 2.25], [-7.5, 1000]]
    assert any("decimal mark is a comma" in line for line in remarks)
    assert any("'.' in 'p'" in line for line in remarks)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (("1,500", "12,345,678", "-2,000.5"), [1500, 12345678, -2000.5]),
        (("7", "999", "1,000"), [7, 999, 1000]),
        (("1,500", "", "2"), None),
    ],
)
def test_groups_of_digits_are_understood_where_all_agree(tmp_path, values, expected):
    text = "p,label\n" + "".join(f'"{value}",{k}\n' for k, value in enumerate(values))
    path = written(tmp_path / "a.csv", text)
    if expected is None:
        with pytest.raises(InvalidDataError, match=r"'p' has no value in 1 of 3 rows \(row 1\)"):
            read(path)
    else:
        _, features, _, remarks = read(path)
        assert [row[0] for row in features] == expected
        assert "the thousands separator is ',' in 'p'" in remarks


@pytest.mark.parametrize("values", [("1,500", "1500"), ("1500", "1,500"), ("1,500", "0.5", "1000")])
@pytest.mark.parametrize("apart", [False, True])
def test_groups_of_digits_that_disagree_are_refused(tmp_path, monkeypatch, values, apart):
    if apart:
        monkeypatch.setattr(delimited, "CSV_BYTES", 16)
    text = "p,label\n" + "".join(f'"{value}",{k}\n' for k, value in enumerate(values))
    path = written(tmp_path / "a.csv", text)
    with pytest.raises(InvalidDataError, match=r"'p' has .*thousands separator ',', as '1.*row \d"):
        read(path)
    _, features, _, _ = read(path, thousands=",")
    assert [row[0] for row in features] == [float(v.replace(",", "")) for v in values]


def test_a_number_with_the_other_decimal_mark_names_the_option(tmp_path):
    path = written(tmp_path / "a.csv", "p;label\n1.5;1\n2,5;2\n")
    with pytest.raises(InvalidDataError, match=r"'2,5' in row 1; where ',' is .*option decimal"):
        read(path)


ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_encoding_is_told(tmp_path, encoding):
    path = written(tmp_path / "a.csv", "größe,label\n1,blå\n2,grün\n", encoding)
    names, features, labels, remarks = read(path)
    assert (names, features, labels) == (("größe",), [[1], [2]], ["blå", "grün"])
    assert len(remarks) == (not encoding.startswith("utf-8"))
    assert all("encoding" in line for line in remarks)


def test_another_encoding_further_down_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(delimited, "HEAD_BYTES", 32)
    path = written(tmp_path / "a.csv", "a,label\n" + "1,x\n2,y\n" * 40 + "3,é\n", "latin-1")
    with pytest.raises(SourceFileError, match=r"no utf-8; .*encoding='cp1252'"):
        read(path)
    assert read(path, encoding="latin-1")[2][-1] == "é"


def test_line_breaks_in_quotes(tmp_path):
    text = '"length\r\n(cm)",label,q\r\n1,"two\nlines",3\r\n4,"a ""word""",5\r\n'
    names, features, labels, _ = read(written(tmp_path / "a.csv", text))
    assert names == ("length (cm)", "q")
    assert features == [[1, 3], [4, 5]]
    assert labels == ["two\nlines", 'a "word"']


def test_without_a_header(tmp_path):
    path = written(tmp_path / "a.csv", "1,2,x\n3,4,y\n")
    assert read(path, header=False, target="c2")[:3] == (("c0", "c1"), [[1, 2], [3, 4]], ["x", "y"])
    path = written(tmp_path / "b.csv", "1,2\n3,4\n")
    with pytest.raises(SourceFileError, match=r"columns' names; .*header=False"):
        read(path)
    path = written(tmp_path / "c.csv", "1,5;2,5;1\n3,5;4,0;2\n")
    assert read(path, header=False, target="c2")[1] == [[1.5, 2.5], [3.5, 4]]


@pytest.mark.parametrize(
    "values", [("True", "False"), ("yes", "no"), ("TRUE", "FALSE"), (" true", "no ")]
)
def test_booleans_are_numbers_as_features_and_names_as_labels(tmp_path, values):
    yes, no = values
    path = written(tmp_path / "a.csv", f"p,label\n{yes},{yes}\n{no},{no}\n")
    _, features, labels, remarks = read(path)
    assert features == [[1], [0]]
    assert labels == [yes, no]
    assert "true or yes is 1" in remarks[0]


def test_comments(tmp_path):
    body = 'a,label\n1,x\n# in between\n2,"y\n# not this"\n'
    path = written(tmp_path / "a.csv", "# made by hand\n# twice\n" + body)
    _, features, labels, remarks = read(path)
    assert (features, labels) == ([[1], [2]], ["x", "y\n# not this"])
    assert "start with # are comments" in remarks[0]
    path = written(tmp_path / "b.csv", "% made by hand\n" + body.replace("# in", "% in"))
    assert read(path, comment="%")[1] == [[1], [2]]
    path = written(tmp_path / "c.csv", "#a,label\n1,x\n2,y\n")
    assert read(path)[0] == ("#a",)


def zstd(data):
    return pa.compress(data, codec="zstd", asbytes=True)


@pytest.mark.parametrize("form", ["csv", "tsv"])
@pytest.mark.parametrize(
    ("end", "pack"), [("", bytes), (".gz", gzip.compress), (".bz2", bz2.compress), (".zst", zstd)]
)
def test_packed_files(tmp_path, form, end, pack):
    text = "a,label\n1,x\n2,y\n".replace(",", "\t" if form == "tsv" else ",")
    path = tmp_path / f"own.{form}{end}"
    path.write_bytes(pack(text.encode()))
    store = dr.ingest(str(path), tmp_path / "own.zarr")
    assert store.features[:].tolist() == [[1], [2]]
    assert store.spec.name == "own"
    assert append(store, str(path), header=True).rows == 4


def test_a_header_longer_than_a_block(tmp_path, monkeypatch):
    monkeypatch.setattr(delimited, "CSV_BYTES", 2**12)
    monkeypatch.setattr(delimited, "HEAD_BYTES", 2**8)
    count = 3_000
    header = ",".join(f"gene{k}" for k in range(count))
    rows = "".join(",".join([str(k)] * count) + f",{k}\n" for k in range(5))
    names, features, labels, _ = read(written(tmp_path / "a.csv", f"{header},label\n{rows}"))
    assert (len(names), labels) == (count, [0, 1, 2, 3, 4])
    assert features == [[k] * count for k in range(5)]


def test_a_row_longer_than_all_before(tmp_path, monkeypatch):
    monkeypatch.setattr(delimited, "CSV_BYTES", 2**6)
    monkeypatch.setattr(delimited, "HEAD_BYTES", 2**6)
    long = "x" * 5_000
    path = written(tmp_path / "a.csv", "a,label\n" + "1,y\n" * 100 + f"2,{long}\n3,y\n")
    assert read(path)[2][-2:] == [long, "y"]


@pytest.mark.parametrize("value", [2**53 + 1, -(2**60) - 1, 2**64 + 1])
def test_whole_numbers_that_float64_cannot_hold(tmp_path, value):
    for other in ("1", "1.5"):
        path = written(tmp_path / "a.csv", f"p,label\n{other},1\n{value},2\n")
        with pytest.raises(InvalidDataError, match=rf"'p' has the value .*{abs(value)}.*cannot"):
            read(path)
    path = written(tmp_path / "b.csv", "p,label\n1e300,1\n100000000000000000000,2\n")
    assert read(path)[1] == [[1e300], [1e20]]


def test_one_rule_for_na(tmp_path):
    """In a column of numbers NA is missing, in one of text it is a text, as in Parquet."""
    path = written(tmp_path / "a.csv", "p,label\n1,NA\n2,x\n")
    assert read(path)[2] == ["NA", "x"]
    path = written(tmp_path / "b.csv", "p,q,label\n1,2,x\nNA,2,y\n3,n/a,x\nnull,2,y\n")
    with pytest.raises(InvalidDataError, match=r"'p' has no value in 2 of 4 rows \(rows 1, 3\)"):
        read(path)


DAYS = [18_000.0, 18_262.0, 19_000.0]


@pytest.mark.parametrize(
    "cells",
    [
        ("2019-04-14", "2020-01-01", "2022-01-08"),
        ("14.4.2019", "01.01.2020", "8.1.2022"),
        ("2019-04-14 00:00:00", "2020-01-01T00:00", "2022-01-08"),
        ("2019-04-14T02:00+02:00", "2020-01-01T00:00Z", "2022-01-07T23:00-01:00"),
    ],
)
def test_dates_become_days(tmp_path, cells):
    text = "p,label\n" + "".join(f"{cell},{k}\n" for k, cell in enumerate(cells))
    source = open_reader(written(tmp_path / "a.csv", text), options=ReaderOptions(scale="none"))
    assert [block.features[:, 0].tolist() for block in source.blocks()] == [DAYS]
    assert "p: dates as days since 1970" in source.spec.decisions


def test_what_is_no_date_everywhere_is_text(tmp_path):
    path = written(tmp_path / "a.csv", "p,label\n2019-04-14,1\nsoon,2\n")
    with pytest.raises(InvalidDataError, match="'p' holds text, as '2019-04-14' in row 0"):
        read(path)
    path = written(tmp_path / "b.csv", "p,label\n1,2019-04-14\n2,2020-01-01\n")
    assert read(path)[2] == ["2019-04-14", "2020-01-01"]  # labels are names of classes


def test_a_column_without_a_name_names_the_rows_where_it_counts_them(tmp_path):
    path = written(tmp_path / "a.csv", ",Unnamed: 0,p,label\n3,0,.5,1\n5,1,.7,2\n")
    source = open_reader(path)
    assert source.spec.feature_names == ("p",)
    assert [block.ids.tolist() for block in source.blocks()] == [[3, 5]]
    assert [line.split(" (")[0] for line in source.spec.decisions] == [
        "Unnamed: 0.1: names the rows",
        "Unnamed: 0: left out, it counts the rows",
    ]
    path = written(tmp_path / "b.csv", ",p,label\n5,.5,1\n3,.7,2\n")
    with pytest.raises(InvalidDataError, match="column 1 has no name"):
        open_reader(path)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"delimiter": "::"}, "delimiter must be one ASCII character"),
        ({"decimal": ";"}, "decimal must be . or ,"),
        ({"thousands": "000"}, "thousands must be one character"),
        ({"decimal": ",", "thousands": ","}, "are both ','"),
        ({"encoding": "klingon"}, "no encoding 'klingon'"),
    ],
)
def test_options_without_a_meaning(given, message):
    with pytest.raises(InvalidOptionError, match=message):
        CsvOptions(**given)


def test_options_and_keywords(tmp_path):
    path = written(tmp_path / "a.csv", "a;kind\n1;2\n3;4\n")
    options = ReaderOptions(target="kind", csv=CsvOptions(delimiter="semicolon"))
    store = dr.ingest(path, tmp_path / "a.zarr", options=options)
    assert store.features[:].tolist() == [[1], [3]]
    store = append(store, path, options=options)
    assert append(store, path, target="kind", delimiter=";").rows == 6
    for call in (
        lambda: dr.ingest(path, tmp_path / "b.zarr", options=options, target="kind"),
        lambda: append(store, path, options=options, delimiter=";"),
    ):
        with pytest.raises(InvalidOptionError, match="and options are both given; put "):
            call()
    with pytest.raises(InvalidOptionError, match=r"delimiter=';' means nothing to an \.npz"):
        open_reader("a.npz", options=ReaderOptions(csv=CsvOptions(delimiter=";")))


def test_the_command_takes_the_options_and_says_what_it_saw(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "a.csv", "1,5\tx\n2,5\ty\n")
    words = ["a.csv", "--no-header", "--delimiter", "tab", "--decimal", ",", "--target", "c1"]
    result = CliRunner().invoke(cli.main, ["ingest", *words])
    assert result.exit_code == 0, result.output
    assert dr.open_store("a.zarr").features[:].tolist() == [[1.5], [2.5]]
    result = CliRunner().invoke(cli.main, ["append", "a.zarr", *words[:2], "--target", "c1"])
    assert result.exit_code == 0, result.output
    assert "read        columns are separated by tab (option delimiter)" in result.output
    result = CliRunner().invoke(cli.main, ["ingest", *words[:2], "--target", "c1", "--overwrite"])
    assert "read        the decimal mark is a comma (option decimal)" in result.output
    assert dr.open_store("a.zarr").spec.decisions[0].startswith("columns are separated")


@pytest.mark.parametrize("text", ["a,y", "a,y\n", '"a,y\n1,2\n3,4\n'])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_header_alone(tmp_path, text, encoding):
    path = written(tmp_path / "a.csv", text, encoding)
    with pytest.raises(SourceFileError, match=r"a\.csv has no rows"):
        read(path)


@pytest.mark.parametrize("last", ["", "\n", "\r\n"])
def test_quotes_within_a_cell_and_no_line_break_at_the_end(tmp_path, last):
    path = written(tmp_path / "a.csv", f'a,label\n1,5" pipe\n2,6" pipe{last}')
    assert read(path)[1:3] == ([[1], [2]], ['5" pipe', '6" pipe'])


def test_what_is_no_text(tmp_path):
    for content in (bytes(1000), bytes(range(256)) * 4):
        path = written(tmp_path / "a.csv", content)
        with pytest.raises(SourceFileError, match=r"a\.csv holds bytes that are no text"):
            read(path)


# -- every way to write a frame ----------------------------------------------------------------

TEXT = st.text(st.sampled_from("abé ß#'\"\n,;.|\t-1"), min_size=1, max_size=6).filter(
    lambda text: text.strip() == text and "\r" not in text
)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
WHOLE = st.integers(-(2**53), 2**53)


@st.composite
def frames(draw):
    rows = draw(st.integers(2, 12))
    kinds = draw(st.lists(st.sampled_from([FLOATS, WHOLE]), min_size=1, max_size=3))
    columns = [draw(st.lists(kind, min_size=rows, max_size=rows)) for kind in kinds]
    labels = draw(st.lists(TEXT, min_size=rows, max_size=rows))
    return columns, [f"{text}x" for text in labels]  # no label is a number


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    frame=frames(),
    delimiter=st.sampled_from(",;\t|"),
    decimal=st.sampled_from(".,"),
    encoding=st.sampled_from(ENCODINGS),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    line_end=st.sampled_from(["\n", "\r\n"]),
    told=st.booleans(),
)
def test_a_frame_reads_back_as_it_was_written(
    tmp_path, frame, delimiter, decimal, encoding, quoting, line_end, told
):
    columns, labels = frame
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, quoting=quoting, lineterminator=line_end)
    writer.writerow([*(f"spalte{k}" for k in range(len(columns))), "label"])
    for *numbers, label in zip(*columns, labels, strict=True):
        writer.writerow([*(repr(v).replace(".", decimal) for v in numbers), label])
    path = written(tmp_path / "a.csv", out.getvalue(), encoding)
    options = {"delimiter": delimiter, "decimal": decimal, "encoding": encoding, "thousands": ""}
    given = options if told else {}
    try:
        _, features, found, _ = read(path, target="label", **given)
    except DskrobustError:
        assert not told  # numbers like 1,500 or é in UTF-16 without a mark may be ambiguous
        return
    assert found == labels
    if told:
        assert features == [[float(v) for v in row] for row in zip(*columns, strict=True)]


@pytest.mark.parametrize(
    ("delimiter", "decimal", "encoding"), list(product(",;\t|", ".,", ENCODINGS))
)
def test_what_is_not_said_is_told_from_the_file(tmp_path, delimiter, decimal, encoding):
    rng = np.random.default_rng(5)
    values = rng.normal(size=(30, 3)).round(3)
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter)
    writer.writerow(["a", "b", "ç", "label"])
    for k, row in enumerate(values.tolist()):
        writer.writerow([*(repr(v).replace(".", decimal) for v in row), f"é{k % 3}"])
    names, features, labels, _ = read(written(tmp_path / "a.csv", out.getvalue(), encoding))
    assert names == ("a", "b", "ç")
    np.testing.assert_array_equal(features, values)
    assert labels == [f"é{k % 3}" for k in range(30)]


@pytest.mark.parametrize(("mark", "cells"), [(";", "1,5;2;x"), (",", "1.5,2,x")])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_line_of_excel_that_says_what_separates(tmp_path, mark, cells, encoding):
    head = mark.join(("a", "b", "label"))
    text = f"sep={mark}\n{head}\n{cells}\n{cells.replace('x', 'y')}\n"
    names, features, labels, _ = read(written(tmp_path / "own.csv", text, encoding))
    assert (names, labels) == (("a", "b"), ["x", "y"])
    np.testing.assert_array_equal(features, [[1.5, 2], [1.5, 2]])


@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_quote_that_is_never_closed_takes_in_no_rows(tmp_path, end, encoding):
    rows = 'a,b,label\n1,2,"x\n2,3,y\n3,4,z'
    with pytest.raises(SourceFileError, match="a quote is never closed"):
        read(written(tmp_path / "open.csv", rows + end, encoding))
    *_, labels, _ = read(written(tmp_path / "closed.csv", f'{rows}"{end}', encoding))
    assert labels == ["x\n2,3,y\n3,4,z"]


@pytest.mark.parametrize("gap", ["?", "-", ".", "#DIV/0!", "NA"])
def test_gaps_as_people_write_them(tmp_path, gap):
    text = f"a,b,label\n1,u,x\n{gap},{gap},y\n3,u,x\n5,{gap},y\n"
    store = dr.ingest(written(tmp_path / "own.csv", text), tmp_path / "own.zarr", scale="none")
    np.testing.assert_array_equal(store.features[:, 0], [1, 3, 3, 5])
    assert store.spec.feature_names == ("a", *sorted((f"b={gap}", "b=u")))  # a word like others


def test_whole_numbers_beside_gaps_are_not_rounded(tmp_path):
    rows = [2**53 + 1, "", 2**53, 1]
    text = "id,label\n" + "".join(f"{v},{k % 2}\n" for k, v in enumerate(rows))
    path = written(tmp_path / "own.csv", text)
    frame = pa.csv.read_csv(path)
    pa.parquet.write_table(frame, tmp_path / "own.parquet")
    asked = dr.PreparationOptions()
    for door in (
        lambda: dr.ingest(path, tmp_path / "a.zarr"),
        lambda: dr.ingest(str(tmp_path / "own.parquet"), tmp_path / "b.zarr"),
        lambda: dr.create_store(tmp_path / "c.zarr", frame, "label", preparation=asked),
    ):
        with pytest.raises(InvalidDataError, match=rf"column 'id' has the value {2**53 + 1}"):
            door()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b,label\n0,1,2,x\n1,2,3,y\n", "row 2 .* 4 cells, .* 3 names: row names"),
        ("a,b,label\n1,2,x\n1,y\n", "row 3 .* 2 cells, .* 3 names: a comma"),
        ("My table\na,b,label\n1,2,x\n", "row 2 .* 3 cells, .* 1 names: .* above"),
        ("a b label\n1 2 x\n", "say what separates them with the option delimiter"),
    ],
)
def test_tables_of_another_shape_than_their_header(tmp_path, text, said):
    with pytest.raises(DskrobustError, match=said):
        read(written(tmp_path / "own.csv", text), target="label")


def test_the_first_text_among_numbers_is_named_without_a_try_a_row(tmp_path, monkeypatch):
    tries = []
    numbers = cells.numbers
    monkeypatch.setattr(cells, "numbers", lambda *given: (tries.append(1), numbers(*given))[1])
    text = "a,label\n" + "1,x\n2,y\n" * 5_000 + "oops,x\n" + "3,y\n" * 50
    with pytest.raises(InvalidDataError, match=r"'oops' in row 10000\b"):
        read(written(tmp_path / "own.csv", text))
    assert len(tries) < 40


# -- numbers with a unit -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "expected", "unit"),
    [
        (["€21,506.41", "€ 3", "-€0.50"], [21506.41, 3, -0.5], "€"),
        (["99.0%", "1 %", ""], [99, 1, 50], "%"),
        (["12 kg", "7.5 kg", "+3 kg"], [12, 7.5, 3], "kg"),
        (["$-4", "$1e3", "$2"], None, "$"),
        (["$5", "€5", "$2"], None, "$"),
        (["5", "$5", "$2"], None, "$"),
        (["C1", "C2", "C3"], None, ""),
        (["1st", "2nd", "3rd"], None, ""),
        (["5a", "6a", "7a"], None, ""),
        (["$5%", "$6%", "$7%"], None, "$%"),
        (["10:30 AM", "11:00 AM", "9:15 AM"], None, ""),
    ],
)
@pytest.mark.parametrize("apart", [False, True])
def test_numbers_with_one_unit_are_numbers(tmp_path, monkeypatch, cells, expected, unit, apart):
    if apart:
        monkeypatch.setattr(delimited, "CSV_BYTES", 16)
    out = io.StringIO()
    csv.writer(out).writerows([("p", "label"), *zip(cells, "abc", strict=True)])
    path = written(tmp_path / "a.csv", out.getvalue())
    table = CsvTable.open(Place.of(path))
    if expected is None:
        assert table.types["p"] == "string"
        assert table.flaw("p").text
    else:
        assert table.unit("p") == unit
        _, features, _, remarks = read(path, impute="median")
        assert [row[0] for row in features] == expected
        assert f"numbers with {unit} in 'p'" in remarks


def test_a_decimal_comma_among_numbers_with_a_unit(tmp_path):
    text = "p;label\n1.234,50 €;a\n7,25 €;b\n"
    _, features, _, _ = read(written(tmp_path / "a.csv", text))
    assert features == [[1234.5], [7.25]]


def test_rows_in_another_unit_are_not_appended(tmp_path):
    first = written(tmp_path / "a.csv", "p,q,label\n$5,1,a\n$7,2,b\n$9,3,a\n")
    store = dr.ingest(first, tmp_path / "a.zarr")
    for p, said in (("€5", "€"), ("5", "no unit"), ("50%", "%")):
        more = written(tmp_path / "more.csv", f"p,q,label\n{p},1,a\n")
        with pytest.raises(InvalidDataError, match=rf"'p' holds numbers with {said}, but with \$"):
            dr.append(store, more)
    plain = dr.ingest(written(tmp_path / "b.csv", "p,q,label\n5,1,a\n7,2,b\n"), tmp_path / "b.zarr")
    more = written(tmp_path / "more.csv", "p,q,label\n€5,1,a\n")
    with pytest.raises(InvalidDataError, match=r"'p'.*€"):
        dr.append(plain, more)
    grown = dr.append(store, written(tmp_path / "more.csv", "p,q,label\n$11,1,a\n"))
    assert grown.features[-1, 0] == 11


def test_labels_with_a_unit_are_classes_or_refused(tmp_path):
    path = written(tmp_path / "a.csv", "p,label\n1,5%\n2,10%\n")
    assert read(path)[2] == ["5%", "10%"]
    with pytest.raises(InvalidDataError, match="'label' holds numbers with '%'"):
        read(path, labels="real")
