"""Pictures and their labels, and the requests that are made of them."""

from __future__ import annotations

import email.parser
import email.policy
import io
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest
from PIL import Image

from loadtest.address import Address
from loadtest.asks import AUTO, Ask, Mix
from loadtest.errors import LoadTestError
from loadtest.pictures import noise, pixels, read_folder
from loadtest.prepared import Prepared, prepare
from tests.loadtest.stub import CLASSES, MODEL, PICTURES, png

WHERE = Address("127.0.0.1", 80, False, "/base")


def folder(path: Path, labels: str | None = "file,label\na.png,ring\nb.png,dot\n", count: int = 2) -> Path:
    for number in range(count):
        (path / f"{chr(ord('a') + number)}.png").write_bytes(png(number))
    if labels is not None:
        (path / "labels.csv").write_text(labels, encoding="utf-8")
    return path


def test_a_folder_says_which_class_its_pictures_show(tmp_path: Path) -> None:
    found = read_folder(folder(tmp_path), CLASSES)
    assert [(each.name, each.label, each.content) for each in found] == [("a.png", 0, png(0)), ("b.png", 2, png(1))]


def test_what_lmht_data_writes_can_be_read(tmp_path: Path) -> None:
    from models import labels

    folder(tmp_path, labels.text([("a.png", "ring"), ("b.png", "bar")]))
    assert [each.label for each in read_folder(tmp_path, CLASSES)] == [0, 1]


def test_a_folder_without_labels_is_pictures_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture", encoding="utf-8")
    found = read_folder(folder(tmp_path, None), CLASSES)
    assert [(each.name, each.label) for each in found] == [("a.png", None), ("b.png", None)]


def test_fewer_pictures_come_from_all_over_a_folder(tmp_path: Path) -> None:
    found = read_folder(folder(tmp_path, None, count=10), CLASSES, limit=4)
    assert [each.name for each in found] == ["a.png", "d.png", "g.png", "j.png"]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ("file,label\n", "has no pictures"),
        ("name,label\na.png,ring\n", "no columns"),
        ("file,label\na.png,square\n", "'square' is none"),
        ("file,label\nz.png,ring\n", "no file"),
        ("file,label\na.png,ring\na.png,dot\n", "named before"),
        ("file,label\na.png,ring\n./a.png,ring\n", "named before"),
        ("file,label\n../a.png,ring\n", "leads out"),
        ("file,label\na.png\n", "too few"),
        ('file,label\n"a.png,ring\n', "cannot be read"),
    ],
)
def test_labels_that_cannot_be_used_are_refused_in_words(tmp_path: Path, labels: str, words: str) -> None:
    with pytest.raises(LoadTestError, match=words):
        read_folder(folder(tmp_path, labels), CLASSES)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "secret.png").write_bytes(png(1))
    (inside / "a.png").symlink_to(tmp_path / "secret.png")
    (inside / "labels.csv").write_text("file,label\na.png,ring\n", encoding="utf-8")
    with pytest.raises(LoadTestError, match="leads out"):
        read_folder(inside, CLASSES)


def test_there_must_be_a_folder_with_pictures(tmp_path: Path) -> None:
    with pytest.raises(LoadTestError, match="no folder"):
        read_folder(tmp_path / "missing", CLASSES)
    with pytest.raises(LoadTestError, match="no pictures"):
        read_folder(tmp_path, CLASSES)


def test_noise_has_the_shape_of_the_input_and_is_drawn_by_the_seed() -> None:
    grey, colour = noise(MODEL, 1, 3), noise(replace(MODEL, channels=3, width=5), 1, 3)
    assert Image.open(io.BytesIO(grey[0].content)).size == (8, 8)
    assert pixels(colour[0], replace(MODEL, channels=3, width=5)).shape == (3, 8, 5)
    assert noise(MODEL, 1, 3) == grey
    assert noise(MODEL, 2, 3) != grey


# --- Requests --------------------------------------------------------------------------------------------------------


def prepared(*asks: Ask, weights: tuple[float, ...] | None = None, key: str | None = None) -> Prepared:
    mix = Mix(asks, weights or (1.0,) * len(asks))
    return prepare(mix, {"stub": MODEL}, {"stub": PICTURES}, WHERE, key, seed=1)


def head_and_body(request: bytes) -> tuple[str, dict[str, str], bytes]:
    head, _, body = request.partition(b"\r\n\r\n")
    line, *headers = head.decode("latin-1").split("\r\n")
    return line, dict(header.split(": ", 1) for header in headers), body


def test_one_picture_is_sent_as_it_is_with_options_in_the_query() -> None:
    made = prepared(Ask("stub", AUTO, deadline_ms=50.0, min_confidence=0.9), key="secret")
    _, group, request = made.request(0)
    line, headers, body = head_and_body(request)
    assert line == "POST /base/v1/models/stub/classify?timesteps=auto&deadline_ms=50.0&min_confidence=0.9 HTTP/1.1"
    assert headers["content-type"] == "image/png"
    assert headers["authorization"] == "Bearer secret"
    assert int(headers["content-length"]) == len(body)
    assert body == PICTURES[group].content


def test_several_pictures_are_a_form_that_others_can_read() -> None:
    made = prepared(Ask("stub", 4, images=3))
    way, group, request = made.request(1)
    _, headers, body = head_and_body(request)
    assert int(headers["content-length"]) == len(body)
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(
        f"content-type: {headers['content-type']}\r\n\r\n".encode() + body
    )
    contents = [part.get_content() for part in message.iter_parts()]
    names = [part.get_param("name", header="content-disposition") for part in message.iter_parts()]
    assert names == ["image"] * 3
    by_content = {picture.content: -1 if picture.label is None else picture.label for picture in PICTURES}
    assert tuple(by_content[content] for content in contents) == made.labels[way][group]


def test_v2_sends_pixels_behind_json() -> None:
    made = prepared(Ask("stub", 2, images=2, api="v2"))
    _, group, request = made.request(0)
    line, headers, body = head_and_body(request)
    assert line == "POST /base/v2/models/stub/infer HTTP/1.1"
    assert int(headers["content-length"]) == len(body)
    length = int(headers["inference-header-content-length"])
    document = orjson.loads(body[:length])
    assert document["parameters"] == {"timesteps": 2}
    (tensor,) = document["inputs"]
    assert (tensor["datatype"], tensor["shape"]) == ("UINT8", [2, 1, 8, 8])
    array = np.frombuffer(body[length:], np.uint8).reshape(2, 8, 8)
    first = [[0, 1], [2, 3], [4, 0]][group][0]
    assert np.array_equal(array[0], np.asarray(Image.open(io.BytesIO(PICTURES[first].content))))


def test_a_picture_of_another_size_is_no_tensor() -> None:
    large = replace(PICTURES[0], content=png(1, 9, 8))
    with pytest.raises(LoadTestError, match="9×8 pixels"):
        prepare(Mix.of(Ask("stub", 1, api="v2")), {"stub": MODEL}, {"stub": [large]}, WHERE, None, 1)
    with pytest.raises(LoadTestError, match="no picture"):
        pixels(replace(large, content=b"x"), MODEL)


def test_every_picture_is_sent_as_often_as_any_other_with_its_label() -> None:
    made = prepared(Ask("stub", 4))
    sent = [made.request(number) for number in range(50)]
    bodies = Counter(head_and_body(request)[2] for _, _, request in sent)
    assert set(bodies.values()) == {10}
    for way, group, request in sent:
        label = PICTURES[group].label
        assert made.labels[way][group] == (-1 if label is None else label,)
        assert head_and_body(request)[2] == PICTURES[group].content


def test_ways_are_asked_by_their_weights_and_the_same_again_by_the_same_seed() -> None:
    made = prepared(Ask("stub", 1), Ask("stub", 4), weights=(3, 1))
    often = Counter(made.request(number)[0] for number in range(20_000))
    assert often[0] / 20_000 == pytest.approx(0.75, abs=0.01)
    assert made == prepared(Ask("stub", 1), Ask("stub", 4), weights=(3, 1))
    assert made.request(5, way=1)[2].startswith(b"POST /base/v1/models/stub/classify?timesteps=4 ")


def test_a_model_of_a_strange_name_has_an_address_of_its_own() -> None:
    strange = replace(MODEL, name="..")
    made = prepare(Mix.of(Ask("..", 1)), {"..": strange}, {"..": PICTURES}, WHERE, None, 1)
    assert made.request(0)[2].startswith(b"POST /base/v1/models/%2E%2E/classify?")
