"""The places that the matrix tries besides a folder: an S3 server, and files without rename."""

import fsspec
import pytest
from faults import places, plain


@pytest.fixture(params=["s3", "plain"])
def place(request, tmp_path):
    """A place without a store."""
    if request.param == "plain":
        yield places.plain_folder(tmp_path)
    else:
        with places.s3_bucket() as bucket:
            yield bucket


def test_stores_are_copied_damaged_and_removed(place, tmp_path):
    source = tmp_path / "source"
    (source / "c").mkdir(parents=True)
    (source / "c" / "0").write_bytes(b"chunk")
    (source / "zarr.json").write_bytes(b"{}")
    assert place.put(source, "own.zarr") == place.url("own.zarr")
    assert place.files("own.zarr") == ["c/0", "zarr.json"]
    place.write("own.zarr", "c/0", b"other")
    assert place.read("own.zarr", "c/0") == b"other"
    place.delete("own.zarr", "c/0")
    assert place.files("own.zarr") == ["zarr.json"]
    place.remove("own.zarr")
    assert place.files("own.zarr") == []


def test_plain_files_keep_their_names(tmp_path):
    plain.register()
    files, url = fsspec.core.url_to_fs(places.plain_folder(tmp_path).url("a"))
    files.pipe_file(url, b"1")
    assert files.unstrip_protocol(url) == f"plain://{tmp_path}/a"
    for rename in (files.mv, files.rename, files.move):
        with pytest.raises(OSError, match="cannot rename"):
            rename(url, f"{url}2")
    assert (tmp_path / "a").read_bytes() == b"1"
