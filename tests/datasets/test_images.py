"""Folders of images: every picture as viewers show it, and nothing lost in silence."""

import warnings
import zlib

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

import dskrobust as dr
from dskrobust import cli
from dskrobust.datasets import ReaderOptions, append, open_reader
from dskrobust.datasets.image_folder import folder_content, image_suffixes
from dskrobust.errors import InvalidDataError, InvalidOptionError, SourceFileError

RNG = np.random.default_rng(5)
FORMATS = {".png": "PNG", ".TIF": "TIFF", ".webp": "WEBP", ".bmp": "BMP", ".Gif": "GIF",
            ".ppm": "PPM", ".tga": "TGA", ".qoi": "QOI", ".jfif": "JPEG", ".jp2": "JPEG2000",
            ".avif": "AVIF"}  # fmt: skip


def ids_of(reader):
    return [name for block in reader.blocks() for name in block.ids]


def picture(height=4, width=6):
    return Image.fromarray(RNG.integers(0, 255, (height, width, 3), dtype=np.uint8))


def folder_of(path, names, make=picture):
    """Save a picture under every name below a folder."""
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        make().save(path / name, FORMATS.get((path / name).suffix))
    return path


def rows_of(path, **options):
    return np.concatenate(
        [
            block.features
            for block in open_reader(str(path), options=ReaderOptions(**options)).blocks()
        ]
    )


def as_row(image):
    return np.moveaxis(np.asarray(image.convert("RGB")), -1, 0).ravel()


# -- pixels ------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [".png", ".jpg", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_as_exif_says(tmp_path, end, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name in ("a", "b"):
        (tmp_path / "p" / name).mkdir(parents=True)
        picture(16, 24).save(tmp_path / "p" / name / f"1{end}", exif=exif)
    reader = open_reader(str(tmp_path / "p"))
    shape = (24, 16) if orientation > 4 else (16, 24)
    assert reader.spec.image_shape == (3, *shape)
    with Image.open(tmp_path / "p" / "a" / f"1{end}") as image:
        expected = as_row(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(rows_of(tmp_path / "p")[0], expected)


def test_every_mode_is_read_to_one_rule(tmp_path):
    grey = Image.new("L", (6, 4), 90)
    colour = grey.convert("RGB")
    folder_of(tmp_path / "p", ["a/0.png", "b/0.png"])
    colour.quantize(4).save(tmp_path / "p" / "a" / "P.png")
    colour.convert("CMYK").save(tmp_path / "p" / "a" / "CMYK.tif")
    colour.save(tmp_path / "p" / "a" / "YCbCr.jpg")
    for mode in ("L", "LA", "RGBA", "RGB"):
        grey.convert(mode).save(tmp_path / "p" / "a" / f"{mode}.png")
    Image.new("1", (6, 4), 1).save(tmp_path / "p" / "a" / "one.png")
    names = [file.path.stem for file in folder_content(tmp_path / "p").images]
    found = dict(zip(names, rows_of(tmp_path / "p"), strict=True))
    for mode in ("L", "LA", "P", "RGBA", "CMYK", "YCbCr", "RGB"):
        assert np.abs(found[mode].astype(int) - 90).max() <= 1, mode
    assert (found["one"] == 255).all()


def test_deep_colours_are_refused(tmp_path):
    folder_of(tmp_path / "p", ["a/0.png", "b/0.png"])
    path = tmp_path / "p" / "a" / "0.png"
    data = bytearray(path.read_bytes())
    data[24] = 16  # bits of a channel in the header; its checksum follows
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    path.write_bytes(data)
    with pytest.raises(InvalidDataError, match=r"a/0\.png has pixels .*deeper than a byte"):
        open_reader(str(tmp_path / "p"))


def test_pictures_of_different_sizes_need_a_size(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder_of(tmp_path / "p", ["a/0.png", "b/0.png"])
    picture(5, 7).save("p/b/1.png")
    with pytest.raises(InvalidDataError, match=r"b/1\.png has 5 × 7 pixels, .*a/0\.png has 4 × 6;"):
        open_reader("p")
    told = CliRunner().invoke(cli.main, ["ingest", "p"])
    assert "--resize 6x4" in told.output
    made = CliRunner().invoke(cli.main, ["ingest", "p", "--resize", "6x4"])
    assert made.exit_code == 0, made.output
    assert "brought to 6 × 4 pixels" in made.output
    store = dr.open_store("p.zarr")
    assert store.spec.image_shape == (3, 4, 6)
    with Image.open("p/a/0.png") as image:
        np.testing.assert_array_equal(store.features[0], as_row(image))
    with Image.open("p/b/1.png") as image:
        np.testing.assert_array_equal(store.features[2], as_row(image.resize((6, 4))))
    assert append(store, "p").rows == 6  # as it was read before


@pytest.mark.parametrize("size", ["6", "6x", "0x4", "axb", "6x4x3", (6,), (0, 1)])
def test_sizes_that_are_none(tmp_path, size):
    folder_of(tmp_path / "p", ["a/0.png", "b/0.png"])
    with pytest.raises(InvalidOptionError, match="is no size; give width and height"):
        open_reader(str(tmp_path / "p"), options=ReaderOptions(resize=size))


def test_options_of_images_mean_nothing_to_other_sources(tmp_path):
    for options in ({"resize": "2x2"}, {"gray": True}):
        with pytest.raises(InvalidOptionError, match="means nothing to iris"):
            open_reader("iris", options=ReaderOptions(**options))


def test_equal_channels_are_told_and_gray_keeps_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def grey():
        return picture().convert("L").convert("RGB")

    folder_of(tmp_path / "p", ["a/0.png", "b/0.png", "b/1.png"], grey)
    told = CliRunner().invoke(cli.main, ["ingest", "p"])
    assert "channels of 3 sampled images are equal: --gray" in told.output
    made = CliRunner().invoke(cli.main, ["ingest", "p", "--gray", "--overwrite"])
    assert "3 images in colour read as grey" in made.output
    assert "equal" not in made.output
    store = dr.open_store("p.zarr")
    assert store.spec.image_shape == (4, 6)
    assert append(store, "p").rows == 6
    coloured = dr.ingest("p", "c.zarr", gray=False)
    np.testing.assert_array_equal(coloured.features[:][:, :24], store.features[:3])


def test_grey_files_are_appended_to_a_store_in_colour(tmp_path):
    folder_of(tmp_path / "p", ["a/0.png", "b/0.png"])
    folder_of(tmp_path / "q", ["a/0.png", "b/0.png"], lambda: picture().convert("L"))
    store = dr.ingest(str(tmp_path / "p"), tmp_path / "p.zarr")
    said = []
    assert append(store, str(tmp_path / "q"), remark=said.append).rows == 4
    assert said == []


# -- files -------------------------------------------------------------------------------------


def test_what_is_left_out_is_counted_and_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = folder_of(tmp_path / "p", ["train/a/0.PNG", "train/b/0.png", "test/a/0.jfif",
                                      "test/b/0.Gif"])  # fmt: skip
    for name in ("train/b/Thumbs.db", "test/notes.txt", ".DS_Store", "train/a/.hidden.png"):
        (path / name).write_bytes(b"?")
    (path / ".git").mkdir()
    reader = open_reader("p", options=ReaderOptions())
    assert ids_of(reader) == ["train/a/0.PNG", "train/b/0.png", "test/a/0.jfif", "test/b/0.Gif"]
    result = CliRunner().invoke(cli.main, ["ingest", "p"])
    assert "2 files left out, no images by their suffixes; the first is test/notes.txt" in (
        result.output
    )
    assert "3 hidden files (or folders) left out" in result.output
    store = dr.open_store("p.zarr")
    assert (store.spec.provenance["left_out"], store.spec.provenance["hidden"]) == (2, 3)
    again = CliRunner().invoke(cli.main, ["append", "p.zarr", "p"])
    assert "the first is test/notes.txt" in again.output, again.output


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a/0.png", "b/0.png", "0.png"], r"p/0\.png lies beside the folder a;"),
        (["a/0.png", "a/more/0.png", "b/0.png"], r"a/0\.png lies beside the folder more;"),
        (["g/a/0.png", "g/b/0.png", "g/0.png"], r"g/0\.png lies beside the folder a;"),
        (["g/a/0.png", "g/b/0.png", "g/b/more/0.png"], r"b/0\.png lies beside|b/more is a folder"),
        (["g/a/0.png", "g/b/more/0.png"], "g/b/more is a folder inside a class of a group"),
        (["a/0.png", "g/b/0.png"], "p: a has no sub-folders, but g has"),
    ],
)
def test_images_that_would_be_lost_are_named(tmp_path, names, message):
    with pytest.raises(SourceFileError, match=message):
        open_reader(str(folder_of(tmp_path / "p", names)))


def test_images_that_pillow_cannot_open_are_named(tmp_path):
    path = folder_of(tmp_path / "p", ["a/0.png", "b/0.png"])
    (path / "b" / "1.svg").write_text("<svg/>")
    with pytest.raises(SourceFileError, match=r"b/1\.svg is an image of a kind that Pillow cannot"):
        open_reader(str(path))
    (path / "b" / "1.svg").unlink()
    if ".heic" not in image_suffixes():
        (path / "b" / "1.HEIC").write_bytes(b"?")
        with pytest.raises(SourceFileError, match=r"b/1\.HEIC .*pip install pillow-heif"):
            open_reader(str(path))


def test_links_are_followed_inside_and_broken_ones_named(tmp_path):
    folder_of(tmp_path / "p", ["a/0.png", "elsewhere/0.png"])
    far = tmp_path / "p" / ".far"
    (tmp_path / "p" / "elsewhere").rename(far)
    (tmp_path / "p" / "b").symlink_to(far)
    (tmp_path / "p" / "a" / "1.png").symlink_to(far / "0.png")
    (tmp_path / "link").symlink_to("p")  # the folder itself may be one
    for name in ("p", "link"):
        assert ids_of(open_reader(str(tmp_path / name))) == ["a/0.png", "a/1.png", "b/0.png"]
    assert len(rows_of(tmp_path / "p")) == 3
    (far / "0.png").rename(far / "2.png")
    with pytest.raises(SourceFileError, match=r"a/1\.png is a link to nothing"):
        open_reader(str(tmp_path / "p"))


@pytest.mark.parametrize("name", ["a/1.png", "b"])
def test_links_out_of_the_folder_are_refused(tmp_path, name):
    folder_of(tmp_path / "p", ["a/0.png", "c/0.png"])
    folder_of(tmp_path, ["far/0.png"])
    target = tmp_path / "far" / ("0.png" if "." in name else "")
    (tmp_path / "p" / name).symlink_to(target)
    with pytest.raises(SourceFileError, match=rf"{name} is a link that leads out .*cp -rlL"):
        open_reader(str(tmp_path / "p"))


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """Return a folder with a picture of every format, in two classes."""
    names = [f"{c}/1{end}" for c in "ab" for end in FORMATS]
    return folder_of(tmp_path_factory.mktemp("damage") / "p", names, lambda: picture(32, 32))


@settings(max_examples=60, deadline=None)
@given(end=st.sampled_from(sorted(FORMATS)), data=st.data())
def test_whatever_a_decoder_raises_names_the_file(damaged, end, data):
    path = damaged / "b" / f"1{end}"
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    changes = data.draw(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 255)), max_size=4))
    bad = bytearray(whole[:cut])
    for at, value in changes:
        if at < len(bad):
            bad[at] = value
    path.write_bytes(bad)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            rows_of(damaged)
        assert all(f"b/1{end}" in str(each.message) for each in caught)
    except dr.errors.DskrobustError as error:
        assert f"b/1{end}" in str(error)
        assert "\n" not in str(error)
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize(("data", "message"), [(b"", "it is empty"), (b"text", "it is damaged")])
def test_files_that_are_no_images(tmp_path, data, message):
    path = folder_of(tmp_path / "p", ["a/0.png", "b/0.png"])
    (path / "b" / "0.png").write_bytes(data)
    with pytest.raises(SourceFileError, match=rf"b/0\.png cannot be read as an image: {message}"):
        open_reader(str(path))


def test_pictures_with_many_pixels_are_named(tmp_path, monkeypatch):
    path = folder_of(tmp_path / "p", ["a/0.png", "b/0.png"])
    for most in (20, 5):  # a warning and an error of Pillow
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
        with pytest.raises(SourceFileError, match=r"a/0\.png cannot be read .*make it smaller"):
            open_reader(str(path))


def test_several_frames_are_told(tmp_path):
    path = folder_of(tmp_path / "p", ["a/0.png", "b/0.png"])
    frames = [picture() for _ in range(3)]
    frames[0].save(path / "b" / "1.gif", save_all=True, append_images=frames[1:])
    (remark,) = open_reader(str(path)).remarks
    assert remark == ("1 image with several frames: the first one is read; the first file is "
                      "b/1.gif")  # fmt: skip
