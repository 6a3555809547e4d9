"""Is an image counted as large as the model reads it?  Pillow writes the files; that SGLang counts alike, test_mistral_counts.py shows."""

import base64
import io

import pytest
from mistral_common.tokens.tokenizers.image import ImageConfig, ImageEncoder, SpecialImageIDs
from PIL import Image

from infra.engine.image_tokens import image_tokens, tokens_of_images
from models.errors import InvalidRequest

KINDS = {
    "png": ("png", {}),
    "gif": ("gif", {}),
    "jpeg": ("jpeg", {}),
    "progressive jpeg": ("jpeg", {"progressive": True}),
    "jpeg with a profile": ("jpeg", {"icc_profile": b"p" * 100_000, "comment": b"c" * 300}),
    "lossy webp": ("webp", {}),
    "lossless webp": ("webp", {"lossless": True}),
    "extended webp": ("webp", {"icc_profile": b"p" * 200}),
}


def written(kind, size, **how):
    file = io.BytesIO()
    Image.new("RGB", size, (200, 30, 30)).save(file, kind, **how)
    return file.getvalue()


def message(*images):
    urls = [f"data:image/png;base64,{base64.b64encode(image).decode()}" for image in images]
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return {"role": "user", "content": [{"type": "text", "text": "?"}, *parts]}


def counted(*images):
    return list(tokens_of_images([{"role": "system", "content": "See."}, message(*images)]))


@pytest.mark.parametrize(
    ("width", "height", "tokens"),
    [
        (1, 1, 2),
        (28, 28, 2),
        (29, 28, 3),
        (28, 29, 4),
        (1540, 1540, 55 * 56),
        (4000, 4000, 55 * 56),
        (3080, 1540, 28 * 56),
        (1999, 31, 1 * 56),
    ],
)
def test_squares_and_row_ends(width, height, tokens):
    assert image_tokens(width, height) == tokens


@pytest.mark.parametrize("size", [(1, 1), (640, 480), (480, 640), (1540, 1539), (100, 28), (3080, 1540)])
def test_mistral_common_counts_the_same_where_nothing_is_rounded(size):
    config = ImageConfig(image_patch_size=14, max_image_size=1540, spatial_merge_size=2)
    encoder = ImageEncoder(config, SpecialImageIDs(img=10, img_break=12, img_end=13))
    columns, rows = encoder._image_to_num_tokens(Image.new("RGB", size))
    assert image_tokens(*size) == rows * (columns + 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(1, 1), (300, 57), (57, 300), (1543, 999)])
def test_every_kind_of_file_says_how_large_it_is(kind, size):
    name, how = KINDS[kind]
    assert counted(written(name, size, **how)) == [image_tokens(*size)]


def test_each_image_counts():
    assert counted(written("png", (28, 28)), written("gif", (56, 28))) == [2, 3]


def test_a_claim_to_be_huge_costs_nothing():
    header = written("png", (1, 1))
    assert counted(header[:16] + b"\xff\xff\xff\xff" * 2 + header[24:]) == [55 * 56]


@pytest.mark.parametrize(
    ("kind", "enough"),
    [("png", 24), ("gif", 10), ("jpeg", 167), ("lossy webp", 30), ("lossless webp", 25), ("extended webp", 30)],
)
def test_a_file_that_breaks_off_is_named(kind, enough):
    name, how = KINDS[kind]
    whole = written(name, (300, 57), **how)
    assert counted(whole[:enough]) == [image_tokens(300, 57)]
    for length in range(enough):
        with pytest.raises(InvalidRequest) as caught:
            counted(written("png", (1, 1)), whole[:length])
        assert caught.value.param == "messages[1].content[2].image_url.url"


def test_a_side_of_nothing_is_named():
    whole = written("gif", (300, 57))
    with pytest.raises(InvalidRequest):
        counted(whole[:6] + bytes(4) + whole[10:])


@pytest.mark.parametrize(
    ("size", "fits"), [((3080, 2), True), ((3081, 2), False), ((1, 1540), True), ((1, 1541), False)]
)
def test_an_image_of_which_nothing_would_be_left_is_named(size, fits):
    image = written("png", size)
    if fits:
        assert counted(image) == [image_tokens(*size)]
        return
    with pytest.raises(InvalidRequest, match="times as long as wide"):
        counted(image)


def test_segments_without_end_are_not_followed():
    whole = written("jpeg", (300, 57))
    assert counted(whole[:2] + b"\xff" * 4000 + whole[2:]) == [image_tokens(300, 57)]
    with pytest.raises(InvalidRequest):
        counted(whole[:2] + b"\xff" * 5000 + whole[2:])
