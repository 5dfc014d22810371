"""Encodings of text files, and pictures under the names of other systems."""

import os

import pytest

from keras_gflv2.data.files import ImageFolder, parse_xml, read_json, read_text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_byte_order_marks(tmp_path, encoding):
    path = tmp_path / "a.json"
    path.write_bytes('{"name": "猫"}'.encode(encoding))
    assert read_json(path) == {"name": "猫"}
    assert read_text(path) == '{"name": "猫"}'


def test_json_that_cannot_be_read(tmp_path):
    path = tmp_path / "a.json"
    for content in (b"", b"{", b"[" * 100_000, '{"name": "大小"}'.encode("gbk")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.json is not"):
            read_json(path)


@pytest.mark.parametrize(
    "encoding, name",
    [
        ("gbk", "猫"),
        ("GB2312", "猫"),
        ("Big5", "貓"),
        ("Shift_JIS", "猫"),
        ("EUC-JP", "猫"),
        ("EUC-KR", "고양이"),
        ("ISO-8859-1", "chêne"),
        ("windows-1251", "кот"),
        ("UTF-16", "猫"),
        ("utf-8", "猫"),
    ],
)
def test_xml_is_decoded_as_it_declares(tmp_path, encoding, name):
    path = tmp_path / "a.xml"
    text = f'<?xml version="1.0" encoding="{encoding}"?><name>{name}</name>'
    path.write_bytes(text.encode(encoding))
    assert parse_xml(path).text == name


@pytest.mark.parametrize(
    "declared, written, name",
    [
        ("gb2312", "gbk", "镕"),  # A letter that GB2312 does not have.
        ("shift_jis", "cp932", "①"),
        ("euc-kr", "cp949", "똠"),
        ("utf-16", "utf-8", "猫"),  # What .NET writes.
        ("gbk", "utf-8-sig", "猫"),  # The byte order mark is right.
    ],
)
def test_xml_in_another_encoding_than_declared(tmp_path, declared, written, name):
    path = tmp_path / "a.xml"
    text = f'<?xml version="1.0" encoding="{declared}"?><name>{name}</name>'
    path.write_bytes(text.encode(written))
    assert parse_xml(path).text == name


def test_xml_that_cannot_be_read(tmp_path):
    path = tmp_path / "a.xml"
    for content, cause in (
        ('<?xml version="1.0" encoding="nonsense-8"?><a/>', "'nonsense-8', which is unknown"),
        ('<?xml version="1.0" encoding="base64"?><a/>', "'base64', which is unknown"),
        ('<!DOCTYPE a [<!ENTITY b "b"><!ENTITY c "&b;&b;">]><a>&c;</a>', "defines XML entities"),
        ("<a>", "is not a valid XML file"),
        ("<a>大小</a>".encode("gbk"), "is not encoded in utf-8"),
        ('<?xml version="1.0" encoding="ascii"?><a>猫</a>', "is not encoded in ascii"),
    ):
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(ValueError, match=rf"a\.xml.*{cause}"):
            parse_xml(path)


@pytest.fixture
def folder(tmp_path):
    """A folder `photos` with some files, and one file beside it."""
    for name in ("a.jpg", "sub/b.JPG", "with space.png", "caf\u00e9.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "outside.jpg").touch()
    return tmp_path / "photos"


@pytest.mark.parametrize(
    "name", ["a.jpg", "./a.jpg", "sub/b.JPG", "sub/../a.jpg", "../photos/a.jpg"]
)
def test_names_that_need_no_repair(folder, name):
    assert ImageFolder(folder).find([name], "a.json") == (folder / name, False)


@pytest.mark.parametrize(
    "name, expected",
    [
        ("C:\\data\\a.jpg", "a.jpg"),
        ("C:\\data\\sub\\b.JPG", "sub/b.JPG"),
        ("D:/data/a.jpg", "a.jpg"),
        ("\\\\server\\share\\a.jpg", "a.jpg"),
        ("/home/someone/photos/a.jpg", "a.jpg"),
        ("sub\\b.JPG", "sub/b.JPG"),
        ("photos\\a.jpg", "a.jpg"),
        ("..\\photos\\a.jpg", "a.jpg"),
        ("photos/sub/b.JPG", "sub/b.JPG"),
        ("A.JPG", "a.jpg"),
        ("SUB/B.jpg", "sub/b.JPG"),
        ("with%20space.png", "with space.png"),
        ("cafe\u0301.png", "caf\u00e9.png"),
    ],
)
def test_names_of_other_systems(folder, name, expected):
    assert ImageFolder(folder).find([name], "a.json") == (folder / expected, True)


@pytest.mark.parametrize("name", ["c.jpg", "other\\a.jpg", "a.jpg/a.jpg", "sub", "", "a\0.jpg"])
def test_names_without_a_file(folder, name):
    assert ImageFolder(folder).find([name], "a.json") == (None, False)


def test_names_that_lead_out_of_the_folder(folder):
    outside = folder.parent / "outside.jpg"
    for name in ("../outside.jpg", "..\\outside.jpg", "sub/../../outside.jpg", str(outside)):
        with pytest.raises(ValueError, match=r"a\.json: image 1: the name .*outside\.jpg'"):
            ImageFolder(folder).find([name], "a.json: image 1")
        path, _ = ImageFolder(folder, allow_outside=True).find([name], "a.json")
        assert os.path.samefile(path, outside)
    (folder / "link.jpg").symlink_to(outside)  # Whoever made the folder meant it.
    assert ImageFolder(folder).find(["link.jpg"], "a.json")[0] == folder / "link.jpg"


def test_two_files_that_fit(folder):
    for name in ("x.JPG", "x.jpG"):
        (folder / name).touch()
    with pytest.raises(ValueError, match=r"no file 'X\.jpg'.*x\.JPG.*x\.jpG"):
        ImageFolder(folder).find(["X.jpg"], "a.json")
    (folder / "A.JPG").touch()  # Beside a.jpg, another picture: the stem decides.
    assert ImageFolder(folder).find(["A.jpg"], "a.json")[0] == folder / "A.JPG"
    (folder / "y.jpg").touch()
    (folder / "y.JPG").symlink_to("y.jpg")
    path, _ = ImageFolder(folder).find(["Y.jpg"], "a.json")
    assert os.path.samefile(path, folder / "y.jpg")


def test_two_names_of_one_file(folder):
    images = ImageFolder(folder)
    images.find(["C:\\monday\\a.jpg"], "a.json")
    with pytest.raises(ValueError, match=r"monday.*tuesday.*a\.jpg"):
        images.find(["C:\\tuesday\\a.jpg"], "a.json")
