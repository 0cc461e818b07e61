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
