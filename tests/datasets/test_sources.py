import pytest

from clippy_jax.datasets.sources import open_source
from clippy_jax.errors import InputError
from clippy_jax.input_pipeline.images import decode


def test_kinds_are_joined_in_order(input_config, shards, tmp_path, photo, encoded):
    (tmp_path / "a.jpg").write_bytes(encoded(photo(99)))
    (tmp_path / "pairs.csv").write_text("image,caption\na.jpg,from a table\n,no image\n")
    first, last = shards.replace("00002", "00000"), shards.replace("00000..", "00001..")
    source = open_source(input_config(f"{first}::{tmp_path}/pairs.csv :: {last}"))
    assert len(source) == 24 and source.left_out == {"imageless": 1}
    expected = [f"photo {i}" for i in range(11)] + ["from a table"] + [f"photo {i}" for i in range(11, 23)]
    assert [source[i].caption for i in range(24)] == expected
    with pytest.raises(IndexError):
        source[24]


def test_without_images_the_captions_are_the_same(input_config, shards, tmp_path, photo, encoded):
    (tmp_path / "a.jpg").write_bytes(encoded(photo(99)))
    (tmp_path / "pairs.csv").write_text("image,caption\na.jpg,from a table\n")
    source = open_source(input_config(f"{shards}::{tmp_path}/pairs.csv"))
    captions = source.without_images()
    assert [sample.caption for sample in captions] == [sample.caption for sample in source]
    assert {sample.image for sample in captions} == {b""} and source[23].image == encoded(photo(99))
    assert [captions.name(i) for i in range(24)] == [source.name(i) for i in range(24)]


def test_the_digest_tells_other_images_and_no_other_captions(input_config, shards, tmp_path, write_tar, photo, encoded):
    def digest(train):
        return open_source(input_config(train)).images_digest()

    def tar(name, images, word):
        members = {f"{i}.jpg": encoded(photo(image)) for i, image in enumerate(images)}
        return write_tar(tmp_path / name, members | {f"{i}.txt": word.encode() * i for i in range(1, len(images))})

    same, recaptioned, other = (
        tar("0.tar", (1, 2, 3), "a"),
        tar("1.tar", (1, 2, 3), "word "),
        tar("2.tar", (1, 3, 2), "a"),
    )
    assert digest(same) == digest(recaptioned) != digest(other)
    assert digest(f"{same}::{other}") != digest(f"{other}::{same}")
    for word, name in (("red", "a"), ("blue", "a"), ("red", "b")):
        (tmp_path / f"{name}.jpg").write_bytes(encoded(photo(1)))
        (tmp_path / f"{word}_{name}.csv").write_text(f"image,caption\n{name}.jpg,{word}\n")
    table = f"{tmp_path}/red_a.csv"
    assert digest(table) == digest(f"{tmp_path}/blue_a.csv") != digest(f"{tmp_path}/red_b.csv")


def test_synthetic_samples_are_images_and_captions(input_config):
    source = open_source(input_config("synthetic", image_size=48))
    assert len(source) == 1_000_000
    assert decode(source[0].image).shape == (48, 48, 3)
    assert (decode(source[0].image) != decode(source[1].image)).any()
    assert source[7].caption == source[7].caption and len({source[i].caption for i in range(100)}) > 50


@pytest.mark.parametrize("train", ["", "synthetic::", " "])
def test_nothing_is_no_data_set(input_config, train):
    with pytest.raises(InputError, match="config.input.train is"):
        open_source(input_config(train))


def test_all_files_are_looked_up_before_an_index_is_built(input_config, write_shard, tmp_path):
    write_shard(tmp_path / "0.tar", 0, 2)
    with pytest.raises(InputError, match="1.tar"):
        open_source(input_config(f"{tmp_path}/0.tar::{tmp_path}/1.tar", index_folder=""))
    assert [file.name for file in tmp_path.iterdir()] == ["0.tar"]
